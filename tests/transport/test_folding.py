"""The end of a segment: killed at any step of it, a process neither loses a count nor counts twice."""

from __future__ import annotations

import pytest

from llm_metering.transport.spool import Spool

from .harness import (
    FileServer,
    empty,
    ids_in,
    journal_for,
    let_go,
    record,
    run_child,
    shipper_for,
    sink_row,
    unique,
)

DIES = """
import os, sys
from pathlib import Path
from llm_metering import system
from tests.transport.harness import FileServer, empty, journal_for, shipper_for

home, server, step = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]

def dying(before, work):
    def work_or_die(path, *arguments, **options):
        if str(path).endswith(before):
            os.kill(os.getpid(), 9)
        return work(path, *arguments, **options)
    return work_or_die

if step == "counters.json":
    system.replace_file = dying(step, system.replace_file)
elif step == ".seg":
    os.replace = dying(step, os.replace)
else:
    Path.unlink = dying(step, Path.unlink)
sink = FileServer(server)
empty(shipper_for(journal_for(home, sink), sink), adopt=True)
"""


@pytest.mark.parametrize(
    "step",
    [
        pytest.param("counters.json", id="before it is in the sums"),
        pytest.param(".seg", id="before it leaves the journal"),
        pytest.param(".ack", id="before its acknowledgement is deleted"),
        pytest.param(".dead", id="before its writer's mark is deleted"),
    ],
)
def test_a_fold_can_crash_anywhere(home, tmp_path, step):
    """A segment is in the sums once, however often the process dies that puts it there."""
    server = tmp_path / "server"
    sink = FileServer(server)
    journal = journal_for(home, sink)
    ids = record(journal, 3)
    let_go(journal)
    for _ in range(2):
        child = run_child(DIES, home, server, step)
        _, stderr = child.communicate(timeout=60)
        assert (child.returncode, stderr) == (-9, "")

    empty(shipper_for(journal_for(home, sink), sink), adopt=True)

    assert unique(ids_in(server)) == unique(ids)
    assert sink_row(home) == {"recorded": 3, "acked": 3, "pending": 0, "dead": 0, "dropped": 0}
    assert Spool(home).segments() == []
    assert {path.suffix for path in Spool(home).folder.iterdir()} <= {"", ".json", ".lock", ".sink"}
    assert len(list((Spool(home).folder / "kept").iterdir())) == 1
