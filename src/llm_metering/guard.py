"""`Guard`: what fails of ours does not reach the application."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

__all__ = ["Guard"]


class Guard:
    """Swallows an `Exception` and has it noted; any other `BaseException` is the application's.

    A class and not a generator with `contextmanager`: it is entered for each streamed piece.

    Args:
        where: What may fail, for `status`.
        note: Counts and logs the failure.
    """

    __slots__ = ("_note", "_where")

    def __init__(self, where: str, note: Callable[[str, Exception], None]) -> None:
        self._where = where
        self._note = note

    def __enter__(self) -> None:
        return

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if not isinstance(error, Exception):
            return False
        self._note(self._where, error)
        return True
