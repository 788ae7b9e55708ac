"""A process that is there to be killed: it meters calls of every kind, and writes down what it did.

Before and after each step of a call it writes a line to a file of its own, with one `write`: so
whoever kills it knows what must be delivered, what may be, and what must not.

Started by itself (`python -m tests.transport.kill_worker <work> <lifeline>`) it is one such process.
As `zygote` it has imported the library once, and forks a worker for each line it reads.
"""

from __future__ import annotations

import asyncio
import faulthandler
import functools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Final

import httpx  # noqa: F401  # what a worker needs sooner or later, a zygote imports once
import msgspec

from llm_metering.meter import Meter
from llm_metering.sinks import openmeter  # noqa: F401
from llm_metering.transport import appender, fleet, policy, pump, stalls
from llm_metering.transport.journal import Journal

from .kill_calls import Caller, Diary

BACKOFF_BASE: Final = 0.02
"""Seconds; a worker does not live long enough for the real one."""
THREADS: Final = 2
TASKS: Final = 3


class Work(msgspec.Struct, frozen=True):
    """What a worker is to do.

    Attributes:
        seed: Of all that is random in it.
        home: The home of its meter.
        server: The URL of its sink.
        diary: The folder in which it writes down what it did.
        segment_bytes: The size of a segment.
        adopt_every: Seconds between two looks for what dead processes left.
        linger: Seconds an event waits for company.
        leaves: Whether SIGTERM has it leave in an orderly way, as servers do.
        forks_after: Seconds to the fork of a child that goes on like itself; `None` for none.
        child_lives: Seconds until that child is killed by the kernel.
        source: Its application.
        slowness: How long it pauses between two steps.
    """

    seed: int
    home: str
    server: str
    diary: str
    segment_bytes: int
    adopt_every: float
    linger: float
    leaves: bool
    forks_after: float | None = None
    child_lives: float = 0.0
    source: str = "kill"
    slowness: float = 1.0

    @property
    def name(self) -> str:
        """What its diary and its tickets begin with."""
        return f"w{self.seed}"


def _call_for_ever(caller: Caller) -> None:
    while True:
        for _ in caller.call():
            time.sleep(caller.pause())


async def _call_for_ever_async(callers: list[Caller], has_left: Callable[[], bool]) -> None:
    async def one(caller: Caller) -> None:
        while True:
            for _ in caller.call():
                await asyncio.sleep(caller.pause())
                if has_left():
                    raise SystemExit(0)

    await asyncio.gather(*map(one, callers))


def _go_on(meter: Meter, work: Work, name: str, *, leaves: bool = False) -> None:
    """Call for ever, from threads and from asyncio."""
    diary = Diary(work.diary, name)

    left = threading.Event()

    def leave(_number: int, _frame: object) -> None:
        diary.note("L", name)
        # Python ignores what is raised in a finaliser, so it is looked at as well.
        left.set()
        raise SystemExit(0)

    if leaves:
        signal.signal(signal.SIGTERM, leave)
    callers = [
        Caller(meter, diary, f"{name}.{each}", work.slowness) for each in range(THREADS + TASKS)
    ]
    for caller in callers[:THREADS]:
        threading.Thread(target=_call_for_ever, args=[caller], daemon=True).start()
    # Not `asyncio.run`, which waits for the end of every task: where a signal's handler raises between
    # two of them, the loop loses the one it had in hand (CPython, `asyncio.Runner.run`, on SIGINT).
    asyncio.new_event_loop().run_until_complete(
        _call_for_ever_async(callers[THREADS:], left.is_set)
    )


def _fork_later(meter: Meter, work: Work) -> None:
    assert work.forks_after is not None
    time.sleep(work.forks_after)
    if os.fork() == 0:
        # Nobody knows this process; the kernel ends it, wherever it is then.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, work.child_lives)
        try:
            _go_on(meter, work, f"{work.name}.forked")
        finally:
            os._exit(1)


def run(work: Work) -> None:
    """Be a worker."""
    faulthandler.enable()
    fleet.Journal = functools.partial(Journal, segment_bytes=work.segment_bytes)  # type: ignore[misc, assignment]
    # Past 50 ms a stalled disk is bypassed by memory, which dies with the process. It is what is
    # written that is looked at here, and a busy machine takes as long.
    appender.STALL = stalls.STALL = 60.0  # type: ignore[misc]
    pump.ADOPT_EVERY = work.adopt_every  # type: ignore[misc]
    pump.LINGER = work.linger  # type: ignore[misc]
    policy.BACKOFF_BASE = BACKOFF_BASE  # type: ignore[misc]
    meter = Meter(work.home, [work.server], source=work.source, tokenizer_download=False)
    meter.start()
    if work.forks_after is not None:
        threading.Thread(target=_fork_later, args=[meter, work], daemon=True).start()
    _go_on(meter, work, work.name, leaves=work.leaves)


def zygote() -> Callable[[], None] | None:
    """Serve as the parent of workers.

    A line is the work of a worker, and is answered with its process id; or such an id, and is
    answered with how that worker ended. Until then the id is nobody else's.

    Returns:
        In a worker, what it is to do; `None` at the end of input.
    """
    while line := sys.stdin.buffer.readline():
        if line.strip().isdigit():
            _, status = os.waitpid(int(line), 0)
            answer = os.waitstatus_to_exitcode(status)
        else:
            answer = os.fork()
            if answer == 0:
                null = os.open(os.devnull, os.O_RDWR)
                os.dup2(null, 0)
                os.dup2(null, 1)
                return functools.partial(run, msgspec.json.decode(line, type=Work))
        os.write(1, b"%d\n" % answer)
    return None


def main() -> None:
    """Do what the command line says."""
    if sys.argv[1] == "zygote":
        worker = zygote()
        if worker is not None:
            worker()
    else:
        run(msgspec.json.decode(sys.argv[1], type=Work))


if __name__ == "__main__":
    main()
