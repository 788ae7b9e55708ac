"""Versions, limits and the clock."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime

import pytest

from llm_metering.checkup.machine import check_machine


def by_check(findings):
    """Findings by their names."""
    return {each.check: each for each in findings}


@pytest.mark.parametrize(
    ("year", "level"),
    [
        pytest.param(1970, "failure", id="never set"),
        pytest.param(2025, "failure", id="before this library"),
        pytest.param(2026, "ok", id="now"),
        pytest.param(2100, "failure", id="far away"),
    ],
)
def test_a_clock_that_cannot_be_right(year, level):
    """It would bill in another month."""
    found = by_check(check_machine(now=datetime(year, 6, 1, tzinfo=UTC), environment={}))

    assert found["machine.clock"].level == level


def test_versions_are_named():
    """For whoever is shown the output."""
    found = by_check(check_machine(environment={}))["machine.versions"]

    assert "llm-metering " in found.found
    assert "SQLite 3." in found.found


def test_a_function_of_aws_is_warned():
    """It is frozen and thrown away with what it had not delivered."""
    environment = {"AWS_LAMBDA_FUNCTION_NAME": "checkout"}

    assert by_check(check_machine(environment=environment))["machine.lambda"].level == "warning"
    assert "machine.lambda" not in by_check(check_machine(environment={}))


@pytest.mark.parametrize(
    ("limits", "warned"),
    [
        pytest.param("ulimit -f 100000; ulimit -n 100", True, id="tight"),
        pytest.param("ulimit -n 1024", False, id="usual"),
    ],
)
def test_limits_of_the_process_are_said(limits, warned):
    """Those of a real process: the size of a file, and open files."""
    program = (
        "import json; from llm_metering.checkup.machine import check_machine;"
        "print(json.dumps({each.check: each.level for each in check_machine()}))"
    )
    done = subprocess.run(
        ["bash", "-c", f'{limits}; exec "{sys.executable}" -c "$PROGRAM"'],
        env={**os.environ, "PROGRAM": program},
        capture_output=True,
        text=True,
        check=True,
    )

    found = json.loads(done.stdout)
    assert (found["machine.file_size"] == "warning") == warned
    assert (found["machine.open_files"] == "warning") == warned
