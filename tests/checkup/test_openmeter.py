"""An OpenMeter server as the doctor sees it, over real HTTP."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from llm_metering.checkup.deduplication import EVENT_TYPE, SUBJECT
from llm_metering.checkup.openmeter import check_openmeter
from llm_metering.sinks import open_sink
from llm_metering.testing import OpenMeterServer
from llm_metering.testing.faults import Hang, LostAfterAccept, Redirect, Refuse, Reset, Slow

KEY = "om_hunter2"
TOKENS = {
    "slug": "tokens_total",
    "eventType": "llm.usage",
    "aggregation": "SUM",
    "valueProperty": "$.total_tokens",
}
BOTH = pytest.mark.parametrize("api", ["v1", "v3"])


@pytest.fixture
def client():
    """A client that the environment's proxies are nothing to."""
    with httpx.Client(trust_env=False) as client:
        yield client


@pytest.fixture
def server():
    """A server that deduplicates, asks for a key and has a meter for our tokens."""
    with OpenMeterServer(token=KEY, meters=[TOKENS]) as server:
        yield server


def look(url, *, token=KEY, send=False, wait=0.4, limit=20.0, source="shop"):
    """What is found of the server at a sink's URL, by check."""
    with closing(open_sink(url, source=source, openmeter_token=token)) as sink:
        findings = list(check_openmeter(sink, source=source, send=send, wait=wait, limit=limit))
    assert all(each.sink == "openmeter" for each in findings)
    assert KEY not in repr(findings)
    return {each.check: each for each in findings}


def levels(found):
    """Their levels."""
    return {check: each.level for check, each in found.items()}


@BOTH
def test_a_server_that_is_ready(server, api):
    """It answers with our key, and counts our tokens; nothing was sent to it."""
    found = look(f"{server.sink_url}?api={api}")

    assert levels(found) == {
        "sink.reachable": "ok",
        "sink.meters": "ok",
        # Only --send can tell.
        "sink.deduplication": "warning",
    }
    assert [request.method for request in server.received] == ["GET"]
    assert server.events == []
    assert server.violations == []


@BOTH
@pytest.mark.parametrize(
    ("dedupe", "level", "count"),
    [pytest.param(True, "ok", 1, id="on"), pytest.param(False, "failure", 2, id="off")],
)
def test_whether_a_server_deduplicates(server, api, dedupe, level, count):
    """Found out with two events of one id, of a type and a subject that bill nobody."""
    server.dedupe = dedupe

    found = look(f"{server.sink_url}?api={api}", send=True)

    assert found["sink.takes_events"].level == "ok"
    assert found["sink.deduplication"].level == level
    assert len(server.events) == count
    sent = [event for batch in server.batches for event in batch]
    assert len(sent) == len(server.batches) == 2
    assert {(each["source"], each["type"], each["subject"]) for each in sent} == {
        ("shop", EVENT_TYPE, SUBJECT)
    }
    assert len({each["id"] for each in sent}) == 1
    assert server.violations == []


def test_two_looks_do_not_see_each_others_events(server):
    """Each has an id of its own."""
    look(server.sink_url, send=True)

    assert look(server.sink_url, send=True)["sink.deduplication"].level == "ok"


def test_the_second_event_may_come_late(server, client):
    """Listed once, it is looked for again: the other one may be on its way through the server."""

    def arrive_late():
        # The list of meters, two events, and a look at the list in which there is one.
        assert server.wait_until(lambda: len(server.received) >= 4)
        server.dedupe = False
        client.post(
            f"{server.url}/api/v1/events",
            content=server.received[1].body,
            headers=dict(server.received[1].headers),
        )

    thread = threading.Thread(target=arrive_late)
    thread.start()
    finding = look(server.sink_url, send=True, wait=20.0)["sink.deduplication"]
    thread.join()

    assert finding.level == "failure"


@pytest.mark.parametrize(
    ("faults", "said"),
    [
        pytest.param({"ingest": LostAfterAccept()}, "not listed after", id="lost"),
        pytest.param({"list": Refuse(501)}, "does not list events", id="no list"),
    ],
)
def test_where_nobody_can_tell_it_says_so(server, faults, said):
    """A server that lists nothing is not called one that deduplicates."""
    look_first = server.sink_url
    for target, fault in faults.items():
        # The list of meters is asked for first.
        if target == "list":
            server.order(Slow(0.0), times=1, to="list")
        server.order(fault, times=2 if target == "ingest" else 1, to=target)

    finding = look(look_first, send=True)["sink.deduplication"]

    assert finding.level == "warning"
    assert said in finding.found


@pytest.mark.parametrize(
    ("fault", "level", "said"),
    [
        pytest.param(Refuse(403), "warning", "403", id="no right to list"),
        pytest.param(Refuse(404), "warning", "404", id="nothing there"),
        pytest.param(Refuse(503), "warning", "503", id="not well"),
        pytest.param(Redirect(to="https://example.org/"), "failure", "elsewhere", id="redirect"),
        pytest.param(Refuse(200, body=b"<html>"), "failure", "not as OpenMeter", id="a web page"),
        pytest.param(Refuse(200, body=b'{"ok": 1}'), "failure", "not as OpenMeter", id="others"),
        pytest.param(Reset("before"), "failure", "connection failed", id="reset"),
    ],
)
def test_what_the_server_answers_is_judged(server, fault, level, said):
    """What would stop deliveries is a failure, what may pass or says little is none."""
    server.order(fault, to="list")

    reachable = look(server.sink_url)["sink.reachable"]

    assert reachable.level == level
    assert said in reachable.found


