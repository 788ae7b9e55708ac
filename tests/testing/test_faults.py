"""What can be ordered to go wrong, and what a client then sees and the server counts."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import httpx
import pytest

from llm_metering.testing import OpenMeterServer
from llm_metering.testing.faults import (
    ClaimBeforeWrite,
    Hang,
    Lag,
    LostAfterAccept,
    Poison,
    Redirect,
    Refuse,
    Reset,
    Slow,
    TooLarge,
    Unreadable,
    WriteFails,
)
from tests.testing.wire_events import wire_event, wire_events


def ids(server: OpenMeterServer) -> list[str]:
    """The ids of what is counted."""
    return [event["id"] for event in server.events]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422, 429, 500, 503])
def test_requests_are_refused_as_often_as_ordered(server, post, status):
    """Nothing of them is looked at or counted; the one after them is."""
    server.order(Refuse(status, detail="because"), times=2)

    answers = [post(b"{"), post(wire_events("1")), post(wire_events("1"))]

    assert [answer.status_code for answer in answers] == [status, status, 204]
    assert answers[0].json()["detail"] == "because"
    assert [each.status for each in server.received] == [status, status, 204]
    assert server.received[0].faults == (Refuse(status, detail="because"),)
    assert ids(server) == ["1"]
    assert server.violations == []


def test_retry_after_is_seconds_or_a_date(server, post):
    """Both forms of the header (RFC 9110, section 10.2.3), or whatever a test makes up."""
    moment = datetime(2026, 11, 21, 12, 0, 30, tzinfo=UTC)
    for value in (7, moment, "soon", None):
        server.order(Refuse(503, retry_after=value))

    answers = [post([]) for _ in range(4)]

    assert [answer.headers.get("Retry-After") for answer in answers] == [
        "7",
        "Sat, 21 Nov 2026 12:00:30 GMT",
        "soon",
        None,
    ]


def test_an_answer_may_be_anything(server, post):
    """A body and headers of one's own stand in for the problem document."""
    server.order(Refuse(599, headers={"X-Proxy": "yes"}, body=b"<html>"))

    answer = post([])

    assert (answer.status_code, answer.headers["X-Proxy"], answer.text) == (599, "yes", "<html>")


def test_a_redirect_names_another_place(server, post):
    """And nothing is counted here."""
    server.order(Redirect("http://elsewhere.example/", status=308))

    answer = post(wire_events("1"))

    assert (answer.status_code, answer.headers["Location"]) == (308, "http://elsewhere.example/")
    assert server.events == []


@pytest.mark.parametrize(
    "poison",
    [
        pytest.param(Poison(id="2"), id="id"),
        pytest.param(Poison(subject="acme"), id="subject"),
        pytest.param(Poison(data={"total_tokens": 0}), id="data"),
        pytest.param(Poison(subject="acme", data={"model": "m"}), id="both"),
        pytest.param(Poison(matches=lambda event: "model" in event["data"]), id="function"),
    ],
)
def test_one_poisoned_event_refuses_its_batch(server, post, poison):
    """Every batch with it gets 400 as a whole, for as long as the order stands."""
    bad = wire_event("2", subject="acme", data={"total_tokens": 0, "model": "m"})
    good = wire_event("1", data={"total_tokens": 5})
    server.order(poison, times=None)

    statuses = [post(batch).status_code for batch in ([good, bad], [bad], [good])]
    server.clear()

    assert statuses == [400, 400, 204]
    assert ids(server) == ["1"]
    assert '"/1"' in server.received[0].detail
    assert server.violations == []
    assert post([bad]).status_code == 204


def test_a_large_request_is_refused(server, post):
    """By its events or by its bytes; at the limit it passes."""
    small, large = wire_events("1", "2"), wire_events("3", "4", "5")
    server.order(TooLarge(max_events=2), times=2)
    by_events = [post(small).status_code, post(large).status_code]
    size = len(server.received[0].body)
    server.order(TooLarge(max_bytes=size), times=2)
    by_bytes = [post(small).status_code, post(large).status_code]

    assert by_events == by_bytes == [204, 413]
    assert ids(server) == ["1", "2"]


def test_a_204_may_be_all_there_is(server, post):
    """Accepted is not stored: the batch is among the accepted ones, and nothing is counted."""
    server.order(LostAfterAccept())

    assert post(wire_events("1")).status_code == 204
    assert server.batches == [wire_events("1")]
    assert server.events == []
    post(wire_events("1"))
    assert ids(server) == ["1"]


def test_an_id_claimed_before_a_failed_write_is_never_counted(server, post):
    """openmeter#5118: the retry is answered with success, and one event is missing for ever."""
    server.order(ClaimBeforeWrite(at=1))

    statuses = [post(wire_events("1", "2", "3")).status_code for _ in range(3)]

    assert statuses == [500, 204, 204]
    assert ids(server) == ["1", "3"]


def test_a_failed_write_may_leave_half_a_batch(server, post):
    """The events before it are stored; a retry completes the batch where ids are looked at."""
    server.order(WriteFails(at=2))

    statuses = [post(wire_events("1", "2", "3")).status_code for _ in range(2)]

    assert statuses == [500, 204]
    assert ids(server) == ["1", "2", "3"]


def test_without_deduplication_a_retry_counts_twice(server, post):
    """What OpenMeter does unless its operator switched it on."""
    server.dedupe = False
    server.order(WriteFails(at=1))

    for _ in range(2):
        post(wire_events("1", "2"))

    assert ids(server) == ["1", "1", "2"]


