"""Events come in, are recorded once, and go where the meter's events go."""

from __future__ import annotations

import json
import re
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from llm_metering import sign_subject
from llm_metering.errors import ConfigurationError
from llm_metering.meter import Meter
from llm_metering.server import ServerOptions, create_app
from llm_metering.testing import OpenMeterServer
from llm_metering.transport.status import home_status

from .conftest import EVENTS, audit, event

SINGLE = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
EITHER = "application/json"
SECRET = "a secret of at least thirty-two bytes"


def post(client, document, content_type=EITHER, **headers):
    """Send a document."""
    return client.post(
        EVENTS, content=json.dumps(document), headers={"Content-Type": content_type, **headers}
    )


@pytest.mark.parametrize(
    ("document", "content_type"),
    [
        pytest.param(event(), SINGLE, id="one"),
        pytest.param([event()], BATCH, id="a batch"),
        pytest.param(event(), EITHER, id="one as JSON"),
        pytest.param([event()], EITHER, id="several as JSON"),
        pytest.param(event(), f"{SINGLE}; charset=UTF-8", id="with a parameter"),
    ],
)
def test_all_that_openmeter_takes_is_recorded(client, recorded, document, content_type):
    """And kept as it was sent."""
    response = post(client, document, content_type)

    assert (response.status_code, response.content) == (204, b"")
    assert recorded() == {"1": event()}


def test_it_is_there_for_questions(serving, home):
    """Tokens are summed up by who pays and by model, like those of this process."""
    with serving() as client:
        post(client, [event("1"), event("2", subject="globex"), event("3")])

    with Meter(home, (), source="app") as meter:
        assert meter.drain(30, "ledger")
        rows = meter.usage("tokens_total", group_by=["subject", "model"]).rows
    assert {(row.subject, row.group_by["model"]): row.value for row in rows} == {
        ("acme", "gpt-5-mini"): 240,
        ("globex", "gpt-5-mini"): 120,
    }


def test_what_comes_again_is_counted_once(client, recorded):
    """In one request, in another one, and after the ledger has it."""
    assert post(client, [event("1"), event("1"), event("2")]).status_code == 204
    assert post(client, [event("2"), event("3")]).status_code == 204
    recorded()
    assert post(client, event("1")).status_code == 204

    assert set(recorded()) == {"1", "2", "3"}


def test_a_server_that_was_started_anew_knows_what_was_recorded(serving, recorded):
    """From the ledger, not from its memory."""
    with serving() as client:
        post(client, event("1"))
    with serving() as client:
        assert post(client, event("1")).status_code == 204
        assert post(client, event("1", subject="globex")).status_code == 409

    assert recorded() == {"1": event("1")}


def test_an_event_without_a_time_is_of_now_and_the_same_when_it_comes_again(serving, recorded):
    """A client that tries again must not be told that it is another one."""
    before = datetime.now(UTC) - timedelta(seconds=1)
    undated = {name: value for name, value in event().items() if name != "time"}
    with serving() as client:
        assert post(client, undated).status_code == 204
        assert post(client, undated).status_code == 204
    recorded()
    with serving() as client:
        assert post(client, undated).status_code == 204
        assert post(client, event(time=None)).status_code == 204

    (found,) = recorded().values()
    assert before < datetime.fromisoformat(found["time"]) < datetime.now(UTC)


@pytest.mark.parametrize("comes", ["in the same request", "soon after", "when the ledger has it"])
@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"subject": "globex"}, id="another payer"),
        pytest.param({"data": {"total_tokens": 1}}, id="other counts"),
        pytest.param({"type": "other"}, id="another type"),
        pytest.param({"time": "2026-11-21T12:00:01Z"}, id="another time"),
    ],
)
def test_an_id_that_is_taken_is_refused_with_its_request(client, recorded, home, comes, changes):
    """What was recorded stays as it is, nothing of that request is recorded, and it is noted."""
    other = event("1", **changes)
    if comes == "in the same request":
        response = post(client, [event("1"), event("2"), other])
    else:
        assert post(client, event("1")).status_code == 204
        if comes == "when the ledger has it":
            recorded()
            client.app.state.desk.intake._recent.clear()
        response = post(client, [event("2"), other])

    assert response.status_code == 409
    assert response.json()["event"] == (2 if comes == "in the same request" else 1)
    kept = {} if comes == "in the same request" else {"1": event("1")}
    assert recorded() == kept
    assert [line["reason"] for line in audit(home)] == ["id taken"]


