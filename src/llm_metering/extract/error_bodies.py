"""The answer inside of an error: what was paid for before it was raised.

Source: openai 3.54.0, `_exceptions.py` (`APIError.body`, `LengthFinishReasonError.completion`);
httpx 0.28.1, `_models.py` (`Response.content`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from . import read
from .reading import Reading

__all__ = ["reading_of_error"]

_CAUSES: Final = 4
_LONGEST: Final = 1_000_000
"""Characters of a body that is read."""


def reading_of_error(error: BaseException, *bodies: object) -> Reading | None:
    """The first body that reports a usage; `None` if none does.

    Args:
        error: What was raised, and what it was raised from.
        bodies: Others, which are looked at first.
    """
    for body in (*bodies, *_bodies_of(error)):
        if body is None or (isinstance(body, str | bytes) and len(body) > _LONGEST):
            continue
        reading = read(body)
        if reading.usage is not None:
            return reading
    return None


def _bodies_of(error: BaseException) -> Iterator[object]:
    each: BaseException | None = error
    for _ in range(_CAUSES):
        if each is None:
            return
        for name in ("completion", "body", "response"):
            body = _attribute(each, name)
            if name != "response" or isinstance(body, Mapping):
                yield body
            elif type(body).__module__.partition(".")[0] == "httpx":
                # What was not read yet raises, and is not fetched.
                yield _attribute(body, "content")
        each = each.__cause__


def _attribute(holder: object, name: str) -> Any:
    try:
        return getattr(holder, name, None)
    except Exception:
        # A property of somebody else's exception may do anything.
        return None
