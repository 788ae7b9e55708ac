"""The whole transport under fire: killed again and again, over a sink that fails at random."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from llm_metering.meter import Meter
from llm_metering.transport.spool import Spool

from .harness import PROJECT, FileServer, ids_in, unique

ROUNDS = 20

CHILD = """
import asyncio, os, random, sys, threading
from pathlib import Path
from llm_metering.events import encode
from llm_metering.meter import Meter
from llm_metering.transport import appender, stalls
from tests.factories import make_event
from tests.transport.harness import FileServer, interrupted

# Past 50 ms a stalled disk is bypassed by memory, which dies with the process. It is what is written
# that is looked at here, and a busy machine takes as long.
appender.STALL = stalls.STALL = 60.0

home, server, seed = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
chance = random.Random(seed)
meter = Meter(home, [FileServer(server, chance)], source="tests")
meter._journal._place.writer._segment_bytes = 20_000
meter.start()
journal = meter._journal

def call():
    begun = interrupted()
    journal.note_open(begun.id, encode(begun))
    os.write(1, f"began {begun.id}\\n".encode())
    yield
    journal.record(begun.id, encode(make_event(id=begun.id)))
    os.write(1, f"ended {begun.id}\\n".encode())

def work():
    while True:
        for _ in call():
            pass

async def work_async():
    async def one():
        while True:
            for _ in call():
                await asyncio.sleep(0)
    await asyncio.gather(*[one() for _ in range(5)])

for _ in range(2):
    threading.Thread(target=work, daemon=True).start()
asyncio.run(work_async())
"""


def run_until_killed(home: Path, server: Path, said: Path, seed: int) -> None:
    """Let a process record, and kill it when it has said so and so much."""
    enough = random.Random(seed).randrange(1, 100_000)
    with said.open("wb") as stdout:
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, home, server, str(seed)], stdout=stdout, cwd=PROJECT
        )
    while os.stat(said).st_size < enough and child.poll() is None:
        time.sleep(0.001)
    assert child.poll() is None
    child.send_signal(signal.SIGKILL)
    child.wait()


def test_a_process_that_is_killed_again_and_again_loses_nothing(home, tmp_path):
    """Each call that began is in every sink, once by id, whatever happened to its process."""
    server = tmp_path / "server"
    began: set[str] = set()
    ended: set[str] = set()
    for seed in range(ROUNDS):
        said = tmp_path / f"said-{seed}"
        run_until_killed(home, server, said, seed)
        # What is behind the last line's end was cut off by the kill.
        lines = [line.split() for line in said.read_text().split("\n")[:-1]]
        began |= {name for verb, name in lines if verb == "began"}
        ended |= {name for verb, name in lines if verb == "ended"}
    assert len(ended) > ROUNDS

    with Meter(home, [FileServer(server)], source="tests") as meter:
        for shipper in meter._transport.shippers:
            assert shipper.drain(deadline=time.monotonic() + 60)
        calls = int(meter.usage("calls_total").rows[0].value)
        by_status = {
            row.group_by["status"]: int(row.value)
            for row in meter.usage("calls_total", group_by="status")
        }
        tokens = int(meter.usage("tokens_total").rows[0].value)
        status = meter.statistics()

    delivered = set(ids_in(server))
    assert began <= delivered
    assert (calls, status["recorded"], status["open_calls"]) == (len(delivered),) * 2 + (0,)
    # What ended was counted, and what was cut off is known to have been; none is both.
    assert by_status["completed"] >= len(ended)
    assert by_status["completed"] + by_status["interrupted"] == calls
    assert tokens == 120 * by_status["completed"]
    for row in status["sinks"]:
        assert (row["recorded"], row["acked"], row["pending"]) == (calls, calls, 0)
    assert Spool(home).segments() == []
    assert unique(delivered) >= ended
