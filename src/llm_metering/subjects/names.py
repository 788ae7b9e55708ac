"""What can be a subject, and what a dimension."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ..errors import SubjectError
from ..events import check_dimensions, is_unicode

__all__ = ["MAX_LENGTH", "check_subject", "is_usable", "plain", "plain_dimensions"]

MAX_LENGTH: Final = 1000
"""Characters of a subject. A longer one is no name, and a request that carries it in its metadata
could fill the disk and the sinks."""


def check_subject(name: object) -> str:
    """Return `name`, as a plain string, if it can be a subject.

    Raises:
        SubjectError: If it is not a non-empty string, longer than `MAX_LENGTH`, or holds half a
            character (a lone surrogate) or a NUL, which PostgreSQL stores nowhere
            (https://www.postgresql.org/docs/current/datatype-character.html).
    """
    if type(name) is str and name.isascii() and is_usable(name):
        return name  # nearly all of them
    if not isinstance(name, str) or not name.strip():
        raise SubjectError(f"a subject is a non-empty string, got {name!r}")
    if not is_usable(name):
        raise SubjectError(
            f"a subject has at most {MAX_LENGTH} characters, no lone surrogates and no NUL,"
            f" got {name[:50]!r}… of {len(name)}"
        )
    return plain(name)


def is_usable(name: str) -> bool:
    """Whether a string can be a subject."""
    return len(name) <= MAX_LENGTH and "\0" not in name and bool(name.strip()) and is_unicode(name)


def plain(text: str) -> str:
    """The string itself, of a class derived from `str`: the encoder of events takes no other."""
    return text if type(text) is str else str.__str__(text)


def plain_dimensions(dimensions: Mapping[str, str]) -> dict[str, str]:
    """A copy of the dimensions, of plain strings.

    Raises:
        SubjectError: If one is no string, or has the name of a key of `data`.
    """
    check_dimensions(dimensions)
    return {plain(key): plain(value) for key, value in dimensions.items()}
