"""What is asked of a provider beside what models generate: its kind, and what is known of it before."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..extract.reading import Reading

__all__ = ["Kind", "Question"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What is asked for.

    Attributes:
        operation: Its name in the events.
        read_body: Reads the body of an answer.
        is_answer: Whether that is what was asked for, not a token to sign in with or such.
        is_counted: Whether what is not reported can be counted.
    """

    operation: str
    read_body: Callable[[bytes], Reading]
    is_answer: Callable[[Reading], bool]
    is_counted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is known of a request before it is made.

    Attributes:
        provider: Who is asked, if that is known.
        model: The model that is asked, likewise.
        asked: Gives the request, to be counted if need be.
    """

    provider: str | None = None
    model: str | None = None
    asked: Callable[[], Mapping[str, Any] | None] = lambda: None