@pytest.mark.parametrize("token", [pytest.param(None, id="none"), pytest.param("x", id="wrong")])
def test_a_key_that_is_refused_is_a_failure(server, token):
    """And nothing else is asked."""
    found = look(server.sink_url, token=token, send=True)

    assert levels(found) == {"sink.reachable": "failure"}
    assert "401" in found["sink.reachable"].found
    assert len(server.received) == 1


def test_a_key_that_may_read_and_not_send(server):
    """Only sending shows it."""
    server.order(Refuse(403), times=None)

    assert "sink.takes_events" not in look(server.sink_url)
    assert look(server.sink_url, send=True)["sink.takes_events"].level == "failure"


@pytest.mark.parametrize(
    ("meters", "url", "found"),
    [
        pytest.param([], "", {"sink.meters": "warning"}, id="no meter"),
        pytest.param(
            [{**TOKENS, "eventType": "LLM.usage"}], "", {"sink.meters": "warning"}, id="near"
        ),
        pytest.param(
            [{**TOKENS, "aggregation": "MAX"}], "", {"sink.meters": "warning"}, id="no sum"
        ),
        pytest.param(
            [{**TOKENS, "valueProperty": "$.tokens"}],
            "",
            {"sink.meters": "warning", "sink.meter_properties": "warning"},
            id="property of another shape",
        ),
        pytest.param(
            [TOKENS, {**TOKENS, "slug": "x", "valueProperty": "$.tokens"}],
            "",
            {"sink.meters": "ok", "sink.meter_properties": "warning"},
            id="one of two",
        ),
        pytest.param(
            [{**TOKENS, "eventFrom": "2099-01-01T00:00:00Z"}],
            "",
            {"sink.meters": "ok", "sink.meter_begins": "warning"},
            id="later",
        ),
        pytest.param(
            [{**TOKENS, "eventType": "prompt", "valueProperty": "$.tokens"}],
            "shape=kind",
            {"sink.meters": "ok"},
            id="shape kind",
        ),
        pytest.param(
            [{**TOKENS, "eventType": "ai"}], "event_type=ai", {"sink.meters": "ok"}, id="own type"
        ),
        pytest.param(
            [TOKENS, {"slug": "n", "eventType": "llm.usage", "aggregation": "COUNT"}],
            "",
            {"sink.meters": "ok"},
            id="a count beside it",
        ),
    ],
)
@BOTH
def test_meters_are_compared_with_what_is_sent(meters, url, found, api):
    """A meter for our type that sums what our shape sends, or what is in its way."""
    with OpenMeterServer(meters=meters) as server:
        seen = levels(look(f"{server.sink_url}?api={api}&{url}", token=None))

    del seen["sink.reachable"], seen["sink.deduplication"]
    assert seen == found


@pytest.mark.parametrize(
    ("meter", "said"),
    [
        pytest.param({**TOKENS, "eventType": "LLM.usage"}, "'LLM.usage'", id="other letters"),
        pytest.param({**TOKENS, "eventType": "prompt"}, "?shape=kind", id="other shape"),
        pytest.param({**TOKENS, "eventType": "x"}, "1 other meters", id="other type"),
    ],
)
def test_a_meter_that_was_meant_is_named(meter, said):
    """What differs is easier to see beside it."""
    with OpenMeterServer(meters=[meter]) as server:
        assert said in look(server.sink_url, token=None)["sink.meters"].found


def test_a_server_that_is_away():
    """It refuses connections."""
    with OpenMeterServer() as server:
        server.down()
        assert "refuses connections" in look(server.sink_url)["sink.reachable"].found


def test_a_server_without_a_name():
    """`.invalid` is no name of any server (RFC 2606)."""
    found = look("openmeter+http://openmeter.invalid")

    assert levels(found) == {"sink.reachable": "failure"}
    assert "DNS" in found["sink.reachable"].found


@pytest.mark.parametrize(
    "fault",
    [pytest.param(Hang("before"), id="silent"), pytest.param(Slow(0.3, piece=1), id="dripping")],
)
def test_a_server_that_hangs_is_not_waited_for(server, fault):
    """Neither for an answer nor for one that never ends."""
    server.order(fault, to="list")

    assert "no answer within 0.5 s" in look(server.sink_url, limit=0.5)["sink.reachable"].found


@pytest.fixture
def tls():
    """The port of a server with a certificate that nobody trusts."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(Path(__file__).with_name("untrusted.pem"))
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve():
            with listening.accept()[0] as connection:
                try:
                    context.wrap_socket(connection, server_side=True).close()
                except OSError:
                    return  # the client says that it does not trust it

        thread = threading.Thread(target=serve)
        thread.start()
        yield listening.getsockname()[1]
        thread.join()


def test_a_certificate_that_nobody_trusts(tls):
    """It says so, and where to name the authority."""
    finding = look(f"openmeter+https://127.0.0.1:{tls}")["sink.reachable"]

    assert finding.level == "failure"
    assert "not trusted" in finding.found
    assert "SSL_CERT_FILE" in finding.advice


def test_https_where_http_is_spoken(server):
    """It is no matter of trust."""
    finding = look(server.sink_url.replace("http://", "https://"))["sink.reachable"]

    assert "TLS" in finding.found
