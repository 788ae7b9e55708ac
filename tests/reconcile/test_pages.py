"""How pages are asked for: within what servers and proxies take, and without their cursors."""

from __future__ import annotations

from urllib.parse import parse_qsl, unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llm_metering.errors import ReconcileError
from llm_metering.events import new_event_id
from llm_metering.reconcile.listing import EventLists
from llm_metering.reconcile.pages import (
    chunks,
    frontier_query,
    page_query,
    read_page,
    rfc3339,
    span_query,
)
from llm_metering.sinks.asking import Asker
from llm_metering.testing import OpenMeterServer
from llm_metering.testing.faults import Refuse

from .conftest import Shop, by_kind
from .test_comparison import make_event

APIS = pytest.mark.parametrize("api", ["v1", "v3"])


def events_of(ids, **changes):
    return [make_event(number, id=each, **changes) for number, each in enumerate(ids)]


@APIS
@given(
    ids=st.lists(
        st.one_of(
            st.builds(new_event_id),
            st.text(min_size=1, max_size=60).filter(lambda text: text.isprintable()),
        ),
        max_size=300,
        unique=True,
    )
)
@example(ids=["a,b", " c", "d", "e\t"])
def test_every_id_is_asked_for_once(api, ids):
    """Whatever is in an id, in requests that a proxy takes and with fewer ids than a page has."""
    portions = list(chunks(api, events_of(ids)))

    assert sorted(event.id for portion in portions for event in portion) == sorted(ids)
    for portion in portions:
        query = page_query(api, portion, broad=False)
        assert len(portion) <= 96
        assert len(query) < 7000
        if api == "v3":
            value = dict(parse_qsl(query)).get("filter[id][oeq]", "")
            assert len(value.encode()) <= 1024
            assert not value or value.split(",") == [event.id for event in portion]
            assert len(portion) <= 50


def test_how_many_ids_of_ours_go_into_a_request():
    """96 of v1's are within the 8 KiB of a proxy; v3 takes 27, by its own limit on a filter."""
    ids = [new_event_id() for _ in range(200)]

    for api, first in (("v1", 96), ("v3", 27)):
        portions = list(chunks(api, events_of(ids, type="llm.usage")))
        assert len(portions[0]) == first
        assert len(page_query(api, portions[0], broad=False)) < 6000


@APIS
def test_a_page_that_is_none(api):
    """What is no list is an error, that repeats nothing of it."""
    for content in (
        b"<html>secret",
        b'{"items": 7, "data": 7}',
        b'{"items": [{"event": {}}]}',
        b"[",
    ):
        with pytest.raises(ValueError, match="no list of events") as caught:
            read_page(api, content)
        assert "secret" not in str(caught.value)


@APIS
@pytest.mark.parametrize("subject", ["acme", 'ac"me, & größe=1'])
def test_a_span_of_a_subject(api, subject):
    """Its query can be read back, whatever is in the subject."""
    query = dict(parse_qsl(span_query(api, "llm.usage", subject, 0, 60), strict_parsing=True))

    assert any(subject in value or '\\"' in value for value in query.values())


@pytest.mark.parametrize("cursors", ["row", "id"])
@pytest.mark.parametrize("copies", [2, 5, 98, 130])
def test_copies_that_fill_a_page(tmp_path, cursors, copies):
    """All copies are counted although they fill pages, also where a cursor would pass over some."""
    with OpenMeterServer(dedupe=False, cursors=cursors) as server:
        shop = Shop(tmp_path / "home", server)
        shop.record(120)
        stored = server.events
        chosen = stored[10:40:3]
        for _ in range(copies - 1):
            server.preload(chosen)

        with shop.reconciling() as reconciler:
            reconciler.compare()

    assert by_kind(reconciler) == {"doubled": {event["id"] for event in chosen}}
    # A page has no more than 100, and that is how many are known of.
    listed = {finding.listed for finding in reconciler.findings.values()}
    assert listed == {min(copies, 100)}


@pytest.mark.parametrize(
    "source", ["my%20shop", "HTTPS://Shop.example/a?b=c&d", "a'b(c)!*", "urn:a:b"]
)
@pytest.mark.parametrize("api", ["v1", "v3"])
def test_a_source_with_odd_characters(tmp_path, server, source, api):
    """It is the same one in the server's lists."""
    shop = Shop(tmp_path / "home", server, f"api={api}", source=source)
    shop.record(10)

    assert shop.compare() == {}


def test_a_proxy_that_takes_short_addresses(tmp_path, server):
    """Requests are halved until they pass, and later ones are shorter at once."""
    shop = Shop(tmp_path / "home", server)
    shop.record(400)
    server.order(Refuse(414), times=3, to="list")

    with shop.reconciling() as reconciler:
        reconciler.compare()

    assert reconciler.findings == {}
    assert reconciler.well == 400


def test_an_outage_in_the_middle_of_a_look(tmp_path, server):
    """Requests that fail for now are made again, after the wait that was asked for."""
    shop = Shop(tmp_path / "home", server)
    shop.record(600)
    server.order(Refuse(503, retry_after=1), times=2, to="list")
    server.order(Refuse(429), times=2, to="list")
    server.order(Refuse(500), times=1, to="list")

    with shop.reconciling() as reconciler:
        reconciler.compare()

    assert reconciler.findings == {}
    assert reconciler.well == 600


def test_a_server_that_is_away(tmp_path, server):
    """After a while of no answers the look ends, with what happened."""
    shop = Shop(tmp_path / "home", server)
    shop.record(3)
    sink = shop.sink()
    server.down()

    with Asker(limit=1) as asker:
        looking = EventLists(sink, asker, patience=0.5).look([events_of(["a", "b"])])
        with pytest.raises(ReconcileError, match="it refuses connections"):
            next(looking)


def test_a_look_that_is_stopped(tmp_path, server):
    """It ends as Ctrl-C would end it."""
    shop = Shop(tmp_path / "home", server)
    shop.record(3)

    with pytest.raises(KeyboardInterrupt), shop.reconciling(should_stop=lambda: True):
        pass


@pytest.mark.parametrize(("api", "operator"), [("v1", "$gt"), ("v3", "gt")])
def test_what_came_in_with_an_event_is_not_newer(api, operator):
    """A server counts in whole seconds: one that had begun before the moment is left out."""
    query = unquote(frontier_query(api, 1_760_000_000.2))

    assert operator in query
    assert rfc3339(1_760_000_001) in query


def test_moments_have_years_of_four_digits():
    """Whoever asks for all time begins with the year 1."""
    assert rfc3339(-62_135_596_800) == "0001-01-01T00:00:00Z"
    assert rfc3339(1_760_000_000) == "2025-10-09T08:53:20Z"
