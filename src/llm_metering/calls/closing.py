"""When a call is closed that nobody ends."""

from __future__ import annotations

from typing import Literal

import msgspec

from .call import Call

__all__ = ["Reason", "Waits", "verdict"]

Reason = Literal["failed", "cancelled", "left_behind", "gone_silent", "open_at_exit"]
"""Why a call is closed: it failed, and no usage followed; its task was cancelled; what it was begun
in is over; it gave no sign of life; the process ends."""


class Waits(msgspec.Struct, frozen=True, kw_only=True):
    """For how many seconds calls are waited for.

    Attributes:
        failure: After an error that may not be the last word. ChatBedrock's guardrails tell of an
            error and then, in the same breath, of the end with its usage (langchain-aws 1.9.1,
            `chat_models/bedrock.py`).
        left: After what the call was begun in is over, and after each sign of life since.
        silence: After the last sign of life.
        sweep_every: Until it is looked again.
    """

    failure: float = 5.0
    left: float = 60.0
    silence: float = 3600.0
    sweep_every: float = 15.0


def verdict(call: Call, now: float | None, waits: Waits) -> Reason | None:
    """Whether to close a call, and why.

    Args:
        call: It.
        now: The table's clock; `None` if nothing is waited for.
        waits: For how long calls are waited for.

    Returns:
        `None` for a call that may be in flight.
    """
    if call.failure is not None and (now is None or now - call.failure.time >= waits.failure):
        return "failed"
    if call.left is not None and (
        _is_over(call, call.left) if now is None else now - max(call.left, call.seen) >= waits.left
    ):
        return "left_behind"
    if now is not None and now - call.seen >= waits.silence:
        return "gone_silent"
    return None


def _is_over(call: Call, left: float) -> bool:
    """Whether nothing speaks for a call whose owner is over: no sign of life since, no task that runs."""
    task = call.start.task
    return call.seen <= left and (task is None or task.done())
