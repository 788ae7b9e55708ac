"""A 200 with a web page is no acceptance: a login page, or whatever shows its start page everywhere."""

from __future__ import annotations

import gzip
from contextlib import closing

import pytest

from llm_metering.sinks import open_sink
from llm_metering.sinks.base import Delivery
from tests.factories import batch_of, make_event
from tests.sinks.webhook_receiver import Answer, WebhookReceiver

PAGE = b"\n<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>"
PAGES = [
    pytest.param(PAGE, (), id="page"),
    pytest.param(b"\xef\xbb\xbf<HTML lang=en></HTML>", (), id="with a mark and no doctype"),
    pytest.param(gzip.compress(PAGE), (("Content-Encoding", "gzip"),), id="compressed"),
]
SINKS = {
    "openmeter v1": "openmeter+http://127.0.0.1:{}",
    "openmeter v3": "openmeter+http://127.0.0.1:{}?api=v3",
    "cloudevents": "cloudevents+http://127.0.0.1:{}/usage",
    "lago": "lago+http://127.0.0.1:{}",
    "stripe v1": "stripe+http://127.0.0.1:{}?meter=llm_tokens:total_tokens&api=v1",
    "stripe v2": "stripe+http://127.0.0.1:{}?meter=llm_tokens:total_tokens&api=v2",
}
KEYS = {"lago_api_key": "a-key", "stripe_api_key": "sk_test_1"}


@pytest.fixture
def receiver():
    with WebhookReceiver() as receiver:
        yield receiver


@pytest.fixture(params=[False, True], ids=["direct", "by a proxy"])
def by_proxy(request, receiver, monkeypatch):
    """Connections by a proxy are made in another way."""
    if request.param:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{receiver.port}")
        monkeypatch.setenv("no_proxy", "")


@pytest.mark.usefixtures("by_proxy")
@pytest.mark.parametrize(("body", "headers"), PAGES)
@pytest.mark.parametrize("url", SINKS.values(), ids=list(SINKS))
def test_a_web_page_accepts_nothing(receiver, url, body, headers):
    """The events wait, and the reason says where to look."""
    batch = batch_of([make_event(subject="cus_acme")])
    receiver.orders += [Answer(status=200, body=body, headers=headers)] * 4
    with closing(open_sink(url.format(receiver.port), source="tests", **KEYS)) as sink:
        told = sink.deliver(batch)

    assert told.accepted == told.rejected == frozenset()
    assert told.retryable == {batch[0].id}
    assert receiver.received
    if "api=v2" not in url:  # its session's answer is read, and is none
        assert told.hold
        assert told.reason == "200 OK, but with a web page: check the address"


@pytest.mark.parametrize("body", [b"", b"OK", b"{}", b"<Response/>", b"head of it"])
def test_whatever_else_a_server_of_events_says_is_an_acceptance(receiver, body):
    """CloudEvents says nothing of what is in an answer."""
    batch = batch_of([make_event()])
    receiver.orders.append(Answer(status=200, body=body))
    with closing(open_sink(receiver.url, source="tests")) as sink:
        assert sink.deliver(batch) == Delivery.all_accepted(batch)
