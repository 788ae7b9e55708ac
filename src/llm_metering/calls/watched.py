"""Telling those who watch a call what became of it."""

from __future__ import annotations

from typing import Literal, overload

from ..events import UsageEvent
from .call import Call
from .values import Recorder

__all__ = ["tell_watchers"]


@overload
def tell_watchers(
    call: Call, what: Literal["began", "counting", "left_out"], told: str, recorder: Recorder
) -> None: ...
@overload
def tell_watchers(
    call: Call, what: Literal["settled"], told: UsageEvent, recorder: Recorder
) -> None: ...
def tell_watchers(call: Call, what: str, told: object, recorder: Recorder) -> None:
    """Tell each of them; a failure of theirs is counted, and the call goes on.

    Args:
        call: The call.
        what: Which method of theirs says it.
        told: What it takes.
        recorder: Where failures are counted.
    """
    for watcher in call.attribution.watchers:
        try:
            getattr(watcher, what)(told)
        except Exception:
            recorder.count("failures", "watcher")