def test_one_id_of_two_sources_is_two_events(client, recorded):
    """Each in the books of its application, though they come in one request."""
    other = event("1", source="batch", subject="globex")

    assert post(client, [event("1"), other]).status_code == 204

    assert recorded("app") == {"1": event("1")}
    assert recorded("batch") == {"1": other}


def test_of_two_who_come_at_once_one_gets_the_id(client, recorded):
    """Whoever was answered with 2xx is in the ledger."""

    def send(number):
        return number, post(client, event("1", subject=f"customer-{number}")).status_code

    with ThreadPoolExecutor(8) as pool:
        answers = dict(pool.map(send, range(40)))

    (winner,) = [number for number, status in answers.items() if status == 204]
    assert set(answers.values()) == {204, 409}
    assert recorded()["1"]["subject"] == f"customer-{winner}"


def test_extensions_of_cloudevents_are_kept(client, recorded):
    """For who reads the event behind us."""
    sent = event(traceparent="00-4bf9", sequence=7, sampled=True)

    assert post(client, sent).status_code == 204

    assert recorded() == {"1": sent}


def test_a_key_that_stands_twice_is_read_once(client, recorded):
    """Whoever reads the event afterwards reads what was checked."""
    body = json.dumps(event()).replace(
        '"subject": "acme"', '"subject": "acme", "subject": "globex"'
    )

    assert client.post(EVENTS, content=body, headers={"Content-Type": EITHER}).status_code == 204

    assert recorded()["1"]["subject"] == "globex"


def test_a_signed_subject_is_verified_and_replaced(serving, recorded, home):
    """The token itself is nowhere, whether it holds or not."""
    good = sign_subject("acme", SECRET, audience="app")
    with serving(subject_token_secrets=[SECRET]) as client:
        assert post(client, event("1", subject=good)).status_code == 204
        for bad in (
            sign_subject("acme", SECRET, audience="another"),
            sign_subject("acme", "another secret of thirty-two bytes!", audience="app"),
            good[:-1] + ("A" if good[-1] != "A" else "B"),
            "lms1.x",
        ):
            response = post(client, event("2", subject=bad))
            assert response.status_code == 403
            assert bad not in response.text

    assert recorded() == {"1": event("1")}
    assert good not in json.dumps(audit(home))
    assert [line["reason"] for line in audit(home)] == [
        "subject wrong_audience",
        "subject unknown_key",
        "subject wrong_signature",
        "subject unknown_key",
    ]


def test_no_token_is_billed_where_nobody_can_check_it(client, recorded):
    """It would be a customer of its own, and in every list."""
    token = sign_subject("acme", SECRET, audience="app")

    assert post(client, event(subject=token)).status_code == 403
    assert recorded() == {}


def test_events_go_on_to_the_sinks(serving):
    """Each application's to where the meter sends, in batches, with the key of the server."""
    with OpenMeterServer(token="om_key") as upstream:
        with serving(sinks=[upstream.sink_url], openmeter_token="om_key") as client:
            for source in ("app", "batch", "server"):
                assert post(client, [event("1", source=source)]).status_code == 204
        assert upstream.wait_until(lambda: len(upstream.events) == 3, 30)
        assert {each["source"] for each in upstream.events} == {"app", "batch", "server"}


