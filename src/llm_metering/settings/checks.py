"""Each setting's own check: what may stand there, and how it is shown without its secrets."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final, Literal

from ..errors import SubjectError
from ..subjects import check_subject
from .delivering import DELIVERING
from .found import Found, expand_path, one_of, refusal
from .limiting import LIMITING
from .meters import read_meters
from .paying import PAYING
from .pricing import PRICING
from .secrets import secrets
from .sources import source_problem

__all__ = [
    "CHECKS",
    "DEFAULT_BACKLOG_BYTES",
    "DEFAULT_DURABILITY",
    "DEFAULT_RETENTION_BYTES",
    "DEFAULT_RETENTION_HOURS",
    "DEFAULT_SILENT_CALL_HOURS",
    "Durability",
    "Found",
]

Durability = Literal["process", "power", "memory"]
DEFAULT_DURABILITY: Final = "process"
DURABILITIES: Final[tuple[Durability, ...]] = ("process", "power", "memory")
"""What a recorded event may survive: the death of the process, a power cut, nothing."""

DEFAULT_BACKLOG_BYTES: Final = 1 << 30
MIN_BACKLOG_BYTES: Final = 1 << 20
"""Of what a sink may be owed on disk."""

DEFAULT_RETENTION_HOURS: Final = 72
DEFAULT_RETENTION_BYTES: Final = 256 << 20
DEFAULT_SILENT_CALL_HOURS: Final = 1

_SWITCH = {"on": True, "true": True, "1": True, "off": False, "false": False, "0": False}
_FOR_EVER: Final = 10_000_000


def _home(found: Found) -> Path:
    value = os.fspath(found.value) if isinstance(found.value, os.PathLike) else found.value
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise refusal("home", found, "the path of a folder is wanted")
    path = expand_path(value, "home")
    if found.folder is not None:
        path = found.folder / path
    try:
        # At once: the journal must not move when the application changes its working folder.
        return path.absolute()
    except FileNotFoundError as error:
        wanted = "the working folder is gone, so an absolute path is wanted"
        raise refusal("home", found, wanted) from error


def _plans(found: Found) -> Path:
    value = os.fspath(found.value) if isinstance(found.value, os.PathLike) else found.value
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise refusal("plans", found, "the path of a TOML file is wanted")
    return (found.folder or Path()) / expand_path(value, "plans")


def _source(found: Found) -> str:
    source = found.value
    problem = source_problem(source) if isinstance(source, str) else "it is no string"
    if problem is not None or not isinstance(source, str):
        # OpenMeter would refuse every event.
        wanted = (
            "the application's name is wanted as a URI reference (in ASCII, without spaces), "
            f"such as 'my-app' or 'https://example.org/my-app', but {problem}"
        )
        raise refusal("source", found, wanted)
    return source


def _subject(found: Found) -> str:
    try:
        return check_subject(found.value)
    except SubjectError as error:
        raise SubjectError(f"subject: {error} ({found.origin})") from None


def _switch(name: str, found: Found) -> bool:
    value = found.value
    if isinstance(value, str):
        value = _SWITCH.get(value.strip().lower())
    if not isinstance(value, bool):
        raise refusal(name, found, "on or off is wanted (or true, false, 1, 0)")
    return value


def _auto_or_switch(name: str, found: Found) -> bool | None:
    if isinstance(found.value, str) and found.value.strip().lower() == "auto":
        return None
    return _switch(name, found)


def _durability(found: Found) -> Durability:
    return one_of(DURABILITIES, "durability", found)


def _backlog_bytes(found: Found) -> int:
    value = found.value
    if isinstance(value, str):
        value = int(value) if value.strip().isdecimal() else None
    if type(value) is not int or value < MIN_BACKLOG_BYTES:
        wanted = f"a number of bytes from {MIN_BACKLOG_BYTES} is wanted"
        raise refusal("backlog_bytes", found, wanted)
    return value


def _hours(name: str, found: Found, *, above_zero: bool = False) -> int | float:
    value = found.value
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            value = None
    # bool is an int to Python, and `inf` and `nan` are numbers to it.
    least = "more than 0" if above_zero else "from 0"
    wanted = f"hours are wanted, {least} and below {_FOR_EVER}"
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _FOR_EVER:
        raise refusal(name, found, wanted)
    if above_zero and value == 0:
        raise refusal(name, found, wanted)
    return int(value) if value == int(value) else value


def _retention_bytes(found: Found) -> int:
    value = found.value
    if isinstance(value, str) and value.strip().isascii() and value.strip().isdecimal():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise refusal("retention_bytes", found, "a whole number of bytes is wanted, from 0")
    return value


CHECKS: Final[Mapping[str, Callable[[Found], object]]] = {
    "home": _home,
    "source": _source,
    "subject": _subject,
    "ledger": partial(_switch, "ledger"),
    "ledger_keys": partial(secrets, "ledger_keys"),
    "durability": _durability,
    "backlog_bytes": _backlog_bytes,
    "retention_hours": partial(_hours, "retention_hours"),
    "retention_bytes": _retention_bytes,
    "tokenizer_download": partial(_switch, "tokenizer_download"),
    "taps": partial(_switch, "taps"),
    "request_stream_usage": partial(_auto_or_switch, "request_stream_usage"),
    "silent_call_hours": partial(_hours, "silent_call_hours", above_zero=True),
    "plans": _plans,
    "meters": read_meters,
    **DELIVERING,
    **PAYING,
    **PRICING,
    **LIMITING,
    "enforce": partial(_switch, "enforce"),
    "limit_slices": partial(_switch, "limit_slices"),
}
"""By name: returns the value in its type, or raises `ConfigurationError` or `SubjectError`."""
