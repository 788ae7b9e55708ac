"""Totals of a server's meters, each difference explained to the token."""

from __future__ import annotations

from decimal import Decimal

import pytest

from llm_metering.testing import OpenMeterServer
from llm_metering.testing.faults import LostAfterAccept

from .conftest import METERS, NOON, Shop
from .test_faults import numbered

FORMS = [
    pytest.param("", "tokens", id="v1, call"),
    pytest.param("api=v3", "tokens", id="v3, call"),
    pytest.param("shape=kind", "kinds", id="v1, kind"),
    pytest.param("api=v3&shape=kind", "kinds", id="v3, kind"),
    pytest.param("shape=openai", "example", id="v1, openai"),
]


def totals_of(shop, slug, **options):
    """What is said of one meter, by subject."""
    with shop.reconciling(**options) as reconciler:
        reconciler.compare()
        reconciler.add_totals()
    (totals,) = (each for each in reconciler.meters if each.slug == slug)
    return totals, {each.subject: each for each in totals.subjects}


@pytest.mark.parametrize(("parameters", "slug"), FORMS)
def test_a_server_that_has_it_all(tmp_path, server, parameters, slug):
    """It counts for each subject what was recorded."""
    shop = Shop(tmp_path / "home", server, parameters)
    shop.record(90)

    totals, subjects = totals_of(shop, slug)

    recorded = {
        f"customer-{each}": sum(107 + number for number in range(each, 90, 3)) for each in range(3)
    }
    assert {name: each.recorded for name, each in subjects.items()} == recorded
    assert {name: each.counted for name, each in subjects.items()} == recorded
    assert (totals.is_explained, totals.is_exact, totals.elsewhere) == (True, True, 0)


@pytest.mark.parametrize(("parameters", "slug"), FORMS)
def test_every_difference_is_explained(tmp_path, server, parameters, slug):
    """By what is missing, doubled or another, and by what others sent: nothing is left."""
    shop = Shop(tmp_path / "home", server, parameters)
    server.order(LostAfterAccept(matches=numbered(3, 4)), times=None)
    shop.record(90)
    server.clear()
    stored = server.events
    server.preload(stored[30:33])
    server.preload(
        {**event, "source": "another", "id": f"theirs-{number}"}
        for number, event in enumerate(stored[:5])
    )
    # The same application elsewhere, whose ledger is another.
    server.preload({**event, "id": f"{event['id']}-there"} for event in stored[60:67])
    # And a subject that nothing was recorded of here.
    server.preload([{**stored[0], "subject": "globex", "id": "globex-1"}])

    totals, subjects = totals_of(shop, slug)

    assert totals.is_explained, subjects
    assert any(each.explained for each in subjects.values())
    assert any(each.others for each in subjects.values())
    assert {each.unexplained for each in subjects.values()} == {Decimal(0)}
    assert sum(each.counted for each in subjects.values()) + totals.elsewhere_counted == sum(
        event["data"].get("total_tokens", event["data"].get("tokens")) for event in server.events
    )
    assert totals.elsewhere == 1


def test_what_cannot_be_explained(shop, server):
    """A sum that no event accounts for is reported as it is."""
    shop.record(30)

    with shop.reconciling() as reconciler:
        reconciler.compare()
        # As if a meter had lost its way: it sums what no list shows.
        reconciler.span.sums["tokens"]["customer-1"] += 5
        reconciler.add_totals()

    (totals,) = (each for each in reconciler.meters if each.slug == "tokens")
    assert {each.subject: each.unexplained for each in totals.subjects} == {
        "customer-0": 0,
        "customer-1": -5,
        "customer-2": 0,
    }
    assert not totals.is_explained


def test_sums_that_are_not_exact(tmp_path):
    """Beyond 2^53 a server's sums are said to be inexact: v3 writes a float64 as a decimal."""
    big = 10**12
    exact = {}
    for api in ("v1", "v3"):
        with OpenMeterServer(dedupe=False, meters=METERS[:1]) as server:
            shop = Shop(tmp_path / api, server, f"api={api}")
            shop.record(1)
            (event,) = server.events
            server.preload(
                {
                    **event,
                    "id": f"theirs-{number}",
                    "data": {**event["data"], "total_tokens": big + 1},
                }
                for number in range(10_000)
            )
            totals, _ = totals_of(shop, "tokens")
            exact[api] = totals.is_exact
    assert exact == {"v1": False, "v3": False}


def test_a_meter_that_begins_later(tmp_path):
    """What was before its beginning is in neither sum."""
    begins = NOON.replace(second=30)
    meter = {**METERS[0], "eventFrom": begins.isoformat().replace("+00:00", "Z")}
    with OpenMeterServer(meters=[meter]) as server:
        shop = Shop(tmp_path / "home", server)
        shop.record(60)
        totals, subjects = totals_of(shop, "tokens")

    assert totals.is_explained
    assert sum(each.recorded for each in subjects.values()) == sum(107 + n for n in range(30, 60))


def test_a_server_without_meters(tmp_path):
    """No totals are compared, and it is said why; the events are all the same."""
    with OpenMeterServer() as server:
        shop = Shop(tmp_path / "home", server)
        shop.record(5)
        with shop.reconciling() as reconciler:
            reconciler.compare()
            reconciler.add_totals()

    assert reconciler.meters == []
    assert reconciler.meters_note == "no meter of the server sums events of type llm.usage"
    assert reconciler.comparison.no_meter == 5
    assert reconciler.findings == {}


def test_others_that_are_too_many(shop, server):
    """Where they are too many, it is said that not all of them were looked at."""
    shop.record(3)
    (event, *_) = server.events
    server.preload(
        {**event, "id": f"theirs-{number}", "source": "another"} for number in range(250)
    )

    totals, subjects = totals_of(shop, "tokens")

    # All in one second, of which one page is all that can be asked for without a cursor.
    assert totals.was_cut_short
    assert not totals.is_explained
    assert 99 * 107 <= subjects["customer-0"].others <= 100 * 107
    assert subjects["customer-1"].others is None
