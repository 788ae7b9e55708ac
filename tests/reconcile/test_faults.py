"""Every fault of a server is found, by its name, and nothing else: real deliveries over HTTP."""

from __future__ import annotations

from collections import Counter

import pytest

from llm_metering.testing.faults import (
    ClaimBeforeWrite,
    LostAfterAccept,
    Reset,
)

from .conftest import Shop, by_kind

FORMS = [
    pytest.param("", id="v1, call"),
    pytest.param("api=v3", id="v3, call"),
    pytest.param("shape=kind", id="v1, kind"),
    pytest.param("api=v3&shape=kind", id="v3, kind"),
    pytest.param("shape=openai", id="v1, openai"),
]
KINDS = (":input", ":cache_read", ":output")


@pytest.fixture(params=FORMS)
def shop(request, tmp_path, server):
    """An application that sends what it records in one of several forms."""
    return Shop(tmp_path / "home", server, request.param)


def is_kind(shop):
    return "shape=kind" in shop.url


def on_the_wire(shop, *ids):
    """The ids that recorded events are sent under."""
    return {each + kind for each in ids for kind in (KINDS if is_kind(shop) else ("",))}


def numbered(*numbers):
    """Whether an event on the wire is of these calls: of which each has an own number of tokens."""
    totals = {107 + number for number in numbers}
    inputs = {36 + number for number in numbers}

    def hits(event):
        data = event["data"]
        return data.get("total_tokens") in totals or (
            data.get("type") == "input" and data["tokens"] in inputs
        )

    return hits


def hit(shop, ids, *numbers):
    """The ids on the wire that `numbered` hits."""
    return {ids[number] + (":input" if is_kind(shop) else "") for number in numbers}


def test_a_server_that_has_it_all(shop, server):
    """There is nothing to say of what arrived as it was sent."""
    ids = shop.record(250)

    with shop.reconciling() as reconciler:
        reconciler.compare()

    assert reconciler.findings == {}
    assert reconciler.well == reconciler.span.sent == len(on_the_wire(shop, *ids))
    assert server.violations == []


def test_lost_after_it_was_accepted(shop, server):
    """What a server said yes to and does not have is missing, with its tokens."""
    server.order(LostAfterAccept(matches=numbered(3, 120, 249)), times=None)
    ids = shop.record(250)

    with shop.reconciling() as reconciler:
        reconciler.compare()

    assert by_kind(reconciler) == {"missing": hit(shop, ids, 3, 120, 249)}
    tokens = 36 if is_kind(shop) else 107
    assert sorted(finding.tokens_off for finding in reconciler.findings.values()) == [
        -(tokens + number) for number in (249, 120, 3)
    ]


def test_doubled_by_a_lost_answer(shop, server):
    """What was sent twice to a server that does not deduplicate is doubled there."""
    server.dedupe = False
    server.order(Reset("after"))
    shop.record(30)
    times = Counter(event["id"] for event in server.events)
    twice = {each for each, count in times.items() if count == 2}

    assert len(twice) >= 15
    assert shop.compare() == {"doubled": twice}


def test_claimed_before_it_was_written(shop, server):
    """An id that a server noted before a write that failed is missing, and stays so."""
    server.order(ClaimBeforeWrite(matches=numbered(5)))
    ids = shop.record(30)

    with shop.reconciling() as reconciler:
        reconciler.compare()
        assert by_kind(reconciler) == {"missing": hit(shop, ids, 5)}
        reconciler.resend(reconciler.to_resend())
        assert by_kind(reconciler) == {"claimed": hit(shop, ids, 5)}
    with shop.reconciling() as reconciler:
        reconciler.compare()
        assert by_kind(reconciler) == {"claimed": hit(shop, ids, 5)}
        assert reconciler.to_resend() == []

    assert server.forget_claims() == 1
    with shop.reconciling(force=True) as reconciler:
        reconciler.compare()
        reconciler.resend(reconciler.to_resend())
        assert by_kind(reconciler) == {"recovered": hit(shop, ids, 5)}
    assert shop.compare() == {}


@pytest.mark.parametrize("shop", FORMS[:4], indirect=True)
def test_a_value_that_a_meter_cannot_read(shop):
    """An event whose value is no number is invalid, and the value is not repeated."""
    fine = shop.record(20, dimensions={"credits": "5"})
    wrong = shop.record(2, first=20, dimensions={"credits": "very many"})

    with shop.reconciling() as reconciler:
        reconciler.compare()

    assert by_kind(reconciler) == {"invalid": on_the_wire(shop, *wrong)}
    assert reconciler.well == len(on_the_wire(shop, *fine))
    reasons = {finding.reason for finding in reconciler.findings.values()}
    assert reasons == {"value cannot be parsed as float64"}


def test_all_of_them_at_once(tmp_path, server):
    """Planted among thousands, each is found and nothing else."""
    shop = Shop(tmp_path / "home", server)
    server.order(LostAfterAccept(matches=numbered(3, 700, 701, 1999)), times=None)
    server.order(ClaimBeforeWrite(matches=numbered(400)), times=None)
    ids = shop.record(2000)
    wrong = shop.record(3, first=2000, dimensions={"credits": "very many"})
    server.clear()
    server.dedupe = False
    doubled = shop.record(150, first=2003)
    server.preload(event for event in server.events if event["id"] in doubled[::7])
    server.preload(event for event in server.events if event["id"] == doubled[0])

    with shop.reconciling() as reconciler:
        reconciler.compare()

    assert by_kind(reconciler) == {
        "missing": {ids[3], ids[400], ids[700], ids[701], ids[1999]},
        "invalid": set(wrong),
        "doubled": set(doubled[::7]),
    }
    assert reconciler.findings[doubled[0]].listed == 4
    assert reconciler.findings[doubled[7]].listed == 2
    assert reconciler.well == 2153 - 5 - 3 - len(doubled[::7])
