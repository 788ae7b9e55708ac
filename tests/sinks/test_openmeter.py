"""The OpenMeter sink on the wire, against a real HTTP server."""

from __future__ import annotations

import logging
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from importlib.metadata import version

import pytest

from llm_metering.errors import ConfigurationError, MeteringError, SinkURLError
from llm_metering.sinks import Delivery, Envelope, SinkLimits, open_sink
from llm_metering.sinks.http import Answer, judge, retry_after
from llm_metering.sinks.openmeter import OpenMeterSink
from llm_metering.testing import OpenMeterServer
from llm_metering.testing.faults import Refuse, Reset, Unreadable
from tests.factories import batch_of, envelope_of, make_event
from tests.forking import in_child

KEY = "om_hunter2"


@pytest.fixture
def server() -> Iterator[OpenMeterServer]:
    with OpenMeterServer() as server:
        yield server


@pytest.fixture
def sink(server) -> Iterator[OpenMeterSink]:
    with closing(open_sink(server.sink_url, source="tests")) as sink:
        yield sink


def test_the_request_is_what_openmeter_takes(server, sink):
    """One POST, an array of the payloads as they are, a bare Content-Type, no key unasked."""
    batch = batch_of([make_event(subject="Zoë"), make_event(usage=None)])

    delivery = sink.deliver(batch)

    [request] = server.received
    assert delivery == Delivery.all_accepted(batch)
    assert request.path == "/api/v1/events"
    assert request.body == b"[" + batch[0].payload + b"," + batch[1].payload + b"]"
    assert request.headers["Content-Type"] == "application/cloudevents-batch+json"
    assert request.headers["User-Agent"] == f"llm-metering/{version('llm-metering')}"
    assert "Authorization" not in request.headers
    assert server.violations == []


def test_v3_has_a_path_of_its_own(server):
    """`api=v3` posts the same body to the newer path, which answers 202."""
    batch = batch_of([make_event()])

    with closing(open_sink(f"{server.sink_url}?api=v3", source="tests")) as sink:
        assert sink.deliver(batch) == Delivery.all_accepted(batch)

    assert [request.path for request in server.received] == ["/api/v3/openmeter/events"]
    assert len(server.events) == 1


def test_a_base_path_comes_first(server):
    """A server behind a path is reached there."""
    with closing(open_sink(f"{server.sink_url}/behind/", source="tests")) as sink:
        sink.deliver(batch_of([make_event()]))

    assert [request.path for request in server.received] == ["/behind/api/v1/events"]


def test_the_key_goes_into_one_header_and_nowhere_else(caplog):
    """It authorises; no log, reason or representation shows it, though a server repeats it."""
    caplog.set_level(logging.DEBUG)
    batch = batch_of([make_event()])
    with (
        OpenMeterServer(token=KEY) as server,
        closing(open_sink(server.sink_url, source="tests", openmeter_token=f"{KEY}\n")) as sink,
    ):
        accepted = sink.deliver(batch)
        server.order(Refuse(403, detail=f"key {KEY} may not ingest"))
        refused = sink.deliver(batch)

    assert accepted == Delivery.all_accepted(batch)
    assert server.received[0].headers["Authorization"] == f"Bearer {KEY}"
    assert refused.reason == "403 Forbidden: key *** may not ingest"
    assert KEY not in caplog.text
    assert KEY not in repr(sink) + repr(vars(sink)["_http"]) + sink.url


def test_a_wrong_key_holds_everything():
    """401 is for a person to mend: nothing is dropped, nothing is tried in a hurry."""
    batch = batch_of([make_event()])
    with (
        OpenMeterServer(token=KEY) as server,
        closing(open_sink(server.sink_url, source="tests")) as sink,
    ):
        delivery = sink.deliver(batch)

    assert delivery == Delivery.try_later(batch, "401 Unauthorized: no valid token", hold=True)


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_2xx_is_accepted(server, sink, status):
    """Each API version has its own success."""
    batch = batch_of([make_event()])
    server.order(Refuse(status))

    assert sink.deliver(batch) == Delivery.all_accepted(batch)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 599])
def test_what_passes_is_tried_again(server, sink, status):
    """A server in trouble keeps nothing from coming later, as early as it says itself."""
    server.order(Refuse(status, retry_after=7))

    delivery = sink.deliver(batch_of([make_event()]))

    assert delivery.retryable
    assert not delivery.hold
    assert delivery.retry_after == 7.0
    assert delivery.reason.startswith(str(status))


