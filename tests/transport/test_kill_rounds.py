"""Killed hundreds of times, at any moment, over a server that fails at random: the books are right."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from random import Random
from typing import Any

import pytest

from llm_metering.meter import Meter
from llm_metering.transport.spool import Spool

from .kill_rounds import Call, Rounds, Server, by_ticket, is_right, ledger, read_diaries
from .kill_server import Sent

ROUNDS = int(os.environ.get("KILL_ROUNDS", "300"))
SEED = int(os.environ.get("KILL_SEED", "0")) or time.time_ns() % 1_000_000_000
"""What is random but for the moments at which the kernel does as it is told."""


@pytest.mark.timeout(600)
def test_killed_in_hundreds_of_rounds_nothing_is_lost_or_doubled(home, tmp_path):
    """Each call that was recorded is delivered under one id, and every book has the same sums."""
    sys.stdout.write(f"seed {SEED}, {ROUNDS} rounds\n")
    chance = Random(SEED)
    with Server(SEED) as server:
        rounds = Rounds(home, server.sink_url, tmp_path, chance)
        with rounds.begun():
            for number in range(ROUNDS):
                rounds.play(number)
        server.behave()
        with Meter(home, [server.sink_url], source="kill") as meter:
            assert meter.drain(120)
            status = meter.statistics()
            calls_total = int(meter.usage("calls_total").rows[0].value)
            tokens_total = int(meter.usage("tokens_total").rows[0].value)
        sent = server.sent()

    calls = read_diaries(rounds.diary)
    events = by_ticket(sent)
    stderr = rounds.stderr.read_text()
    # A signal's exception that comes in a finaliser is shown, and goes no further.
    shown = stderr.count("Traceback") - stderr.count("\nDuring handling of the above exception")
    assert shown == stderr.count("\nSystemExit: 0\n")
    assert rounds.ended.keys() <= {0, -9, -15}

    assert events.keys() <= calls.keys()
    wrong = [
        f"{ticket}: {call}, but {events.get(ticket)}"
        for ticket, call in calls.items()
        if not is_right(call, events.get(ticket))
    ]
    assert not wrong, "\n".join(wrong)

    assert ledger(home) == {event["id"]: event for event in events.values()}
    counted = [event["data"].get("total_tokens", 0) for event in events.values()]
    assert (calls_total, tokens_total) == (len(events), sum(counted))

    assert (status["recorded"], status["dropped"]) == (len(events), {"disk_full": 0})
    assert (status["open_calls"], status["failures"]) == (0, 0)
    assert [row["name"] for row in status["sinks"]] == ["ledger", "openmeter"]
    for row in status["sinks"]:
        # What was dead or dropped, the sums would lack.
        assert (row["recorded"], row["acked"], row["pending"]) == (len(events), len(events), 0)
    assert not any(count for name, count in status["damage"].items() if name != "torn_bytes")
    assert Spool(home).segments() == []
    assert_it_was_hard(calls, events, sent)


def assert_it_was_hard(
    calls: dict[str, Call], events: dict[str, dict[str, Any]], sent: list[Sent]
) -> None:
    """Make sure that the rounds went through what they are for."""
    statuses = Counter(event["data"]["status"] for event in events.values())
    refused = sum(not 200 <= batch.status < 300 for batch in sent)
    again = sum(len(batch.events) for batch in sent) - len(events)
    forked = {ticket for ticket in events if ".forked." in ticket}
    sys.stdout.write(
        f"{len(calls)} calls, {statuses}, {refused} batches failed, {again} events sent again\n"
    )
    assert statuses["completed"] > ROUNDS
    assert statuses["interrupted"] > ROUNDS / 10
    assert statuses["aborted"]
    assert all((refused, again, forked))