def test_more_sources_than_are_kept_in_hand(serving, recorded, home):
    """Those that are silent for longest are put aside; what they had is in the ledger all the same."""
    with serving(most_sources=2) as client:
        for turn in range(2):
            for number in range(6):
                source = f"app-{number}"
                assert post(client, event(f"{turn}", source=source)).status_code == 204
        assert len(client.app.state.desk.sources.meters()) <= 3

    for number in range(6):
        assert set(recorded(f"app-{number}")) == {"0", "1"}
    assert {row["pending"] for row in home_status(home)["sinks"]} == {0}


def test_a_meter_with_something_in_memory_is_not_put_aside(serving, monkeypatch):
    """It has to be there when the disk takes something again."""
    waits = Future()
    holding = Meter.secured

    def secured(meter):
        return waits if meter.settings.source == "app-0" else holding(meter)

    with serving(most_sources=1) as client:
        sources = client.app.state.desk.sources
        first = sources.of("app-0")
        monkeypatch.setattr(Meter, "secured", secured)
        for number in range(1, 4):
            sources.of(f"app-{number}")

        assert [meter.settings.source for meter in sources.meters()][1:] == ["app-0", "app-3"]
        assert sources.of("app-0") is first


def test_what_a_server_left_the_next_one_ships(serving, home):
    """Of sources that nobody sends events of any more, too."""
    with OpenMeterServer() as upstream:
        upstream.down()
        with serving(sinks=[upstream.sink_url]) as client:
            post(client, event(source="gone"))
        upstream.up()
        with serving(sinks=[upstream.sink_url]):
            assert upstream.wait_until(lambda: len(upstream.events) == 1, 30)


def test_a_disk_that_takes_nothing_is_told_of(client, recorded, monkeypatch):
    """A 2xx says that it is in the journal; whoever has another answer sends it again."""
    failing = Future()
    failing.set_exception(OSError("no space left on device"))
    monkeypatch.setattr(Meter, "secured", lambda _: failing)

    response = post(client, event())

    assert response.status_code == 503
    assert response.headers["Retry-After"] == "5"
    assert "no space" not in response.text
    assert client.get("/readyz").status_code == 503
    monkeypatch.undo()
    assert post(client, event()).status_code == 204
    assert client.get("/readyz").status_code == 200
    # It was recorded again: where the first one was held, nobody may be any more.
    assert 'events_total{outcome="recorded"} 1.0' in client.get("/metrics").text
    assert set(recorded()) == {"1"}


def test_power_is_waited_for_before_the_answer(serving, recorded):
    """With `durability = "power"` many requests share a sync, and each is on the medium."""
    with serving(durability="power") as client:
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda n: post(client, event(str(n))).status_code, range(40)))
        assert answers == [204] * 40

    assert len(recorded()) == 40


def test_a_server_does_not_say_that_it_keeps_what_is_in_memory(home):
    """It would be a promise that nobody keeps."""
    with (
        Meter(home, (), durability="memory") as meter,
        pytest.raises(ConfigurationError, match="memory is none"),
    ):
        create_app(meter, ServerOptions())


def test_without_a_ledger_it_forwards(serving):
    """What came a short while ago is known all the same."""
    with OpenMeterServer() as upstream, serving(sinks=[upstream.sink_url], ledger=False) as client:
        assert post(client, [event("1"), event("1")]).status_code == 204
        assert post(client, event("1")).status_code == 204
        assert post(client, event("1", subject="globex")).status_code == 409
        assert client.get("/readyz").status_code == 200
        assert upstream.wait_until(lambda: len(upstream.events) == 1, 30)


def test_prometheus_is_told_what_came_in(client):
    """And what became of it, by sink; no name of a caller's is a label."""
    post(client, [event("1"), event("2")])
    post(client, event("1"))
    client.get("/api/v1/nowhere/acme")

    text = client.get("/metrics").text
    assert 'llm_metering_ingested_events_total{outcome="recorded"} 2.0' in text
    assert 'llm_metering_ingested_events_total{outcome="duplicate"} 1.0' in text
    assert re.search(
        r'llm_metering_events{account="[^"]*",outcome="recorded",sink="ledger"} 2', text
    )
    assert 'route="/api/v1/events",status="204"} 2.0' in text
    assert "acme" not in text