@pytest.mark.parametrize(
    "status", [301, 302, 303, 307, 308, 401, 402, 403, 404, 405, 407, 409, 410, 415]
)
def test_what_does_not_pass_by_itself_is_held(server, sink, status):
    """Redirects are not followed: a POST would become a GET, and 200 would mean nothing."""
    server.order(Refuse(status, headers={"Location": f"{server.url}/elsewhere"}))

    delivery = sink.deliver(batch_of([make_event()]))

    assert delivery.retryable
    assert delivery.hold
    assert len(server.received) == 1


def test_the_reason_is_the_first_line_and_short(server, sink):
    """OpenMeter's validator adds the value it refused below; terminals obey escapes."""
    detail = "doesn't match \x1b[31mschema" + " and so on" * 50 + "\nValue:\n  customer-42"
    server.order(Refuse(403, detail=detail))

    reason = sink.deliver(batch_of([make_event()])).reason

    assert reason.startswith("403 Forbidden: doesn't match [31mschema and so on")
    assert len(reason) == 200
    assert "customer-42" not in reason


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        pytest.param({}, b"<html>", id="a page"),
        pytest.param({"Content-Type": "application/json"}, b"{", id="half a document"),
        pytest.param({"Content-Type": "application/json"}, b"[" * 100_000, id="nested"),
        pytest.param({"Content-Type": "application/json"}, b'"text"', id="no object"),
        pytest.param({"Content-Type": "application/json"}, b'{"title": 1}', id="no text"),
        pytest.param({"Content-Encoding": "gzip"}, b"no gzip", id="not decodable"),
    ],
)
def test_an_answer_nobody_understands_is_its_status(server, sink, headers, body):
    """What stands in the body of a refusal is a courtesy."""
    server.order(Refuse(502, headers=headers, body=body))

    assert sink.deliver(batch_of([make_event()])).reason == "502 Bad Gateway"


def test_a_success_with_a_broken_body_is_a_success(server, sink):
    """The server has the batch; sending it for ever would not mend its body."""
    batch = batch_of([make_event()])
    server.order(Unreadable())

    assert sink.deliver(batch) == Delivery.all_accepted(batch)


def test_an_outage_is_survived(server, sink):
    """Refused connections are tried later, and the same sink delivers when the server is back."""
    batch = batch_of([make_event()])
    sink.deliver(batch)

    server.down()
    during = sink.deliver(batch)
    server.up()
    after = sink.deliver(batch)

    assert during.retryable == after.accepted == {batch[0].id}
    assert "Connection refused" in during.reason
    assert not during.hold


def test_an_answer_that_never_comes_is_tried_again_under_the_same_id(server, sink):
    """The server may have it: only an id that stays lets anybody count it once."""
    batch = batch_of([make_event()])
    server.order(Reset("after"))

    first = sink.deliver(batch)
    second = sink.deliver(batch)

    assert first.retryable == second.accepted == {batch[0].id}
    assert not first.hold
    assert len(server.received) == 2
    assert len(server.events) == 1


def test_one_wrong_event_refuses_its_batch(server, sink):
    """OpenMeter stores nothing of a batch it refuses; so nothing of it is accepted."""
    payload = envelope_of(make_event()).payload.replace(b'"calls":1', b'"calls":null')
    batch = [envelope_of(make_event()), Envelope("wrong", payload)]

    delivery = sink.deliver(batch)

    assert delivery == Delivery.refuse(batch, "400 Bad Request at /data", blamed="wrong")
    assert server.events == []


def test_a_name_that_no_server_can_have_is_held():
    """The resolver raises another error for it than for a name it does not know."""
    with closing(open_sink("openmeter+http://a..b", source="tests")) as sink:
        delivery = sink.deliver(batch_of([make_event()]))

    assert delivery.hold
    assert delivery.reason == "no server can have this name"


def test_a_machine_without_certificates_is_no_crash(server, monkeypatch):
    """What the environment says wrongly about TLS is for a person to mend."""
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/ca.pem")
    secured = open_sink(f"openmeter+https://{server.url.partition('//')[2]}", source="tests")

    delivery = secured.deliver(batch_of([make_event()]))

    assert delivery.hold
    assert delivery.reason == "FileNotFoundError: check the proxy and certificate variables"


