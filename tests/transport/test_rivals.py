"""Processes that find the same dead writer at the same moment: one ships each event, one counts it."""

from __future__ import annotations

import time
from pathlib import Path

from llm_metering.transport.spool import Spool

from .harness import (
    FileServer,
    ids_in,
    journal_for,
    let_go,
    note_open,
    record,
    run_child,
    sink_row,
    unique,
)

TIMES = 25
RIVALS = 3

ADOPT = """
import sys, time
from pathlib import Path
from tests.transport.harness import FileServer, journal_for, pump, shipper_for

sink = FileServer(Path(sys.argv[1]))
for line in sys.stdin:
    home, begin = line.split()
    shipper = shipper_for(journal_for(Path(home), sink), sink)
    while time.monotonic() < float(begin):  # the same moment for all of them
        pass
    # Who finds a segment taken looks again, as shippers do each half minute.
    while list(Path(home, "journal", "v1").glob("*.seg")):
        pump(shipper, adopt=True)
    shipper.finish_close()
    print("done", flush=True)
"""


def leave_orphans(home: Path, sink: FileServer) -> set[str]:
    """What a killed process leaves: small segments with events, and calls under way in them."""
    home.mkdir()
    journal = journal_for(home, sink, segment_bytes=3000)
    ids = [note_open(journal) for _ in range(2)] + record(journal, 12)
    let_go(journal)
    return unique(ids)


def test_rivals_that_adopt_at_once_ship_and_count_each_event_once(tmp_path):
    """However often processes adopt the same orphans at the same moment, none is shipped twice."""
    server = tmp_path / "server"
    sink = FileServer(server)
    rivals = [run_child(ADOPT, server) for _ in range(RIVALS)]
    left: set[str] = set()
    for each in range(TIMES):
        home = tmp_path / f"home-{each}"
        left |= leave_orphans(home, sink)
        begin = time.monotonic() + 0.02
        for rival in rivals:
            rival.stdin.write(f"{home} {begin}\n")
            rival.stdin.flush()
        assert [rival.stdout.readline() for rival in rivals] == ["done\n"] * RIVALS

        assert sink_row(home) == {
            "recorded": 14,
            "acked": 14,
            "pending": 0,
            "dead": 0,
            "dropped": 0,
        }
        assert Spool(home).segments() == []
    for rival in rivals:
        _, stderr = rival.communicate(timeout=60)
        assert (rival.returncode, stderr) == (0, "")

    assert unique(ids_in(server)) == left
