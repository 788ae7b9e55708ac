"""Grants that usage burns down."""

from contextlib import closing
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_metering.errors import InvalidArgumentError
from llm_metering.limits import FEATURES, Account, Grant, Limits, Recurrence, SQLiteStore

from .model import START, Model, hour


def grant(name="a", amount=100, *, at=0, until=None, made=0, **more):
    return Grant(
        id=name,
        amount=amount,
        created_at=hour(made),
        effective_at=hour(at),
        expires_at=None if until is None else hour(until),
        **more,
    )


def left(account):
    return {each.grant.id: each.left for each in account.holdings}


def is_balanced(account):
    assert account.granted == account.left + account.burnt + account.lapsed
    return True


def test_usage_burns_the_lower_priority_then_the_sooner_end_then_the_older():
    account = Account(as_of=START)
    for each in (
        grant("never", made=0),
        grant("later", until=50, made=0),
        grant("sooner", until=20, made=3),
        grant("newer", until=20, made=4),
        grant("first", priority=1, made=9),
    ):
        account.add(each)
    burnt = []
    for _ in range(5):
        before = left(account)
        account.burn(100)
        burnt += [name for name, amount in left(account).items() if amount != before[name]]
    assert burnt == ["first", "sooner", "newer", "later", "never"]
    account.burn(30)
    assert (account.left, account.overage, account.usage) == (0, 30, 530)
    assert is_balanced(account)


def test_usage_beyond_all_grants_is_burnt_by_the_next_one():
    account = Account(as_of=START)
    account.burn(30)
    account.add(grant("next", 100, at=5))
    assert (account.overage, account.left) == (30, 0)
    account.advance(hour(5))
    assert (account.overage, account.left) == (0, 70)


def test_a_grant_that_comes_again_is_all_there_again():
    """What was left of it is gone, and what was used of it does not count any more."""
    daily = Recurrence(interval="DAY", anchor=START)
    account = Account(as_of=START)
    account.add(grant(amount=10, recurrence=daily))
    account.burn(4)
    account.advance(hour(23))
    assert account.left == 6
    account.advance(hour(24))
    assert (account.left, account.lapsed) == (10, 6)
    account.burn(15)
    assert (account.left, account.overage) == (0, 5)
    account.advance(hour(24 * 4))
    assert (account.left, account.overage) == (10, 0)
    assert is_balanced(account)


def test_a_usage_period_keeps_what_rolls_over():
    account = Account(as_of=START, period=Recurrence(interval="DAY", anchor=START))
    account.add(grant("gone"))
    account.add(grant("kept", max_rollover=30, priority=200))
    account.add(grant("filled", min_rollover=20, max_rollover=30, priority=1))
    account.add(grant("begins", 7, at=24, min_rollover=5, max_rollover=5))
    account.burn(150)
    account.advance(hour(24))
    assert left(account) == {"gone": 0, "kept": 30, "filled": 20, "begins": 7}
    assert (account.usage, account.overage, account.granted) == (0, 0, 300 + 20 + 7)
    assert is_balanced(account)


@pytest.mark.parametrize(("preserves", "expected"), [(False, (20, 0)), (True, (15, 0))])
def test_overage_is_carried_over_if_that_is_wanted(preserves, expected):
    daily = Recurrence(interval="DAY", anchor=START)
    account = Account(as_of=START, period=daily, preserves_overage=preserves)
    account.add(grant(amount=20, recurrence=daily))
    account.burn(25)
    account.advance(hour(24))
    assert (account.left, account.overage) == expected
    assert account.forgiven == (0 if preserves else 5)


def test_a_grant_that_is_taken_back():
    """What was left of it is gone, what was used stays used; it is done once."""
    account = Account(as_of=START)
    account.add(grant(recurrence=Recurrence(interval="DAY", anchor=START)))
    account.burn(30)
    account.advance(hour(1))
    assert account.void("a")
    assert not account.void("a")
    assert not account.void("b")
    account.advance(hour(100))
    assert (account.left, account.burnt, account.lapsed, account.overage) == (0, 30, 70, 0)


