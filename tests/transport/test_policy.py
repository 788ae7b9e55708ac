"""Decisions about waiting and about incomplete answers; no clock, no I/O."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_metering.sinks.base import Delivery, Envelope
from llm_metering.transport.policy import (
    BACKOFF_CAP,
    PROBE_EVERY,
    RETRY_AFTER_CAP,
    Standing,
    after,
    complete,
)

BATCH = [Envelope(id=name, payload=b"{}") for name in "abcd"]
IDS = st.sampled_from("abcd")
unhurried = settings(deadline=None)


def later(**options):
    return Delivery.try_later(BATCH, "503", **options)


def test_success_forgets_the_past():
    """One delivery that goes through, and a sink stands well again."""
    before = Standing("backoff", "503", failures=9, wait=60.0)

    assert after(Delivery.all_accepted(BATCH), before, chance=0.5) == Standing()


def test_rejection_is_no_trouble():
    """A server that refuses events for good is a server that answers."""
    rejected = Delivery(rejected=frozenset((each.id, "no") for each in BATCH))

    assert after(rejected, Standing(), chance=0.5) == Standing()


@pytest.mark.parametrize("refusal", ["content", "size"])
def test_a_refused_batch_is_no_trouble(refusal):
    """The next part of it may be offered at once."""
    refused = Delivery.refuse(BATCH, "400", refusal)

    assert after(refused, Standing("backoff", "503", failures=3), chance=0.5) == Standing()


def test_a_pause_needs_no_batch():
    """Where nothing is left to offer, the sink can still be told to wait."""
    pause = Delivery(hold=True, reason="400")

    assert after(pause, Standing(), chance=0.5) == Standing("paused", "400", 1, PROBE_EVERY)


def test_waits_double_up_to_the_cap():
    """The longest possible wait doubles with each failure and ends at the cap."""
    standing, waits = Standing(), []
    for _ in range(12):
        standing = after(later(), standing, chance=1.0)
        waits.append(standing.wait)

    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, *[BACKOFF_CAP] * 5]
    assert (standing.state, standing.reason, standing.failures) == ("backoff", "503", 12)


@unhurried
@given(st.integers(0, 10**6), st.floats(0, 1), st.none() | st.floats(allow_nan=False))
def test_no_wait_is_endless_or_negative(failures, chance, retry_after):
    """Whatever a server asks for and however long it has been down, it is tried again."""
    standing = after(
        later(retry_after=retry_after), Standing("backoff", "x", failures), chance=chance
    )

    assert 0 <= standing.floor <= standing.wait <= RETRY_AFTER_CAP


@pytest.mark.parametrize("chance", [0.0, 1.0])
@pytest.mark.parametrize("hold", [False, True])
def test_a_servers_own_wait_is_a_floor(chance, hold):
    """No luck with the jitter makes us come back earlier than we were asked to."""
    standing = after(later(retry_after=100.0, hold=hold), Standing(), chance=chance)

    assert (standing.wait, standing.floor) == (100.0, 100.0)


def test_a_hold_pauses():
    """What a person has to mend is probed once a minute, however often it has failed."""
    standing = after(later(hold=True), Standing("paused", "401", failures=50), chance=0.0)

    assert standing == Standing("paused", "503", failures=51, wait=PROBE_EVERY)


@unhurried
@given(st.frozensets(IDS), st.frozensets(IDS), st.frozensets(IDS))
def test_every_event_is_accounted_for(accepted, retryable, dead):
    """Of each event of a batch, a completed answer says something; it takes nothing back."""
    rejected = frozenset((each, "no") for each in dead)
    delivery = Delivery(accepted=accepted, retryable=retryable, rejected=rejected)

    completed = complete(delivery, BATCH)

    assert completed.accepted == accepted
    assert completed.rejected == rejected
    assert completed.accepted | completed.retryable | dead == frozenset("abcd")
    assert completed.retryable - retryable == frozenset("abcd") - accepted - retryable - dead


def test_a_complete_answer_stays_as_it_is():
    """Nothing is added to what says everything."""
    answers = [Delivery.all_accepted(BATCH), later(retry_after=3.0, hold=True)]

    assert [complete(answer, BATCH) for answer in answers] == answers
