"""A ledger that old libraries filled, written by old and new ones side by side, in processes of their own."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest

from llm_metering.ledger import Ledger
from llm_metering.ledger._files import SCHEMA_VERSION
from llm_metering.meters import usage_query
from tests.ledger import old_library

OLD = Path(old_library.__file__)
NEW = """
import sys, time
from pathlib import Path
from llm_metering.ledger import Ledger, _folding
from tests.factories import batch_of, make_event
from tests.ledger.pricing import Prices, card

what, path, rest = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
_folding.FOLD_AT = 23
ledger = Ledger(path)
if what == "write":
    for number in range(int(rest)):
        batch = batch_of(make_event(subject=f"customer-{each % 7}") for each in range(4))
        while not ledger.deliver(batch).accepted:
            time.sleep(0.01)
        ledger.deliver(batch)
elif what == "price":
    is_last = False
    while not is_last:
        is_last = Path(rest).exists()
        ledger.price({"cost": Prices({"gpt-5-mini": card()})})
else:
    asked, is_last = 0, False
    while not is_last:
        is_last = Path(rest).exists()
        differences = ledger.recount()
        if differences:
            sys.exit(str(differences[:3]))
        asked += 1
    print(asked)
"""


def start(*arguments: object) -> subprocess.Popen[str]:
    """A process that writes or reads."""
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)], stdout=subprocess.PIPE, text=True
    )


def said(process: subprocess.Popen[str]) -> list[str]:
    """What it said in the end."""
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return out.split()


def version(path: Path) -> int:
    """The version of its schema."""
    with closing(sqlite3.connect(path)) as connection:
        [(found,)] = connection.execute("PRAGMA user_version")
    return int(found)


@pytest.mark.parametrize("schema", [1, 2, 3, 4, 5])
def test_old_and_new_ones_side_by_side_lose_nothing_and_sum_up_right(tmp_path, schema):
    """From before it is migrated on: at any moment both read of it what its events say."""
    path, end = tmp_path / "ledger.db", tmp_path / "end"
    old_library.write(path, schema, 0, 100)
    readers = [start(OLD, "read", path, end)]
    writers = [
        start(OLD, "write", path, schema, 100, 500),
        start("-c", NEW, "write", path, 40),
        start("-c", NEW, "write", path, 40),
    ]
    until = time.monotonic() + 30
    while version(path) != SCHEMA_VERSION:
        assert time.monotonic() < until
    writers.append(start(OLD, "write", path, schema, 500, 300))
    readers.append(start("-c", NEW, "read", path, end))
    pricers = [start("-c", NEW, "price", path, end) for _ in range(2)]
    for writer in writers:
        said(writer)
    end.touch()
    asked, tokens, cached, calls, events, *_ = (int(each) for each in said(readers[0]))
    assert asked
    assert int(said(readers[1])[0])
    for pricer in pricers:
        said(pricer)

    known = sum(number % 3 != 0 for number in range(800))
    assert (events, calls) == (800 + 2 * 40 * 4,) * 2
    assert tokens == 120 * (known + 2 * 40 * 4)
    assert cached == 64 * known
    with closing(Ledger(path)) as ledger:
        assert ledger.recount() == []
        report = ledger.query(usage_query("cost_total"))
        # Of the old ones' bodies none says how much of it was input.
        assert (report.total, report.unpriced) == (2 * 40 * 4 * Decimal("0.0006"), 800)
    with closing(sqlite3.connect(path)) as connection:
        [(folded,)] = connection.execute("SELECT count(*) FROM places")
    assert (version(path), folded > 800) == (SCHEMA_VERSION, True)
