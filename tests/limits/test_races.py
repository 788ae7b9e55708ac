"""Many threads of many processes against one balance, some of which are killed."""

from __future__ import annotations

import subprocess
import sys
import time
from random import Random

import pytest

from llm_metering.meter import Meter
from tests.transport.harness import PROJECT

from .racing import BEYOND, WITHIN

THREADS = 64
AT_ONCE = 4
STARTS = 10
KILLED = frozenset([0, 1, 4])
CALLS = 6
GRANTED = 60_000


@pytest.fixture(params=["sqlite", "postgres"])
def limits(request):
    """What the setting says: in the home, or the URL of a database."""
    return "on" if request.param == "sqlite" else request.getfixturevalue("databases").new()


def run(home, limits, tmp_path, watch, killed=KILLED):
    """Keep so many processes at it, killing some, and watch meanwhile."""
    waiting = list(range(STARTS))
    running: dict[int, tuple[subprocess.Popen[str], float | None]] = {}
    said = []
    while waiting or running:
        while waiting and len(running) < AT_ONCE:
            seed = waiting.pop(0)
            calls = 10_000 if seed in killed else CALLS
            command = [sys.executable, "-m", "tests.limits.racing", home, limits]
            process = subprocess.Popen(
                [*command, tmp_path / str(seed), *map(str, (seed, THREADS, calls))],
                cwd=PROJECT,
                stdout=subprocess.PIPE,
                text=True,
            )
            running[seed] = process, None
        watch()
        for seed, (process, ends_at) in list(running.items()):
            if seed in killed and ends_at is None and (tmp_path / str(seed)).exists():
                running[seed] = process, time.monotonic() + Random(seed).random() / 2
            if ends_at is not None and time.monotonic() >= ends_at:
                process.kill()
                process.wait()
            if process.poll() is not None:
                del running[seed]
                assert process.stdout is not None
                said.append((seed, process.returncode, process.stdout.read().split()))
                process.stdout.close()
    return said


@pytest.mark.timeout(300)
def test_a_balance_is_exact_whatever_happens_to_processes(limits, home, tmp_path):
    """What is reserved never exceeds what is left, and in the end what was used is burnt, once."""
    with Meter(home, (), source="tests", limits=limits) as meter:
        for subject in (WITHIN, BEYOND):
            meter.grant(subject, GRANTED)
        store = meter.limits
        seen = []

        def watch():
            balance = store.balance(WITHIN)
            assert balance.available >= 0
            assert balance.overage == 0
            seen.append(balance.reserved)

        said = run(home, limits, tmp_path, watch)

    assert {code for seed, code, _ in said if seed not in KILLED} == {0}
    assert {code for seed, code, _ in said if seed in KILLED} == {-9}
    assert {tuple(words[1:]) for seed, _, words in said if seed not in KILLED} == {("0", "0")}
    assert sum(int(words[0]) for seed, _, words in said if seed not in KILLED) > 100
    assert max(seen) > 0

    # Whoever comes next settles what the dead have left.
    with Meter(home, (), source="tests", limits=limits) as meter:
        for shipper in meter._transport.shippers:
            assert shipper.drain(deadline=time.monotonic() + 60)
        seen = meter.statistics()
        assert seen["open_calls"] == 0
        for subject in (WITHIN, BEYOND):
            used = int(meter.usage("tokens_total", subject).rows[0].value)
            balance = meter.balance(subject)
            assert (balance.used, balance.reserved) == (used, 0)
            assert balance.available == GRANTED - used + balance.overage
            assert used > GRANTED / 2
            if subject == WITHIN:
                assert balance.overage == 0
        assert meter.limits.reservations() == []
        assert seen["refused_calls"] > 0
        (calls,) = meter.usage("calls_total", group_by="status", filters={"status": "interrupted"})
        assert calls.value > 0


@pytest.mark.timeout(300)
def test_a_balance_is_exact_with_slices_leased_ahead(limits, home, tmp_path, monkeypatch):
    """Each process hands out what it has leased, and gives back what it did not use."""
    monkeypatch.setenv("LLM_METERING_LIMIT_SLICES", "on")
    with Meter(home, (), source="tests", limits=limits) as meter:
        for subject in (WITHIN, BEYOND):
            meter.grant(subject, GRANTED)
        said = run(
            home,
            limits,
            tmp_path,
            lambda: meter.limits.balance(WITHIN).available >= 0 or pytest.fail("too much"),
            killed=(),
        )
        assert {tuple(words[1:]) for _, _, words in said} == {("0", "0")}
        for subject in (WITHIN, BEYOND):
            used = int(meter.usage("tokens_total", subject).rows[0].value)
            balance = meter.balance(subject)
            assert (balance.used, balance.reserved) == (used, 0)
            assert used > GRANTED / 2
        assert meter.limits.reservations() == []