def test_a_connection_is_used_again_but_not_by_a_forked_child(server, sink):
    """Two processes that write into one connection would mix their requests."""
    batch = batch_of([make_event()])

    sink.deliver(batch)
    assert in_child(lambda: sink.deliver(batch) == Delivery.all_accepted(batch))
    sink.deliver(batch)

    before, child, after = (request.client for request in server.received)
    assert before == after != child


def test_an_empty_batch_is_not_sent(server, sink):
    """There is nothing to ask the server."""
    sink.deliver([])

    assert server.received == []


def test_close_does_not_disturb_a_request_in_flight(server, sink):
    """It ends by itself, and its connection is not kept."""
    batch = batch_of([make_event()])
    sink.deliver(batch)
    http = vars(sink)["_http"]
    wire, closings = http._take(*http._to)

    sink.close()
    wire.post(b"[]")
    http._give_back(wire, closings)

    assert sink.deliver(batch) == Delivery.all_accepted(batch)
    before, during, after = (request.client for request in server.received)
    assert before == during != after


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        pytest.param(None, None, id="absent"),
        pytest.param("0", 0.0, id="at once"),
        pytest.param(" 30 ", 30.0, id="seconds"),
        pytest.param("86400", 600.0, id="a day"),
        pytest.param("9" * 5000, 600.0, id="for ever"),
        pytest.param("Sat, 21 Nov 2026 12:00:30 GMT", 30.0, id="a date"),
        pytest.param("Sat, 21 Nov 2026 11:00:00 GMT", 0.0, id="a date gone by"),
        pytest.param("Sat, 21 Nov 2026 12:00:30 -0000", 30.0, id="a date without a zone"),
        pytest.param("Sun, 22 Nov 2026 12:00:00 GMT", 600.0, id="tomorrow"),
        pytest.param("-5", None, id="negative"),
        pytest.param("1.5", None, id="a fraction"),
        pytest.param("٣", None, id="other digits"),
        pytest.param("soon", None, id="words"),
        pytest.param("", None, id="empty"),
    ],
)
def test_retry_after_is_seconds_or_a_date(value, seconds):
    """Ten minutes at most; what cannot be read is no wish."""
    assert retry_after(value, now=datetime(2026, 11, 21, 12, tzinfo=UTC)) == seconds


def test_a_refusal_asks_for_no_wait():
    """Retry-After counts where trying again helps."""
    delivery = judge(
        batch_of([make_event()]),
        Answer(403, {"retry-after": "5"}),
        secret=None,
        now=datetime(2026, 11, 21, tzinfo=UTC),
    )

    assert delivery.retry_after is None
    assert delivery.hold


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        pytest.param(
            "openmeter+https://openmeter.cloud",
            ("openmeter", "openmeter+https://openmeter.cloud", "shop"),
            id="the cloud",
        ),
        pytest.param(
            "OpenMeter+HTTPS://OpenMeter.Cloud:443/?api=v1&shape=call",
            ("openmeter", "openmeter+https://openmeter.cloud", "shop"),
            id="the cloud, written otherwise",
        ),
        pytest.param(
            "openmeter+http://[::1]:8888/base/?account=books&name=backup",
            ("backup", "openmeter+http://[::1]:8888/base", "books"),
            id="everything",
        ),
    ],
)
def test_one_server_has_one_name(url, expected):
    """The journal's debts hang on URL and account: they must not vary with the spelling."""
    sink = open_sink(url, source="shop")

    assert (sink.name, sink.url, sink.account) == expected
    assert sink.limits == SinkLimits(
        max_events=100,
        max_bytes=512 * 1024,
        dedupe_window=timedelta(hours=24),
        dedupe="optional",
    )


@pytest.mark.parametrize(
    ("parameter", "window"),
    [
        pytest.param("", timedelta(hours=24), id="the server's own"),
        pytest.param("?dedupe_window=32d", timedelta(days=32), id="days"),
        pytest.param("?dedupe_window=36h", timedelta(hours=36), id="hours"),
        pytest.param("?dedupe_window=none", None, id="for ever"),
    ],
)
def test_how_long_a_server_knows_an_event_can_be_said(parameter, window):
    """Its operator chose it; what it may have had longer ago is not sent again."""
    sink = open_sink(f"openmeter+https://x{parameter}", source="tests")

    assert sink.limits.dedupe_window == window


