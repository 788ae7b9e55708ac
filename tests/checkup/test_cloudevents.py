"""A receiver of CloudEvents as the doctor sees it, over real HTTP."""

from __future__ import annotations

from contextlib import closing

import pytest

from llm_metering.checkup.cloudevents import check_cloudevents
from llm_metering.sinks import open_sink
from tests.sinks.webhook_receiver import Answer, WebhookReceiver

SECRET = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz"
OTHER = "whsec_eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4"
TOKEN = "hunter2"


@pytest.fixture
def receiver():
    """A receiver that verifies."""
    with WebhookReceiver(SECRET) as receiver:
        yield receiver


def look(url, *, secret=SECRET, token=None, send=False):
    """What is found of the receiver at a sink's URL, by check."""
    with closing(open_sink(url, source="shop", webhook_secret=secret, webhook_token=token)) as sink:
        findings = list(check_cloudevents(sink, send=send, limit=20.0))
    assert all(each.sink == "cloudevents" for each in findings)
    for hidden in (SECRET, OTHER, TOKEN):
        assert hidden not in repr(findings)
    return {each.check: each for each in findings}


def levels(found):
    """Their levels."""
    return {check: each.level for check, each in found.items()}


def test_a_receiver_that_is_there(receiver):
    """It answers, if only that it takes a POST alone; nothing was posted."""
    found = look(receiver.url)

    assert levels(found) == {"sink.reachable": "ok", "sink.deduplication": "ok"}
    assert [request.method for request in receiver.received] == ["OPTIONS"]
    assert receiver.ledger == {}


def test_a_signed_batch_of_nothing_is_tried(receiver):
    """With `send` the key, the token and the address are tried, and there is no event in it."""
    receiver.token = TOKEN
    found = look(receiver.url, token=TOKEN, send=True)

    assert found["sink.takes_events"].level == "ok"
    assert found["sink.takes_events"].found.endswith("with our signature")
    assert [(request.method, request.body) for request in receiver.received] == [
        ("OPTIONS", b""),
        ("POST", b"[]"),
    ]
    assert receiver.received[1].headers["Content-Type"] == "application/cloudevents-batch+json"
    assert receiver.ledger == {}


@pytest.mark.parametrize(
    ("secret", "token"),
    [
        pytest.param(OTHER, TOKEN, id="another key"),
        pytest.param(None, TOKEN, id="no key"),
        pytest.param(SECRET, None, id="no token"),
    ],
)
def test_a_receiver_that_refuses_us_is_a_failure(receiver, secret, token):
    """Its own verification says so, before an event waits for it."""
    receiver.token = TOKEN
    found = look(receiver.url, secret=secret, token=token, send=True)

    assert found["sink.takes_events"].level == "failure"
    assert "401" in found["sink.takes_events"].found


@pytest.mark.parametrize(
    ("answer", "level"),
    [
        pytest.param(200, "ok", id="well"),
        pytest.param(302, "failure", id="elsewhere"),
        pytest.param(401, "ok", id="wants a signature"),
        pytest.param(404, "warning", id="not there"),
        pytest.param(501, "ok", id="no OPTIONS"),
        pytest.param(503, "warning", id="not well"),
    ],
)
def test_what_it_answers_without_a_batch(receiver, answer, level):
    """What says nothing of a POST is no reason to worry."""
    receiver.orders = [Answer(status=answer)]

    assert look(receiver.url)["sink.reachable"].level == level


@pytest.mark.parametrize(
    ("answer", "level"),
    [
        pytest.param(202, "ok", id="taken"),
        pytest.param(307, "failure", id="elsewhere"),
        pytest.param(403, "failure", id="no rights"),
        pytest.param(404, "failure", id="not there"),
        pytest.param(410, "failure", id="gone"),
        pytest.param(400, "warning", id="wants an event"),
        pytest.param(422, "warning", id="wants an event, too"),
        pytest.param(429, "warning", id="busy"),
        pytest.param(500, "warning", id="not well"),
    ],
)
def test_what_it_answers_to_a_batch(receiver, answer, level):
    """As the sink would take it."""
    receiver.orders = [Answer(status=405), Answer(status=answer)]

    assert look(receiver.url, send=True)["sink.takes_events"].level == level


def test_a_receiver_that_is_away(receiver):
    """Nothing else is said of it."""
    receiver.down()

    found = look(receiver.url, send=True)

    assert levels(found) == {"sink.reachable": "failure"}
    assert found["sink.reachable"].found == "it refuses connections"
