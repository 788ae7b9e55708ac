"""Accounts that follow what somebody else says of them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_metering.errors import LimitStoreError
from llm_metering.limits import Account, Grant, Recurrence, RemoteBalance
from llm_metering.limits.written import read_account, written

from .model import START

LAG = timedelta(seconds=180)


def second(number):
    return START + timedelta(seconds=number)


def follow(account, asked_at=None, lag=LAG, **said):
    moment = account.as_of if asked_at is None else second(asked_at)
    return account.follow(RemoteBalance(**said), asked_at=moment, lag=lag)


@pytest.fixture
def account():
    """One that was told of 1,000, of which nothing was used."""
    account = Account(as_of=START)
    follow(account, balance=1000)
    return account


def is_balanced(account):
    return account.granted == account.left + account.burnt + account.lapsed


def test_what_was_burnt_lately_is_not_counted_there_yet(account):
    """It is subtracted from what is said, until it is sure to be in there."""
    account.advance(second(600))
    account.burn(300)
    account.advance(second(700))
    follow(account, balance=1000)
    assert (account.left, account.usage) == (700, 300)

    follow(account, balance=700, usage=300)
    assert (account.left, account.usage) == (400, 600)

    account.advance(second(900))
    follow(account, balance=700, usage=300)
    assert (account.left, account.usage, account.overage) == (700, 300, 0)
    assert is_balanced(account)


def test_a_minute_counts_as_a_whole(account):
    """What was burnt in the one in which the time begins that the server may lag behind."""
    account.advance(second(615))
    account.burn(300)
    account.advance(second(790))
    follow(account, balance=1000)
    assert account.left == 700
    account.advance(second(840))
    follow(account, balance=1000)
    assert account.left == 1000


def test_what_the_server_has_not_even_for_what_it_counted_is_overage(account):
    """Grants that come later pay for it."""
    account.advance(second(60))
    account.burn(30)
    follow(account, balance=0, usage=1020, overage=20)
    assert (account.left, account.overage, account.usage) == (0, 50, 1050)

    follow(account, balance=80, usage=1020)
    assert (account.left, account.overage) == (50, 0)


def test_an_answer_that_was_asked_for_earlier_changes_nothing(account):
    """Whichever comes last."""
    account.advance(second(100))
    assert follow(account, 90, balance=500, usage=500)
    assert not follow(account, 80, balance=900, usage=100)
    assert account.left == 500
    assert follow(account, 90, balance=400, usage=600)


def test_an_answer_that_comes_much_too_late_is_none(account):
    """Nobody knows any more what was burnt since it was asked for."""
    account.advance(second(100))
    account.burn(10)
    account.advance(second(3600))
    with pytest.raises(LimitStoreError, match="too long ago"):
        follow(account, 100, balance=5000)
    assert account.left == 990


def test_what_was_burnt_long_ago_is_forgotten(account):
    """An account does not grow with its age."""
    for minute in range(100):
        account.advance(second(60 * minute))
        account.burn(1)
    assert len(account.mirror.recent) == 16
    account.advance(second(7200))
    follow(account, balance=900, usage=100)
    assert account.mirror.recent == {}


def test_what_was_granted_here_is_replaced():
    """Two books of one balance would be none."""
    account = Account(as_of=START, period=Recurrence(interval="DAY", anchor=START))
    account.add(Grant(id="a", amount=70, created_at=START, effective_at=START))
    account.burn(20)
    follow(account, balance=10, usage=5)
    account.advance(second(90_000))
    assert (account.left, account.usage, account.period) == (10, 5, None)
    assert is_balanced(account)


def test_a_soft_one_is_soft_and_one_without_access_has_nothing(account):
    assert not account.is_soft
    follow(account, is_soft=True)
    assert (account.is_soft, account.left, account.holdings) == (True, 0, [])
    follow(account)
    assert (account.is_soft, account.left) == (False, 0)


def test_a_new_usage_period_has_thresholds_of_its_own(account):
    """What was granted tells its notices apart, and what was announced begins anew."""
    account.advance(second(600))
    follow(account, balance=100, usage=900)
    account.announced, granted = 80, account.granted
    follow(account, balance=100, usage=900)
    assert (account.announced, account.granted) == (80, granted)

    follow(account, balance=990, usage=10)
    assert account.announced == 1
    assert account.granted == granted + 1000
    assert is_balanced(account)


def test_a_top_up_lets_a_threshold_be_reached_again_only_if_it_is_behind_it(account):
    account.advance(second(600))
    follow(account, balance=100, usage=900)
    account.announced = 80
    follow(account, balance=200, usage=900)
    assert account.announced == 80
    follow(account, balance=2100, usage=900)
    assert account.announced == 30


def test_it_is_kept_as_it_is(account):
    account.advance(second(100))
    account.burn(7)
    assert read_account(written(account)) == account
    assert "mirror" not in written(Account(as_of=START))


delays = st.one_of(st.integers(0, 180), st.integers(170, 180))
steps = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.integers(0, 400)),
        st.tuples(st.just("burn"), st.integers(1, 50), delays),
        st.tuples(st.just("elsewhere"), st.integers(1, 50), delays),
        st.tuples(st.just("refresh"), st.integers(90, 200)),
        st.tuples(st.just("grant"), st.integers(1, 100)),
        st.tuples(st.just("ask"), st.integers(0, 5)),
        st.tuples(st.just("answer"), st.integers(0, 3)),
    ),
    max_size=60,
)


@settings(max_examples=400)
@given(steps)
def test_there_is_never_more_here_than_is_left_there(steps):
    """However long usage of ours is on its way, within the lag, and whichever answer comes first.

    What was used elsewhere is not known here before the server says so; what is left is compared with
    what it knew of that when it was asked.
    """
    account = Account(as_of=START)
    granted, events, asked, now = 500, [], [], 0
    trusted = []

    def answer(moment):
        counted = [each for each in events if each[0] + each[2] <= moment]
        usage = sum(amount for _, amount, _, _ in counted)
        elsewhere = sum(amount for _, amount, _, ours in counted if not ours)
        said = RemoteBalance(
            balance=max(granted - usage, 0), usage=usage, overage=max(usage - granted, 0)
        )
        return said, granted - elsewhere

    said, known = answer(0)
    account.follow(said, asked_at=START, lag=LAG)
    trusted.append((0, known))
    for name, *numbers in steps:
        match name:
            case "wait":
                now += numbers[0]
            case "burn":
                account.advance(second(now))
                account.burn(numbers[0])
                events.append((now, numbers[0], numbers[1], True))
            case "elsewhere":
                events.append((now, numbers[0], numbers[1], False))
            case "grant":
                granted += numbers[0]
            case "refresh":
                now += numbers[0]
                account.advance(second(now))
                said, known = answer(now)
                account.follow(said, asked_at=second(now), lag=LAG)
                trusted.append((now, known))
            case "ask":
                # The server looks at its books some time after it was asked.
                asked.append((now, *answer(now + numbers[0])))
                now += numbers[0]
            case "answer" if asked:
                moment, said, known = asked.pop(numbers[0] % len(asked))
                account.advance(second(now))
                if now - moment > 700:
                    continue  # no question is open for so long
                if account.follow(said, asked_at=second(moment), lag=LAG):
                    trusted.append((moment, known))
        ours = sum(amount for _, amount, _, is_ours in events if is_ours)
        assert account.left <= max(trusted[-1][1] - ours, 0)
        assert is_balanced(account)
        assert read_account(written(account)) == account
