"""Slices of a hot subject's balance, handed out in memory."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from llm_metering.events import encode
from llm_metering.limits import (
    FEATURES,
    AccountKey,
    Amounts,
    Limits,
    LimitsSink,
    PostgresStore,
    SQLiteStore,
)
from llm_metering.limits.slices import CALLS, HOT, IDLE, LEASED_FOR, Slices, part_of
from llm_metering.sinks.base import Envelope
from llm_metering.testing import FakeClock
from llm_metering.token_usage import TokenUsage
from tests.factories import make_event

KEY = AccountKey("acme", "tokens")
STEPS = 100


@pytest.fixture(params=["sqlite", "postgres"])
def place(request, tmp_path):
    if request.param == "sqlite":
        return tmp_path / "limits.db"
    return request.getfixturevalue("databases").new()


@pytest.fixture
def limits(place):
    """Balances; `acme` has a million tokens."""
    store = SQLiteStore if isinstance(place, Path) else PostgresStore
    with closing(store(place, FEATURES)) as opened:
        limits = Limits(opened, source="tests")
        limits.grant("acme", 1_000_000)
        yield limits


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def slices(limits, clock):
    slices = Slices(limits.store, clock=clock)
    yield slices
    slices.close()


def heat(slices):
    """Make as many calls as are still served one by one."""
    assert [slices.take(KEY, STEPS) for _ in range(HOT)] == [None] * HOT


def settle(limits, *ids, tokens=30):
    """Deliver the events of calls."""
    amounts = Amounts(FEATURES, prices=lambda: None, credits=lambda: None)
    sink = LimitsSink(limits, url="limits:", amounts=amounts)
    batch = []
    for id in ids:
        usage = TokenUsage(input_tokens=tokens, output_tokens=0)
        event = make_event(subject="acme", usage=usage, reservation_id=id)
        batch.append(Envelope(event.id, encode(event)))
    assert len(sink.deliver(batch).accepted) == len(batch)
    assert len(sink.deliver(batch).accepted) == len(batch)  # once more, as after a lost answer


def test_only_a_hot_subject_is_served_from_slices(slices, limits, clock):
    for _ in range(5):
        assert slices.take(KEY, STEPS) is None
        clock.advance(1.1)
    heat(slices)
    assert slices.take(KEY, STEPS) is not None
    assert slices.take(AccountKey("other", "tokens"), STEPS) is None


def test_calls_of_a_slice_are_one_reservation(slices, limits):
    """Of which each event takes its call's part, and burns what was used."""
    heat(slices)
    ids = [slices.take(KEY, STEPS) for _ in range(CALLS)]
    assert len({part_of(id)[0] for id in ids}) == 1
    assert {part_of(id)[1] for id in ids} == {STEPS}
    assert limits.balance("acme").reserved == CALLS * STEPS

    settle(limits, *ids[:10])
    balance = limits.balance("acme")
    assert (balance.reserved, balance.used) == ((CALLS - 10) * STEPS, 300)
    settle(limits, *ids[10:])
    balance = limits.balance("acme")
    assert (balance.reserved, balance.used) == (0, CALLS * 30)
    assert limits.reservations() == []


def test_a_slice_that_is_used_up_is_followed_by_another(slices, limits):
    """What is left of the old one is given back."""
    heat(slices)
    first = slices.take(KEY, STEPS)
    ids = [slices.take(KEY, CALLS * STEPS - STEPS // 2), slices.take(KEY, STEPS)]
    assert len({part_of(id)[0] for id in (first, *ids)}) == 2
    settle(limits, first, *ids)
    slices.close()
    balance = limits.balance("acme")
    assert (balance.reserved, balance.used) == (0, 90)


def test_what_costs_nothing_is_handed_out_again(slices, limits):
    heat(slices)
    ids = [slices.take(KEY, STEPS) for _ in range(CALLS)]
    slices.give_back(ids[0])
    again = slices.take(KEY, STEPS)
    assert part_of(again)[0] == part_of(ids[0])[0]
    # Of a slice that is no longer handed out it goes back to everybody.
    other = slices.take(KEY, STEPS)
    assert part_of(other)[0] != part_of(again)[0]
    before = limits.balance("acme").reserved
    slices.give_back(again)
    assert limits.balance("acme").reserved == before - STEPS


def test_too_little_for_a_slice_is_no_slice(slices, limits):
    """The call is reserved alone, as long as there is anything."""
    hold = limits.reserve("acme", 1_000_000 - STEPS)
    heat(slices)
    assert slices.take(KEY, STEPS) is None
    hold.void()
    assert slices.take(KEY, STEPS) is not None


def test_what_nobody_uses_is_given_back(slices, limits, clock):
    heat(slices)
    id = slices.take(KEY, STEPS)
    clock.advance(IDLE - 0.1)
    slices.look()
    assert limits.balance("acme").reserved == CALLS * STEPS
    clock.advance(0.2)
    slices.look()
    assert limits.balance("acme").reserved == STEPS
    settle(limits, id)
    assert limits.balance("acme").reserved == 0


def test_a_slice_is_renewed_while_calls_are_under_way(slices, limits, clock):
    """And counts no longer than its lease behind the last of them."""
    heat(slices)
    id = slices.take(KEY, STEPS)
    (before,) = limits.reservations()
    clock.advance(LEASED_FOR / 2)
    slices.look()
    (after,) = limits.reservations()
    assert after.ends_at > before.ends_at
    slices.ended(id)
    clock.advance(LEASED_FOR / 2)
    slices.look()
    slices.look()
    (last,) = limits.reservations()
    assert last.ends_at == after.ends_at
    assert repr(slices) == "<Slices 0>"


def test_the_end_gives_back_what_is_left(slices, limits):
    heat(slices)
    slices.take(KEY, STEPS)
    slices.close()
    assert limits.balance("acme").reserved == STEPS


def test_a_slice_that_has_lapsed_is_handed_out_no_more(slices, limits, clock):
    """Nobody could renew it, and what it held may be somebody else's."""
    heat(slices)
    first = slices.take(KEY, STEPS)
    limits.store.release(part_of(first)[0])  # as its end does
    clock.advance(LEASED_FOR / 4)
    slices.look()
    heat_again = [slices.take(KEY, STEPS) for _ in range(HOT + 1)]
    assert part_of(first)[0] not in {part_of(id)[0] for id in heat_again if id}

    second = slices.take(KEY, STEPS)
    clock.advance(LEASED_FOR)
    third = slices.take(KEY, STEPS)
    assert third is None or part_of(third)[0] != part_of(second)[0]
