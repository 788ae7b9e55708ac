"""What is missing is sent again: only that, as it was, and not what others have sent since."""

from __future__ import annotations

import time

import pytest

from llm_metering.errors import ReconcileError
from llm_metering.reconcile.attempts import Attempts, note_replay
from llm_metering.testing.faults import (
    ClaimBeforeWrite,
    Lag,
    LostAfterAccept,
    Refuse,
)
from llm_metering.transport.spool import debt_of

from .conftest import Shop, by_kind
from .test_faults import numbered
from .test_settling import HOUR


def resent(server):
    """The ids that came more than once."""
    ids = [event["id"] for batch in server.batches for event in batch]
    return {each for each in ids if ids.count(each) > 1}


class TestSendingAgain:
    """Only what is missing, as it was, and not again and again."""

    @pytest.mark.parametrize("parameters", ["", "shape=kind", "api=v3&shape=kind"])
    @pytest.mark.parametrize("dedupe", [True, False])
    def test_what_was_lost_arrives(self, tmp_path, server, parameters, dedupe):
        """Each wire event that was missing is there once then, and no other came twice."""
        shop = Shop(tmp_path / "home", server, parameters)
        server.dedupe = dedupe
        server.order(LostAfterAccept(matches=numbered(3, 7, 19)), times=None)
        shop.record(20)
        server.clear()

        with shop.reconciling() as reconciler:
            reconciler.compare()
            missing = by_kind(reconciler)["missing"]
            assert len(missing) == 3
            reconciler.resend(reconciler.to_resend())
            reconciler.add_totals()

        assert by_kind(reconciler) == {"recovered": missing}
        assert resent(server) == missing
        assert all(totals.is_explained for totals in reconciler.meters)
        assert shop.compare() == {}

    def test_it_is_remembered(self, shop, server):
        """What was taken in vain waits until the server may have forgotten it, three times at most."""
        server.order(ClaimBeforeWrite(matches=numbered(3)), times=None)
        ids = shop.record(20)
        server.clear()
        now = time.time()

        for attempt, hours in enumerate((0, 25, 50)):
            clock = lambda hours=hours: now + hours * HOUR  # noqa: E731
            with shop.reconciling(clock=clock) as reconciler:
                reconciler.compare()
                (event,) = reconciler.to_resend()
                assert event.id == ids[3]
                reconciler.resend([event])
                assert by_kind(reconciler) == {"claimed": {ids[3]}}
                assert reconciler.findings[ids[3]].attempts == attempt + 1
                assert reconciler.to_resend() == []
        with shop.reconciling(clock=lambda: now + 99 * HOUR) as reconciler:
            reconciler.compare()
            assert reconciler.to_resend() == []
        with shop.reconciling(force=True) as reconciler:
            reconciler.compare()
            assert len(reconciler.to_resend()) == 1

    def test_on_a_server_that_may_be_behind(self, shop, server):
        """What was sent again and is not listed at once is not called claimed yet."""
        server.order(LostAfterAccept(matches=numbered(3)), times=None)
        ids = shop.record(20)
        server.clear()
        server.order(Lag(), times=None)
        later = time.time() + 2 * HOUR
        server.preload(
            [{"id": "later", "source": "x", "type": "x", "subject": "x"}], stored_at=later
        )

        with shop.reconciling(lag=HOUR, clock=lambda: later) as reconciler:
            reconciler.compare()
            assert by_kind(reconciler) == {"missing": {ids[3]}}
            reconciler.resend(reconciler.to_resend())
            assert by_kind(reconciler) == {"unsettled": {ids[3]}}
            assert reconciler.to_resend() == []

        # What counts from then on is when it was sent again.
        soon, at_last = later + HOUR / 2, later + 3 * HOUR
        server.preload(
            [{"id": "last", "source": "x", "type": "x", "subject": "x"}], stored_at=at_last
        )
        assert shop.compare(lag=HOUR, clock=lambda: soon) == {"unsettled": {ids[3]}}
        assert shop.compare(lag=HOUR, clock=lambda: at_last) == {"claimed": {ids[3]}}
        server.catch_up()
        assert shop.compare(lag=HOUR) == {}

    def test_a_partition_that_lags(self, shop, server):
        """That others arrived says nothing of what lies in another partition of the server's topic."""
        server.order(LostAfterAccept(matches=numbered(3, 7)), times=None)
        ids = shop.record(20)
        server.clear()
        server.order(Lag(matches=numbered(3)), times=None)
        later = time.time() + 2 * HOUR
        server.preload(
            [{"id": "later", "source": "x", "type": "x", "subject": "x"}], stored_at=later
        )

        with shop.reconciling(lag=HOUR, clock=lambda: later) as reconciler:
            reconciler.compare()
            reconciler.resend(reconciler.to_resend())

        assert by_kind(reconciler) == {"recovered": {ids[7]}, "unsettled": {ids[3]}}

    def test_it_took_long(self, shop):
        """What counts is when the last of them was sent, which may be hours after the first."""
        shop.record(1)
        attempts = Attempts(shop.home, debt_of(shop.sink()))

        with attempts.alone():
            attempts.begin(["a", "b", "c"], now=1000)
            attempts.end(["a", "b", "c"], ["a"], ["c"], now=9000)

        again = Attempts(shop.home, debt_of(shop.sink()))
        assert [(again.of(each).last, again.of(each).taken) for each in "abc"] == [
            (9000, True),
            (9000, False),
            (0, False),
        ]

    @pytest.mark.parametrize("lags", [False, True])
    def test_two_one_after_the_other(self, shop, server, lags):
        """What another run has sent since this one looked is not sent once more."""
        server.dedupe = False
        server.order(LostAfterAccept(matches=numbered(3, 7)), times=None)
        ids = shop.record(20)
        server.clear()
        if lags:
            server.order(Lag(), times=None)

        with shop.reconciling() as asking:
            asking.compare()
            events = asking.to_resend()
            with shop.reconciling() as faster:
                faster.compare()
                faster.resend(faster.to_resend())
            sent = len(server.batches)

            asking.resend(events)

        assert len(server.batches) == sent
        assert by_kind(asking) == ({"unsettled": {ids[3], ids[7]}} if lags else {})
        server.catch_up()
        assert shop.compare() == {}

    def test_a_replay_while_a_person_was_asked(self, shop, server):
        """What that sent may not be listed yet."""
        server.order(LostAfterAccept(matches=numbered(3)), times=None)
        ids = shop.record(20)
        server.clear()

        with shop.reconciling() as reconciler:
            reconciler.compare()
            events = reconciler.to_resend()
            note_replay(shop.home, debt_of(shop.sink()))
            reconciler.resend(events)

        assert by_kind(reconciler) == {"unsettled": {ids[3]}}
        assert resent(server) == set()

    def test_a_server_that_refuses_it(self, shop, server):
        """It stays missing, with what the server said."""
        server.order(LostAfterAccept(matches=numbered(3)), times=None)
        ids = shop.record(20)
        server.clear()
        server.order(Refuse(403), times=None)

        with shop.reconciling() as reconciler:
            reconciler.compare()
            reconciler.resend(reconciler.to_resend())
            (finding,) = reconciler.findings.values()

        assert (finding.kind, finding.event.id) == ("missing", ids[3])
        assert "403" in finding.reason

    def test_two_at_once(self, shop, server):
        """The second one says that another is at it, and sends nothing."""
        server.order(LostAfterAccept(matches=numbered(3)), times=None)
        shop.record(20)
        server.clear()
        attempts = Attempts(shop.home, debt_of(shop.sink()))

        with shop.reconciling() as reconciler, attempts.alone():
            reconciler.compare()
            with pytest.raises(ReconcileError, match="another llm-metering reconcile"):
                reconciler.resend(reconciler.to_resend())

        assert resent(server) == set()

    def test_a_note_of_attempts_that_cannot_be_read(self, shop, server):
        """Nobody guesses what was sent before."""
        shop.record(2)
        path = shop.home / "reconcile" / f"{debt_of(shop.sink()).key}.json"
        path.parent.mkdir()
        path.write_text("{")

        with pytest.raises(ReconcileError, match="cannot be read"), shop.reconciling():
            pass