@pytest.mark.parametrize(
    ("url", "message"),
    [
        pytest.param("nats://hunter2@b1/topic", "unknown scheme 'nats'", id="unknown"),
        pytest.param("https://hunter2@openmeter.cloud", "write openmeter+https://", id="no prefix"),
        pytest.param("hunter2", "begins with a scheme", id="no scheme"),
        pytest.param("", "begins with a scheme", id="empty"),
        pytest.param("memory:hunter2", "takes nothing more", id="memory with more"),
        pytest.param("openmeter+https://hunter2@openmeter.cloud", "OPENMETER_API_KEY", id="user"),
        pytest.param("openmeter+https://:hunter2@x", "OPENMETER_API_KEY", id="password"),
        pytest.param("openmeter+https://x?token=hunter2", "OPENMETER_API_KEY", id="token"),
        pytest.param("openmeter+https://x?hunter2", "OPENMETER_API_KEY", id="a bare token"),
        pytest.param("openmeter+https://x?api=v1&api=v3", "each once", id="twice"),
        pytest.param("openmeter+https://x?" + "a=1&" * 30, "cannot be read", id="far too many"),
        pytest.param("openmeter+https://x#hunter2", "fragment", id="fragment"),
        pytest.param("openmeter+https://", "needs a host", id="no host"),
        pytest.param("openmeter+https:/hunter2", "needs a host", id="one slash"),
        pytest.param("openmeter+https://x:hunter2", "cannot be read", id="no port"),
        pytest.param("openmeter+https://x:99999", "cannot be read", id="no such port"),
        pytest.param("openmeter+https://[hunter2", "cannot be read", id="half an address"),
        pytest.param("openmeter+https://xn--ß", "cannot be read", id="no name"),
        pytest.param("openmeter+https://x;jsonl:///hunter2", "cannot be read", id="two URLs"),
        pytest.param("openmeter+https://x|hunter2", "cannot be read", id="a bar"),
        pytest.param("openmeter+https://x?api=v2", "one of v1, v3, got 'v2'", id="api"),
        pytest.param("openmeter+https://x?shape=raw", "one of call, kind, openai,", id="shape"),
        pytest.param("openmeter+https://x?dedupe_window=soon", "24h or 32d", id="window"),
        pytest.param("openmeter+https://x?dedupe_window=", "24h or 32d", id="empty window"),
        pytest.param("openmeter+https://x?account=", "account must not be empty", id="account"),
        pytest.param("openmeter+https://x?name=%20", "name must not be empty", id="name"),
    ],
)
def test_a_url_that_makes_no_sense_is_refused_without_its_secrets(url, message):
    """The error names the setting and what is allowed; people put keys into URLs."""
    with pytest.raises(SinkURLError) as caught:
        open_sink(url, source="tests")

    assert isinstance(caught.value, MeteringError)
    assert caught.value.setting == "sinks"
    assert message in str(caught.value)
    # With all that led to it; limit=0 leaves out our own lines.
    assert "hunter2" not in "".join(traceback.format_exception(caught.value, limit=0))


@pytest.mark.parametrize("token", ["om hunter2", "om\nhunter2", "hunter2é"])
def test_a_token_no_header_can_carry_is_refused(token):
    """At configuration, and without showing it."""
    with pytest.raises(ConfigurationError, match=r"^openmeter_token: ") as caught:
        open_sink("openmeter+https://x", source="tests", openmeter_token=token)

    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("token", [None, "", " \n"])
def test_an_empty_token_is_none(server, token):
    """An environment variable that is set to nothing asks for nothing."""
    with closing(open_sink(server.sink_url, source="tests", openmeter_token=token)) as sink:
        sink.deliver(batch_of([make_event()]))

    assert "Authorization" not in server.received[0].headers


def test_importing_sinks_imports_no_http_client():
    """Whoever ships nothing pays for no HTTP library."""
    code = "import sys, llm_metering.sinks; sys.exit('httpx' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_proxy_that_the_environment_names_is_used(server, monkeypatch):
    """The request goes to the proxy, with the whole address, and its answer is the answer."""
    monkeypatch.setenv("HTTP_PROXY", server.url)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    batch = batch_of([make_event()])

    with closing(OpenMeterSink("http://metering.invalid", account="tests")) as sink:
        delivery = sink.deliver(batch)

    assert not delivery.accepted
    assert delivery.reason is not None
    assert delivery.reason.startswith("404")
