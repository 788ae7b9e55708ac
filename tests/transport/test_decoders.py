"""Reading structs from several threads at once."""

from __future__ import annotations

import ast

from .harness import (
    PROJECT,
    ScriptedSink,
    journal_for,
    pump,
    record,
    run_child,
    shipper_for,
)

SOURCES = sorted((PROJECT / "src" / "llm_metering").rglob("*.py"))

READ_AT_ONCE = """
import sys, threading
from pathlib import Path
from llm_metering.transport.spool import Spool
from llm_metering.transport.status import home_status

def read():
    ready.wait()
    home_status(Path(sys.argv[1]))

sys.setswitchinterval(1e-6)
ready = threading.Barrier(4)
threads = [threading.Thread(target=read) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


def test_threads_that_read_a_home_first_at_once_end_no_process(home):
    """The shippers of a process that starts all read what the last one left, at the same moment."""
    sink = ScriptedSink()
    journal = journal_for(home, sink)
    record(journal, 2)
    pump(shipper_for(journal, sink))
    journal.close()

    for _ in range(10):
        child = run_child(READ_AT_ONCE, home)
        _, stderr = child.communicate(timeout=60)
        assert (child.returncode, stderr) == (0, "")


def test_what_reads_a_struct_is_made_at_import():
    """msgspec learns of a struct when its first decoder is made, which no two threads may do."""
    lazy = [
        f"{path}:{node.lineno}"
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("decode", "convert")
        for keyword in node.keywords
        if keyword.arg == "type" and isinstance(keyword.value, ast.Name)
    ]
    assert not lazy
