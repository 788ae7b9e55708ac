"""What `benchmarks/losses` promises of our row, in its short mode, and that it can tell a loss."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.losses.clients import CLIENTS, CONTROL, OURS
from benchmarks.losses.harness import count
from benchmarks.losses.scenarios import SCENARIOS, quick

ROOT = Path(__file__).parents[1]
OURS_IN = ["exit", "exit-tight", "kill", "sigterm", "500", "dropped", "down-10", "down-exit"]

pytestmark = pytest.mark.timeout(300)


def losses(client, *scenarios):
    """The cells of one row by scenario, and the exit status."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks.losses", "--quick", "--format", "json"),
            *("--only", client),
            *(word for name in scenarios for word in ("--scenario", name)),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout, done.stderr
    return {cell["scenario"]: cell for cell in json.loads(done.stdout)}, done.returncode


@pytest.fixture(scope="module")
def ours():
    """Our row and the exit status."""
    return losses(OURS, *OURS_IN)


@pytest.mark.parametrize("name", OURS_IN)
def test_nothing_is_lost(ours, name):
    """Every event whose call returned arrives, and none under a second id."""
    cell = ours[0][name]

    assert cell["recorded"] >= quick(SCENARIOS[name]).count
    assert (cell["lost"], cell["renamed"], cell["refused"]) == (0, 0, 0)
    assert (cell["errors"], cell["killed"]) == ([], False)
    assert cell["faults"] == SCENARIOS[name].times


def test_the_row_is_what_its_columns_say(ours):
    """The faults struck: all waited for the next start, and what was taken in silence came again."""
    cells, status = ours

    assert cells["down-exit"]["pending"] == cells["down-exit"]["recorded"]
    assert cells["dropped"]["duplicates"] > 0
    assert [cells[name]["duplicates"] for name in ("exit", "500", "down-exit")] == [0, 0, 0]
    assert status == 0


def test_a_queue_in_memory_loses():
    """The benchmark sees a loss where there is one: what waited in a process that was stopped."""
    cell = losses(CONTROL, "down-exit")[0]["down-exit"]

    assert cell["killed"]
    assert cell["lost"] == cell["pending"] == cell["recorded"] == 200


def test_a_peer_that_is_not_installed_is_named():
    """It is left out, and said to be; the others run."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks.losses", "--quick"),
            *("--only", "amberflo", "--only", CONTROL, "--scenario", "tight"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0
    assert "amberflo: amberflo-metering-python is not installed" in done.stderr
    assert [line.split("|")[1:3] for line in done.stdout.splitlines()[-1:]] == [
        [f" {CONTROL} ", " 0 "]
    ]


@pytest.mark.parametrize(
    ("came", "expected"),
    [
        pytest.param({7: {"a": 1}}, {}, id="arrived"),
        pytest.param({}, {"lost": 1}, id="lost"),
        pytest.param({7: {"a": 3}}, {"duplicates": 1}, id="three times"),
        pytest.param({7: {"a": 1, "b": 1}}, {"duplicates": 1, "renamed": 1}, id="under a new id"),
        pytest.param({7: {"b": 1}}, {"renamed": 1}, id="not as it was called"),
        pytest.param({7: {"a": 1}, 8: {"b": 1}}, {}, id="and one that nobody noted"),
    ],
)
def test_events_are_counted_by_number_and_id(came, expected):
    """An event is known by its number; its id is what a server could tell it by."""
    nothing = {"recorded": 1, "refused": 0, "lost": 0, "duplicates": 0, "renamed": 0}

    assert count({7: "a"}, came) == nothing | expected


def test_the_peers_are_in_the_requirements():
    """What the table compares with is what the file installs."""
    lines = (ROOT / "benchmarks/requirements-peers.txt").read_text().splitlines()
    listed = {line.partition(">=")[0] for line in lines if line and not line.startswith("#")}
    needed = {client.distribution for client in CLIENTS.values()} - {OURS, None}

    assert needed <= listed
