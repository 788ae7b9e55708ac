"""The checks of the settings that say who pays."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Final

from ..errors import SubjectError
from ..events import check_dimensions
from ..subjects import FROM_METADATA, ON_MISSING
from .found import Found, one_of, refusal
from .secrets import secrets

__all__ = ["PAYING"]


def _keys(name: str, found: Found) -> tuple[str, ...]:
    value = found.value
    if isinstance(value, str):
        keys: tuple[object, ...] = tuple(key for key in re.split(r"[\s,]+", value) if key)
        # An empty variable is a mistake of the deployment; an empty list was written so.
        is_meant = bool(keys)
    else:
        keys = (None,)
        if isinstance(value, Iterable) and not isinstance(value, Mapping | bytes):
            keys = tuple(value)
        is_meant = True
    if not is_meant or not all(isinstance(key, str) and key.strip() for key in keys):
        wanted = "keys of run metadata are wanted, as one string or a list of strings"
        raise refusal(name, found, wanted)
    return tuple(dict.fromkeys(str(key) for key in keys))


def _subject_keys(found: Found) -> tuple[str, ...]:
    keys = _keys("subject_keys", found)
    if not keys:
        wanted = "one key at least is wanted (subject_from_metadata='ignore' heeds none)"
        raise refusal("subject_keys", found, wanted)
    return keys


def _metadata_dimensions(found: Found) -> tuple[str, ...]:
    keys = _keys("metadata_dimensions", found)
    try:
        check_dimensions(dict.fromkeys(keys, ""))
    except SubjectError as error:
        raise refusal("metadata_dimensions", found, str(error)) from None
    return keys


PAYING: Final[Mapping[str, Callable[[Found], object]]] = {
    "on_missing_subject": partial(one_of, ON_MISSING, "on_missing_subject"),
    "subject_keys": _subject_keys,
    "subject_from_metadata": partial(one_of, FROM_METADATA, "subject_from_metadata"),
    "subject_token_secrets": partial(secrets, "subject_token_secrets"),
    "metadata_dimensions": _metadata_dimensions,
}
"""By name, as `CHECKS` has them."""