def test_an_id_names_one_grant():
    """Who grants under the same id again hears of it, and nothing is granted twice."""
    account = Account(as_of=START)
    account.add(grant())
    with pytest.raises(InvalidArgumentError, match="a grant a already"):
        account.add(grant(amount=5))
    assert account.left == 100


def test_a_clock_that_goes_back_changes_nothing():
    account = Account(as_of=hour(5))
    account.add(grant(until=10))
    account.advance(hour(3))
    assert (account.as_of, account.left) == (hour(5), 100)


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"amount": 0}, "amount is more than 0"),
        ({"name": ""}, "needs an id"),
        ({"priority": 0}, "from 1 to 255"),
        ({"priority": 256}, "from 1 to 255"),
        ({"min_rollover": 5}, "min_rollover is from 0"),
        ({"at": 5, "until": 5}, "is behind effective_at"),
    ],
)
def test_what_is_no_grant_is_refused(more, named):
    with pytest.raises(InvalidArgumentError, match=named):
        grant(**more)
    with pytest.raises(InvalidArgumentError, match="needs a time zone"):
        Grant(id="a", amount=1, created_at=START, effective_at=START.replace(tzinfo=None))


@st.composite
def grants(draw, name):
    at = draw(st.integers(0, 60))
    rollover = draw(st.integers(0, 40))
    recurs = draw(st.sampled_from([None, None, "HOUR", "DAY"]))
    return grant(
        name,
        draw(st.integers(1, 60)),
        at=at,
        until=draw(st.sampled_from([None, at + 1, at + 24, at + 30])),
        made=draw(st.integers(0, 3)),
        priority=draw(st.integers(1, 3)),
        min_rollover=draw(st.integers(0, rollover)),
        max_rollover=rollover,
        recurrence=None
        if recurs is None
        else Recurrence(interval=recurs, anchor=hour(draw(st.integers(0, 30)))),
    )


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 9).flatmap(lambda name: grants(f"g{name}"))),
        st.tuples(st.just("burn"), st.integers(0, 50)),
        st.tuples(st.just("wait"), st.integers(0, 30)),
        st.tuples(st.just("void"), st.sampled_from(["g0", "g1", "g2"])),
    ),
    max_size=25,
)


@settings(max_examples=400, deadline=None)
@given(steps=STEPS, is_periodic=st.booleans(), preserves=st.booleans())
def test_whatever_happens_it_is_as_a_reference_says(steps, is_periodic, preserves):
    """Hour by hour: the same is left of each grant, and nothing is made or lost on the way."""
    daily = Recurrence(interval="DAY", anchor=START)
    account = Account(
        as_of=START, period=daily if is_periodic else None, preserves_overage=preserves
    )
    model = Model(every=24 if is_periodic else None, preserves=preserves)
    names = set()
    burnt = 0
    for step, what in steps:
        if step == "add" and what.id not in names:
            names.add(what.id)
            account.add(what)
            model.add(what)
        elif step == "burn":
            burnt += what
            account.burn(what)
            model.burn(what)
        elif step == "void":
            account.void(what)
            model.void(what)
        elif step == "wait":
            model.wait_until(model.now + what)
            account.advance(hour(model.now) + timedelta(minutes=what % 60))
        assert left(account) == model.left
        assert (account.usage, account.overage) == (model.usage, model.overage)
        assert is_balanced(account)
        assert burnt == account.burnt + account.overage + account.forgiven


@pytest.mark.parametrize("unit", ["tokens", "credits", "money"])
def test_the_largest_amount_can_be_granted_many_times(unit, tmp_path):
    """And what is beyond it is refused, not written down wrongly."""
    with closing(SQLiteStore(tmp_path / "limits.db", FEATURES)) as store:
        limits = Limits(store, source="tests")
        largest = 10**15 if unit == "tokens" else 10**11
        for _ in range(60):
            limits.grant("acme", largest, unit)
        assert limits.balance("acme", unit).available == 60 * largest
        limits.reserve("acme", largest, unit)
        assert limits.balance("acme", unit).reserved == largest
        with pytest.raises(InvalidArgumentError):
            limits.grant("acme", largest * 100, unit)
