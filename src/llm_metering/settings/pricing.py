"""The checks of the settings that say what tokens cost.

The files are read where prices are asked for, not here: a process that only records has no use for them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Final, Literal

from .found import Found, expand_path, one_of, refusal

__all__ = ["DEFAULT_PRICE_SOURCE", "PRICE_SOURCES", "PRICING", "PriceSource"]

PriceSource = Literal["auto", "genai-prices", "off"]
PRICE_SOURCES: Final[tuple[PriceSource, ...]] = ("auto", "genai-prices", "off")
DEFAULT_PRICE_SOURCE: Final = "auto"


def _prices(found: Found) -> tuple[Path, ...]:
    value = found.value
    if isinstance(value, str):
        # An empty variable is a mistake of the deployment; an empty list was written so.
        value = [path for path in re.split(r"[\s,]+", value) if path] or [""]
    elif isinstance(value, os.PathLike):
        value = [value]
    wanted = "paths of TOML files are wanted, as one string or a list of strings"
    if not isinstance(value, Iterable) or isinstance(value, Mapping | bytes):
        raise refusal("prices", found, wanted)
    paths = []
    for each in value:
        path = os.fspath(each) if isinstance(each, os.PathLike) else each
        if not isinstance(path, str) or not path.strip() or "\0" in path:
            raise refusal("prices", found, wanted)
        # A relative path in a file is relative to that file, wherever the process runs.
        paths.append(((found.folder or Path()) / expand_path(path, "prices")).absolute())
    return tuple(dict.fromkeys(paths))


PRICING: Final[Mapping[str, Callable[[Found], object]]] = {
    "prices": _prices,
    "price_source": partial(one_of, PRICE_SOURCES, "price_source"),
}
"""By name, as `CHECKS` has them."""
