"""`Found`: a value nobody has checked yet, and how it is refused."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, TypeVar

from ..errors import ConfigurationError

__all__ = ["Found", "expand_path", "one_of", "refusal"]

T = TypeVar("T")


class Found(NamedTuple):
    """A value nobody has checked yet.

    Attributes:
        value: As it was found.
        origin: How to speak of the place.
        folder: What a relative path in it is relative to; `None` is the working folder.
    """

    value: object
    origin: str
    folder: Path | None = None


def refusal(name: str, found: Found, wanted: str) -> ConfigurationError:
    """The error that names the setting, what is wanted, what was found, and where."""
    return ConfigurationError(name, f"{wanted}, got {found.value!r} ({found.origin})")


def one_of(known: Iterable[T], name: str, found: Found) -> T:
    """The value, if it is one of those known.

    Raises:
        ConfigurationError: If it is none.
    """
    known = tuple(known)
    for each in known:
        if found.value == each:
            return each
    raise refusal(name, found, f"one of {', '.join(map(str, known))} is wanted")


def expand_path(path: str, setting: str) -> Path:
    """`path` with its `~` resolved.

    Raises:
        ConfigurationError: If there is no such user.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ConfigurationError(setting, f"{path!r} names no home directory: {error}") from error
