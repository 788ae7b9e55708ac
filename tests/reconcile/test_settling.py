"""What is missing and what is only not there yet: our books, and the server's lag."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import time

import pytest

from llm_metering import Meter, TokenUsage
from llm_metering.events import new_event_id
from llm_metering.ledger import Ledger
from llm_metering.ledger.intake import Intake
from llm_metering.ledger.intake_values import Bookmark, Stretch
from llm_metering.reconcile.attempts import note_replay
from llm_metering.sinks.base import SinkLimits
from llm_metering.testing import OpenMeterServer
from llm_metering.testing.faults import (
    Lag,
    LostAfterAccept,
    Poison,
    Reset,
)
from llm_metering.transport.cursor import Cursor
from llm_metering.transport.operations import drain_home, forget_debt
from llm_metering.transport.spool import Spool, debt_of

from .conftest import METERS, NOON, SOURCE, Shop, by_kind
from .test_faults import numbered

HOUR = 3600.0


def files_of(folder):
    """What is in each file, and when it was written; how a sink is, a living meter writes any time."""
    return {
        path: (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if ".sink" not in path.suffixes and path.is_file()
    }


def payloads(shop, *ids):
    """Events as they were recorded."""
    ledger = Ledger(shop.home / "ledger.db")
    found = ledger.payloads(ids, source=SOURCE)
    ledger.close()
    return [json.loads(found[each]) for each in ids]


def written_later(shop):
    """Two hours from now: as if the journal had been written to until then."""
    later = time.time() + 2 * HOUR
    for path in (shop.home / "journal").rglob("*"):
        if path.suffix in (".seg", ".ack"):
            os.utime(path, (later, later))
    return later


class TestALaggingServer:
    """What it was given a moment ago may be listed later."""

    def test_is_not_sent_anything_again(self, shop, server):
        """All of it is unsettled, and nothing may be sent."""
        server.order(Lag(matches=numbered(*range(5, 30))), times=None)
        ids = shop.record(30)

        with shop.reconciling(lag=HOUR) as reconciler:
            reconciler.compare()
            assert by_kind(reconciler) == {"unsettled": set(ids[5:])}
            assert reconciler.to_resend() == []
            assert {finding.is_fault for finding in reconciler.findings.values()} == {False}

        assert server.catch_up() == 25
        assert shop.compare(lag=HOUR) == {}

    def test_that_catches_up_between_two_looks(self, shop, server):
        """The second look finds it: there is nothing to be said of it."""
        server.order(Lag(), times=None)
        shop.record(30)

        def report(what, _done, _total):
            if what == "settle":
                server.catch_up()

        with shop.reconciling(on_progress=report) as reconciler:
            reconciler.compare()

        assert reconciler.findings == {}
        assert reconciler.well == 30

    def test_that_lists_what_came_later(self, shop, server):
        """After the lag, and with something later in its lists, what it does not list is missing."""
        server.order(LostAfterAccept(matches=numbered(5)), times=None)
        ids = shop.record(30)
        server.preload(
            [{"id": "later", "source": "x", "type": "x", "subject": "x"}],
            stored_at=time.time() + 1.5 * HOUR,
        )

        with shop.reconciling(lag=HOUR, clock=lambda: time.time() + 2 * HOUR) as reconciler:
            reconciler.compare()

        assert by_kind(reconciler) == {"missing": {ids[5]}}

    def test_that_stands_still(self, shop, server):
        """However long ago: while it lists nothing that came later, it may be behind with all."""
        server.order(LostAfterAccept(matches=numbered(29)), times=None)
        ids = shop.record(30)
        for path in (shop.home / "journal").rglob("*.seg"):
            os.utime(path)

        with shop.reconciling(lag=HOUR, clock=lambda: time.time() + 99 * HOUR) as reconciler:
            reconciler.compare()
            (finding,) = reconciler.findings.values()

        assert (finding.kind, finding.event.id) == ("unsettled", ids[29])
        assert "stand still" in finding.reason

    @pytest.mark.parametrize("api", ["v1", "v3"])
    @pytest.mark.parametrize("ahead", [-HOUR, HOUR])
    @pytest.mark.parametrize("kind", ["unsettled", "missing"])
    def test_whose_clock_is_another(self, tmp_path, api, ahead, kind):
        """What it took in later is later by its own clock, which its answers tell."""
        with OpenMeterServer(meters=METERS, clock=lambda: time.time() + ahead) as server:
            shop = Shop(tmp_path / "home", server, f"api={api}")
            server.order(LostAfterAccept(matches=numbered(5)), times=None)
            ids = shop.record(30)
            if kind == "missing":
                server.preload(
                    [{"id": "later", "source": "x", "type": "x", "subject": "x"}],
                    stored_at=time.time() + ahead + HOUR / 2,
                )

            assert shop.compare(lag=HOUR, clock=lambda: time.time() + 2 * HOUR) == {kind: {ids[5]}}

    def test_an_event_that_others_followed(self, shop, server):
        """A listed event that was given to it later says how long ago that was, at the least."""
        server.order(LostAfterAccept(matches=numbered(3)), times=None)
        with Meter(home=shop.home, sinks=[shop.url], source=SOURCE) as meter:
            ids = shop.record_with(meter, 30)
            later = written_later(shop)

            assert shop.compare(lag=HOUR, clock=lambda: later) == {"missing": {ids[3]}}

    def test_a_batch_that_was_sent_twice(self, shop, server):
        """What others of it say is when it was sent first; the last time may be a moment ago."""
        server.order(LostAfterAccept(matches=numbered(3)), Reset("after"))
        server.order(Lag(matches=numbered(3)), times=None)
        with Meter(home=shop.home, sinks=[shop.url], source=SOURCE) as meter:
            ids = shop.record_with(meter, 30)
            later = written_later(shop)

            assert shop.compare(lag=HOUR, clock=lambda: later) == {"unsettled": {ids[3]}}

        assert server.catch_up() == 1
        assert shop.compare() == {}

    def test_an_old_event_that_was_delivered_just_now(self, shop, server):
        """Not the time of the call counts, but when the server was given it."""
        server.order(Lag(), times=None)
        ids = shop.record(10)  # of yesterday, by their time

        assert shop.compare(lag=HOUR) == {"unsettled": set(ids)}


class TestOurOwnBooks:
    """What they owe to the server cannot be missing there."""

    def test_what_is_owed_waits(self, shop, server):
        """An event that is not delivered is no fault, and is not sent by this."""
        ids = shop.leave(10)
        with shop.reconciling() as reconciler:
            reconciler.compare()
            assert by_kind(reconciler) == {"waiting": set(ids)}
            assert reconciler.to_resend() == []

        drain_home(shop.home, source=SOURCE, sinks=[shop.sink()], timeout=20)
        assert shop.compare() == {}

    def test_what_is_in_doubt_is_suspect(self, shop, server):
        """It is said of each whether it is listed, and none of it is a fault."""
        ids = shop.leave(10)
        spool = Spool(shop.home)
        (name,) = spool.segments()
        cursor = Cursor.acquire(spool, name, debt_of(shop.sink()))
        # As a process leaves it that dies before it knows the answer to its first four events.
        cursor.doubt(cursor.peek(SinkLimits(max_events=4)), now=time.time())
        cursor.close()
        server.preload(payloads(shop, *ids[:2]))

        with shop.reconciling() as reconciler:
            reconciler.compare()
            assert by_kind(reconciler) == {"suspect": set(ids[:4]), "waiting": set(ids[4:])}
            listed = [reconciler.findings[each].listed for each in ids[:4]]
            assert listed == [1, 1, 0, 0]
            assert not any(finding.is_fault for finding in reconciler.findings.values())
            assert reconciler.to_resend() == []

    def test_they_are_read_and_not_touched(self, shop, server):
        """A meter that lives goes on beside it, and no file of the journal is another one after it."""
        server.order(LostAfterAccept(matches=numbered(3)), times=None)
        with Meter(home=shop.home, sinks=[shop.url], source=SOURCE) as meter:
            ids = [
                meter.record(
                    TokenUsage(input_tokens=100 + each, output_tokens=7), "acme", time=NOON
                ).id
                for each in range(10)
            ]
            assert meter.flush(20)
            before = files_of(shop.home / "journal")

            assert shop.compare() == {"missing": {ids[3]}}

            assert files_of(shop.home / "journal") == before
            assert meter.statistics()["sinks"][1]["acked"] == 10
        assert not (shop.home / "reconcile").exists()

    def test_dead_letters(self, shop, server):
        """They are named with their reason; one that is listed all the same can be dropped."""
        server.order(Poison(matches=numbered(3)), times=None)
        ids = shop.record(30)
        server.clear()

        with shop.reconciling() as reconciler:
            reconciler.compare()
            assert by_kind(reconciler) == {"dead": {ids[3]}}
            (finding,) = reconciler.findings.values()
            assert finding.is_fault
            assert finding.reason.startswith("400 Bad Request")
            assert finding.tokens_off == -110
            assert reconciler.to_resend() == []

        server.preload(
            [{"specversion": "1.0", "id": ids[3], "source": SOURCE, "type": "x", "subject": "x"}]
        )
        (kind,) = shop.compare()
        assert kind == "different"

    def test_a_dead_letter_that_arrived(self, shop, server):
        """It is no fault any more."""
        server.order(Poison(matches=numbered(3)), times=None)
        ids = shop.record(30)
        server.clear()
        server.preload(payloads(shop, ids[3]))

        with shop.reconciling() as reconciler:
            reconciler.compare()
        (finding,) = reconciler.findings.values()

        assert (finding.kind, finding.listed, finding.is_fault) == ("dead", 1, False)

    def test_a_record_that_cannot_be_sent(self, shop, server):
        """What is no event any more, on a medium gone bad, is named and holds up no other."""
        ids = shop.record(5)
        with contextlib.closing(sqlite3.connect(shop.home / "ledger.db")) as ledger:
            ledger.execute("UPDATE events SET payload = '{\"id\": 7}' WHERE id = ?", (ids[2],))
            ledger.commit()

        with shop.reconciling() as reconciler:
            reconciler.compare()

        (finding,) = reconciler.findings.values()
        assert (finding.kind, finding.event.record, finding.is_fault) == ("dead", ids[2], True)
        assert finding.reason.startswith("no CloudEvent")
        assert reconciler.well == 4

    def test_a_sink_that_came_later(self, tmp_path, server):
        """What was recorded before it was there was never owed to it: said so, and not sent."""
        shop = Shop(tmp_path / "home", server)
        url, shop.url = shop.url, "memory:"
        before = shop.record(5)
        shop.url = url
        shop.record(5, first=5)

        with shop.reconciling() as reconciler:
            reconciler.compare()
            assert by_kind(reconciler) == {"not_owed": set(before)}
            assert reconciler.to_resend() == []

    @pytest.mark.parametrize("lag", [0.0, HOUR])
    @pytest.mark.parametrize("own", [0, 2])
    def test_what_other_hosts_have_recorded(self, shop, server, lag, own):
        """It was taken from a broker and is in no books here: its host may deliver it at any moment."""
        shop.record(own)
        host = Shop(shop.home.parent / "host", server)
        ids = host.leave(3)
        events = [json.dumps(each).encode() for each in payloads(host, *ids)]
        with contextlib.closing(Intake(shop.home / "ledger.db")) as intake:
            taken = Stretch(
                partition=0,
                expected=None,
                next_offset=3,
                bookmark=Bookmark(2, b"digest"),
                events=list(enumerate(events)),
            )
            intake.commit("cluster", "usage", [taken], now=NOON)

        with shop.reconciling(lag=lag) as reconciler:
            reconciler.compare()

            assert by_kind(reconciler) == {"unsettled": set(ids)}
            assert reconciler.to_resend() == []

    def test_what_was_replayed_a_moment_ago(self, shop, server):
        """No journal says that it was sent: the note that `llm-metering replay` leaves does."""
        server.order(LostAfterAccept(matches=numbered(3)), times=None)
        ids = shop.record(30)
        server.preload(
            [{"id": "later", "source": "x", "type": "x", "subject": "x"}],
            stored_at=time.time() + 3 * HOUR,
        )
        options = {"lag": HOUR, "clock": lambda: time.time() + 2 * HOUR}
        assert shop.compare(**options) == {"missing": {ids[3]}}

        note_replay(shop.home, debt_of(shop.sink()))
        now = time.time() + 2 * HOUR
        os.utime(next((shop.home / "reconcile").glob("*.replayed")), (now, now))

        assert shop.compare(**options) == {"unsettled": {ids[3]}}

    def test_a_home_that_owed_nothing(self, tmp_path, server):
        """A ledger that others filled says nothing of what they delivered."""
        shop = Shop(tmp_path / "home", server)
        ids = shop.leave(5)
        shutil.rmtree(shop.home / "journal")
        server.preload([{"id": "newer", "source": "x", "type": "x", "subject": "x"}])

        with shop.reconciling(lag=HOUR, clock=lambda: time.time() + 99 * HOUR) as reconciler:
            reconciler.compare()

        assert by_kind(reconciler) == {"unsettled": set(ids)}
        assert {"books do not say" in each.reason for each in reconciler.findings.values()} == {
            True
        }
        assert shop.compare() == {"missing": set(ids)}  # whoever says so knows it

    def test_a_ledger_that_others_fill(self, shop, server):
        """What another home recorded that home may owe yet; what this one has delivered is missing."""
        server.order(LostAfterAccept(matches=numbered(3)), times=None)
        ids = shop.record(30)
        server.preload(
            [{"id": "later", "source": "x", "type": "x", "subject": "x"}],
            stored_at=time.time() + 3 * HOUR,
        )
        (event,) = payloads(shop, ids[0])
        foreign = new_event_id()
        Intake(shop.home / "ledger.db").commit(
            "cluster",
            "topic",
            [
                Stretch(
                    partition=0,
                    expected=None,
                    next_offset=1,
                    events=[(0, json.dumps({**event, "id": foreign}).encode())],
                )
            ],
            now=NOON,
        )

        assert shop.compare(lag=HOUR, clock=lambda: time.time() + 2 * HOUR) == {
            "missing": {ids[3]},
            "unsettled": {foreign},
        }

    def test_what_was_forgotten(self, shop, server):
        """It is missing, and the books say how many events were given up."""
        ids = shop.leave(4)
        spool = Spool(shop.home)
        assert forget_debt(spool, debt_of(shop.sink())).events == 4

        with shop.reconciling() as reconciler:
            reconciler.compare()

        assert by_kind(reconciler) == {"missing": set(ids)}
        assert reconciler.books.dropped == 4
