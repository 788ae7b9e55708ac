"""The benchmarks that users may run work, and lose nothing on the way."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.mark.timeout(300)
def test_a_small_backlog_arrives_whole():
    """Five thousand events of an outage, with and without a ledger: none is lost."""
    done = subprocess.run(
        [sys.executable, BENCHMARKS / "backlog.py", "5000", "--rounds", "1"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("5000 of 5000 arrived, 0 lost") == 2
    assert "0 lost; 10000 of 10000 are in the ledger" in done.stdout


@pytest.mark.timeout(300)
def test_no_call_of_a_measured_handler_is_lost():
    """What is measured as ours has recorded every call, by its own handler and by `install()`."""
    done = subprocess.run(
        [sys.executable, BENCHMARKS / "llamaindex_overhead.py", "40"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "1414 of 1414 calls are in the ledger" in done.stdout


@pytest.mark.timeout(300)
def test_every_event_reaches_kafka():
    """Those of the meter and those of the bare producer beside it."""
    done = subprocess.run(
        [sys.executable, BENCHMARKS / "kafka_sink.py", "2000", "--rounds", "1"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "lost: 0 of ours, 0 of the bare producer's" in done.stdout


def test_a_small_topic_arrives_whole():
    """What is measured as ours has taken every event of the topic into the ledger."""
    done = subprocess.run(
        [sys.executable, BENCHMARKS / "kafka_ingest.py", "2000", "--rounds", "1"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "ours takes 1.00 times as long" in done.stdout


@pytest.mark.timeout(300)
@pytest.mark.parametrize("api", ["v1", "v3"])
def test_a_small_reconciliation_finds_what_was_planted(api):
    """A server in a process of its own, told to go wrong: each fault is found, and nothing else."""
    done = subprocess.run(
        [sys.executable, BENCHMARKS / "reconcile.py", "3000", "--rounds", "1", "--api", api],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "found is what was planted" in done.stdout


@pytest.mark.timeout(300)
def test_bills_of_many_are_what_sql_adds_up():
    """Two thousand events of fifty customers: tokens and costs on the bills are those of one statement."""
    done = subprocess.run(
        [sys.executable, BENCHMARKS / "bills.py", "2000", "--subjects", "50", "--rounds", "1"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("the bills are right\n")
