"""The latest events, over HTTP."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from .conftest import EVENTS, event


def ids(client, **asked):
    """Of the events of a list."""
    response = client.get(EVENTS, params=asked)
    assert response.status_code == 200
    return [each["event"]["id"] for each in response.json()]


@pytest.fixture
def filled(client, living):
    """A server with events of today, of the last days, and of long ago."""
    now = datetime.now(UTC).replace(microsecond=0)

    def ago(days):
        return f"{now - timedelta(days=days):%Y-%m-%dT%H:%M:%SZ}"

    sent = [
        event("new", time=ago(0)),
        event("older", time=ago(2), subject="globex"),
        event("oldest", time=ago(31)),
        event("ancient", time=ago(33)),
        event("other", time=ago(1), type="unknown"),
    ]
    assert client.post(EVENTS, json=sent).status_code == 204
    assert living[0].sources.flush(30)
    client.now = now
    client.sent = {each["id"]: each for each in sent}
    return client


def test_the_latest_come_first_and_as_they_were_sent(filled):
    """Of the last 32 days; with when they came, and whether a meter counts them."""
    response = filled.get(EVENTS)

    listed = {each["event"]["id"]: each for each in response.json()}
    assert list(listed) == ["new", "other", "older", "oldest"]
    assert all(each["event"] == filled.sent[id] for id, each in listed.items())
    for each in listed.values():
        moment = datetime.fromisoformat(each["ingestedAt"])
        assert filled.now - timedelta(seconds=1) <= moment <= datetime.now(UTC)
        assert each["storedAt"] == each["ingestedAt"]
    assert {id: each.get("validationError") for id, each in listed.items()} == {
        "new": None,
        "older": None,
        "oldest": None,
        "other": "no meter found for event type: unknown",
    }


def test_they_are_chosen_by_what_is_known_of_them(filled):
    """Period, subject, a part of the id, when they came, how many."""

    def ago(days):
        return (filled.now - timedelta(days=days)).isoformat()

    assert ids(filled, subject="globex") == ["older"]
    assert ids(filled, subject="glob") == []
    assert ids(filled, id="old") == ["older", "oldest"]
    assert ids(filled, limit=2) == ["new", "other"]
    assert ids(filled, **{"from": ago(2)}) == ["new", "other", "older"]
    assert ids(filled, to=ago(2)) == ["oldest"]
    assert ids(filled, **{"from": "2020-01-01T00:00:00Z", "to": ago(32)}) == ["ancient"]
    assert ids(filled, ingestedAtFrom=ago(1), limit=1) == ["new"]
    assert ids(filled, ingestedAtTo=ago(1)) == []
    assert ids(filled, ingestedAtFrom=ago(1), ingestedAtTo=ago(0.5)) == []


@pytest.mark.parametrize(
    "wrong",
    [
        *("limit=0", "limit=101", "limit=x", "limit=1&limit=2", "from=now"),
        *("ingestedAtTo=2026-11-21", "customerId=1", "customer=1", "cursor=x"),
    ],
)
def test_what_makes_no_sense_is_refused(client, wrong):
    """A parameter that was passed over would make it another list."""
    assert client.get(f"{EVENTS}?{wrong}").status_code == 400


def test_an_event_that_came_is_ready_at_any_time(filled):
    """Whichever thread looks into the ledger first."""
    for number in range(3):
        assert filled.get("/readyz").status_code == 200
        assert filled.post(EVENTS, json=[event(f"more-{number}")]).status_code == 204