def test_a_connection_is_reset_before_anything_is_stored(server, post):
    """The client sees a reset, the server counts nothing."""
    server.order(Reset("before"))

    with pytest.raises(httpx.ReadError, match="reset"):
        post(wire_events("1"))

    assert server.received[0].ids == ["1"]
    assert server.received[0].status == 0
    assert server.events == []


@pytest.mark.parametrize(
    ("when", "error"),
    [
        pytest.param("after", httpx.ReadError, id="no answer"),
        pytest.param("during", httpx.RemoteProtocolError, id="half an answer"),
    ],
)
def test_an_answer_gets_lost(server, post, when, error):
    """The server has the batch, the client cannot know: only the id lets it be counted once."""
    server.order(Reset(when), times=3)

    for _ in range(3):
        with pytest.raises(error):
            post(wire_events("1"))
    post(wire_events("1"))

    assert [each.status for each in server.received] == [0, 0, 0, 204]
    assert ids(server) == ["1"]


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_server_hangs_until_it_is_released(server, post, when):
    """It took the request and says nothing; then it goes on, whoever still listens."""
    server.order(Hang(when))
    answers: list[httpx.Response] = []
    thread = threading.Thread(target=lambda: answers.append(post(wire_events("1"))))
    thread.start()

    assert server.wait_until(lambda: server.hanging == 1)
    counted, status = ids(server), server.received[0].status
    assert server.release() == 1
    thread.join()

    assert (counted, status) == ([] if when == "before" else ["1"], 0)
    assert answers[0].status_code == 204
    assert ids(server) == ["1"]
    assert server.hanging == server.release() == 0


def test_a_client_that_gave_up_may_be_counted_late(server, post, client):
    """After a timeout the request it gave up on is still there."""
    client.timeout = httpx.Timeout(20, read=0.05)
    server.order(Hang())
    with pytest.raises(httpx.ReadTimeout):
        post(wire_events("1"))
    assert server.wait_until(lambda: server.hanging == 1)
    assert server.events == []

    server.release()

    assert server.wait_for(1)


def test_a_server_that_goes_down_gives_up_what_hangs(server, post):
    """Nothing of it is counted, and its client's connection ends."""
    server.order(Hang())
    errors: list[Exception] = []

    def send() -> None:
        try:
            post(wire_events("1"))
        except httpx.HTTPError as error:
            errors.append(error)

    thread = threading.Thread(target=send)
    thread.start()
    assert server.wait_until(lambda: server.hanging == 1)
    server.down()
    thread.join()

    assert len(errors) == 1
    assert server.events == []


def test_a_slow_answer_comes_in_pieces(server, post):
    """Between them the server waits as it was told to, and counts no time itself."""
    waits: list[float] = []
    server.order(Refuse(503, body=b"0123456789"), Slow(0.5, piece=7, wait=waits.append))

    answer = post([])

    assert answer.text == "0123456789"
    assert len(waits) > 3
    assert set(waits) == {0.5}


def test_a_success_may_have_an_unreadable_body(server, post):
    """It is a success all the same: the batch is counted."""
    server.order(Unreadable(202))

    with pytest.raises(httpx.DecodingError):
        post(wire_events("1"))

    assert server.received[0].status == 202
    assert ids(server) == ["1"]


@pytest.mark.parametrize(
    ("lost", "kept"),
    [
        pytest.param(LostAfterAccept(), "", id="all"),
        pytest.param(LostAfterAccept(id="2"), "13", id="one"),
        pytest.param(LostAfterAccept(id=["1", "3"]), "2", id="several"),
        pytest.param(LostAfterAccept(matches=lambda event: event["id"] > "1"), "1", id="function"),
    ],
)
def test_chosen_events_are_lost(server, post, lost, kept):
    """The others of their batch are kept; sent again, the lost ones are as well."""
    server.order(lost)

    assert post(wire_events("1", "2", "3")).status_code == 204
    assert "".join(ids(server)) == kept
    assert post(wire_events("1", "2", "3")).status_code == 204
    assert sorted(ids(server)) == ["1", "2", "3"]


def test_a_claim_holds_until_it_is_forgotten(server, post):
    """A chosen event is counted zero times for ever, until its id is forgotten; then once."""
    server.order(ClaimBeforeWrite(id="2"))

    answers = [post(wire_events("1", "2", "3")).status_code for _ in range(3)]
    before = ids(server)
    forgotten = server.forget_claims(), server.forget_claims()
    post(wire_events("1", "2", "3"))

    assert answers == [500, 204, 204]
    assert before == ["1", "3"]
    assert forgotten == (1, 0)
    assert ids(server) == ["1", "3", "2"]


def test_forgotten_ids_are_counted_again(server, post):
    """As when an event comes after the time for which OpenMeter remembers it."""
    post(wire_events("1"))
    post(wire_events("1"))
    once = ids(server)
    server.forget_ids()
    post(wire_events("1"))

    assert (once, ids(server)) == (["1"], ["1", "1"])


def test_what_lags_is_known(server, post):
    """A retry of an event that is not stored yet is none of its own."""
    server.order(Lag(), times=None)

    for _ in range(2):
        assert post(wire_events("1", "2")).status_code == 204

    assert (ids(server), server.catch_up(), ids(server)) == ([], 2, ["1", "2"])


def test_preloaded_events_are_stored_as_they_are(server, post):
    """Each of them, though the server deduplicates; it knows them from then on."""
    events = wire_events("1", "1", "2")

    assert server.preload(events, stored_at=0.5) == 3
    post(wire_events("1", "3"))

    assert ids(server) == ["1", "1", "2", "3"]
    assert server.received[0].ids == ["1", "3"]
