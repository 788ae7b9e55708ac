"""A fake OpenMeter in a process of its own, as bad as servers get, that tells what it was sent.

It prints its sink URL and then obeys lines: `behave` ends all faults, `tell` prints what came in as
one line of JSON. It ends with its input.
"""

from __future__ import annotations

import sys
import threading
from typing import Any, Final

import msgspec

from llm_metering.testing.faults import (
    Fault,
    Hang,
    LostAfterAccept,
    Refuse,
    Reset,
    Slow,
    TooLarge,
    Unreadable,
    WriteFails,
)
from llm_metering.testing.server import OpenMeterServer

FAULTS: Final[tuple[tuple[Fault, float], ...]] = (
    (Refuse(500), 0.06),
    (Refuse(503), 0.06),
    (Refuse(429, retry_after=0), 0.05),
    (Reset("before"), 0.06),
    (Reset("after"), 0.05),
    (Reset("during"), 0.03),
    (WriteFails(at=2), 0.03),
    (LostAfterAccept(), 0.03),
    (Unreadable(), 0.03),
    (Slow(0.001, 40), 0.05),
    (TooLarge(max_events=3), 0.05),
    (Hang("before"), 0.03),
    (Hang("after"), 0.03),
)
"""What goes wrong, and how often."""

HANGS: Final = 0.1
"""Seconds between two releases of what hangs."""


class Sent(msgspec.Struct, frozen=True):
    """A batch that came in.

    Attributes:
        status: What was answered; 0 for nothing.
        events: What was in it.
    """

    status: int
    events: list[dict[str, Any]]


def main() -> None:
    """Serve until the input ends."""
    over = threading.Event()

    def release() -> None:
        while not over.wait(HANGS):
            server.release()

    with OpenMeterServer(dedupe=False) as server:
        for number, (fault, chance) in enumerate(FAULTS):
            server.order(fault, times=None, chance=chance, seed=int(sys.argv[1]) + number)
        threading.Thread(target=release, daemon=True).start()
        _say(server.sink_url.encode())
        for line in sys.stdin:
            if line == "behave\n":
                server.clear()
                _say(b"so be it")
            else:
                sent = [Sent(each.status, each.events) for each in server.received]
                _say(msgspec.json.encode(sent))
        over.set()


def _say(line: bytes) -> None:
    sys.stdout.buffer.write(line + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
