"""A process that makes calls from many threads, each held to a balance as front ends do it.

python -m tests.limits.racing HOME LIMITS BEGAN SEED THREADS CALLS
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from random import Random

from llm_metering.calls import CallStart, Report
from llm_metering.meter import Meter
from llm_metering.subjects import Attribution, Rank
from llm_metering.token_usage import TokenUsage
from llm_metering.transport import appender, stalls

__all__ = ["BEYOND", "WITHIN"]

WITHIN = "within"
"""Whose calls use what was reserved for them, or less."""
BEYOND = "beyond"
"""Whose calls may use more."""

_ASKED = {"messages": [{"role": "user", "content": "Where is my parcel?"}]}


def call(meter: Meter, key: str, chance: Random) -> bool:
    """Make one call; some end in other ways than with an answer, and some in none.

    Returns:
        Whether it was refused.
    """
    subject = chance.choice((WITHIN, BEYOND))
    limit = chance.randrange(1, 300)
    gate = meter.gate
    assert gate is not None
    request = object()
    start = CallStart(
        attribution=Attribution(subject=subject, rank=Rank.HANDLER),
        framework="langchain",
        operation="chat",
        provider="openai",
        request_model="gpt-x",
        run_id=key,
        request=request,
        asked=lambda: _ASKED,
        output_limit=limit,
        reservation=gate.prepare(),
    )
    refusal = gate.admit(meter.calls.start(key, start))
    if refusal is not None:
        meter.calls.refuse(key, request, refusal.reason)
        return True
    time.sleep(chance.random() * 0.05)
    output = chance.randrange(limit + 1) * (3 if subject == BEYOND and chance.random() < 0.2 else 1)
    usage = TokenUsage(input_tokens=1, output_tokens=output)
    end = chance.random()
    if end < 0.7:
        meter.calls.end(key, "completed", Report(usage=usage, model="gpt-x"))
    elif end < 0.8:
        meter.calls.end(key, "aborted", Report(usage=usage, is_final=False, is_countable=False))
    elif end < 0.9:
        meter.calls.end(key, "refused", Report(reason="429"))
    # Else nobody says how it ended; it is closed with the process.
    return False


def main(home: Path, limits: str, began: Path, seed: int, threads: int, calls: int) -> None:
    """Make so many calls in each of so many threads; a file says that they are at it."""
    # Past 50 ms a stalled disk is bypassed by memory, which dies with the process. It is what is written
    # that is looked at here, and a busy machine takes as long.
    appender.STALL = stalls.STALL = 60.0
    # As long as it takes: on a busy machine a call would else be refused for want of an answer.
    meter = Meter(
        home,
        (),
        source="tests",
        limits=limits,
        limit_deadline=60,
        on_limit_store_error="refuse",
    )
    meter.start()

    refused: list[bool] = []

    def work(number: int) -> None:
        chance = Random(f"{seed}.{number}")
        for count in range(calls):
            refused.append(call(meter, f"{seed}.{number}.{count}", chance))
            if len(refused) == threads:
                began.touch()

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    meter.close(60)
    seen = meter.statistics()
    sys.stdout.write(f"{sum(refused)} {seen['unchecked_calls']} {seen['failures']}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), *map(int, sys.argv[4:]))
