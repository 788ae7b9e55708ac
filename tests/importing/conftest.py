"""A ledger, and what is in it."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing

import pytest

from llm_metering.importing import import_file
from llm_metering.ledger import Ledger
from llm_metering.meters import usage_query

from . import exports


@pytest.fixture
def ledger(tmp_path):
    return Ledger(tmp_path / "home" / "ledger.db")


@pytest.fixture
def importing(ledger):
    """Import a file when its buckets are over."""

    def run(path, **asked):
        os.utime(path, (exports.AFTER, exports.AFTER))
        return import_file(ledger, path, clock=lambda: exports.AFTER, **asked)

    return run


@pytest.fixture
def events(ledger):
    """The events of the ledger, as they are kept, in the order in which they were taken in."""

    def read():
        if not ledger.path.exists():
            return []
        with closing(sqlite3.connect(ledger.path)) as connection:
            found = connection.execute("SELECT payload FROM events ORDER BY rowid").fetchall()
        return [json.loads(payload) for (payload,) in found]

    return read


@pytest.fixture
def total(ledger):
    """What the ledger answers of a meter."""

    def ask(meter="tokens_total", **asked):
        return sum(row.value for row in ledger.query(usage_query(meter, **asked)).rows)

    return ask
