"""The CloudEvents sink against a receiver that verifies with the official library."""

from __future__ import annotations

import base64
import importlib.util
import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from llm_metering import Meter, TokenUsage
from llm_metering.errors import ConfigurationError, SinkURLError
from llm_metering.settings.delivering import read_webhook_secrets
from llm_metering.sinks import Delivery, Envelope, open_sink
from llm_metering.sinks.cloudevents import CloudEventsSink, signed_headers
from tests.factories import batch_of, envelope_of, make_event
from tests.sinks.webhook_receiver import Answer, WebhookReceiver

ROOT = Path(__file__).parents[2]
OLD = "whsec_" + base64.b64encode(b"o" * 32).decode()
NEW = "whsec_" + base64.b64encode(b"n" * 32).decode()
TOKEN = "hunter2-token"
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC).timestamp()


@pytest.fixture
def receiver() -> Iterator[WebhookReceiver]:
    with WebhookReceiver(OLD) as receiver:
        yield receiver


@pytest.fixture
def sink(receiver) -> Iterator[CloudEventsSink]:
    with closing(open_sink(receiver.url, source="tests", webhook_secret=OLD)) as sink:
        yield sink


class Clock:
    """Seconds since 1970 that a test turns."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def test_the_request_is_a_structured_batch(receiver, sink):
    """One POST to the path, the payloads as they are in an array, a bare Content-Type, no token."""
    batch = batch_of([make_event(subject="Zoë"), make_event(usage=None)])

    assert sink.deliver(batch) == Delivery.all_accepted(batch)

    [request] = receiver.received
    assert (request.method, request.path) == ("POST", "/usage")
    assert request.body == b"[" + batch[0].payload + b"," + batch[1].payload + b"]"
    assert request.headers["Content-Type"] == "application/cloudevents-batch+json"
    assert "Authorization" not in request.headers
    assert [event["specversion"] for event in json.loads(request.body)] == ["1.0", "1.0"]
    assert receiver.ledger.keys() == {("tests", envelope.id) for envelope in batch}


def test_the_connection_is_kept_though_each_request_is_signed(receiver, sink):
    """Signatures are headers of one request: they open no new connection."""
    for _ in range(3):
        assert sink.deliver(batch_of([make_event()])).accepted

    assert len({request.client for request in receiver.received}) == 1


@pytest.mark.parametrize(
    "known", [pytest.param(OLD, id="old key"), pytest.param(NEW, id="new key")]
)
def test_a_key_can_be_changed_while_requests_are_made(receiver, known):
    """With two keys either side may be the first to change: both signatures are there."""
    receiver.secret = known

    with closing(open_sink(receiver.url, source="s", webhook_secret=f"{NEW} {OLD}")) as sink:
        assert sink.deliver(batch_of([make_event()])).accepted

    [request] = receiver.received
    assert len(request.headers["webhook-signature"].split(" ")) == 2


def test_another_key_is_refused_and_everything_kept(receiver):
    """A receiver that cannot verify answers 401: a person is wanted, and nothing is lost."""
    batch = batch_of([make_event()])

    with closing(open_sink(receiver.url, source="s", webhook_secret=NEW)) as sink:
        delivery = sink.deliver(batch)

    assert delivery == Delivery.try_later(batch, "401 Unauthorized", hold=True)
    assert receiver.ledger == {}


def test_a_changed_body_is_not_signed(receiver, sink):
    """The signature is of the bytes: a body with another count in it does not verify."""
    sink.deliver([envelope_of(make_event(usage=TokenUsage(input_tokens=1000)))])
    [request] = receiver.received
    headers = dict(request.headers.items())

    assert Webhook(OLD).verify(request.body, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(OLD).verify(request.body.replace(b"1000", b"9000"), headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(OLD).verify(request.body, headers | {"webhook-id": "msg_other"})


def test_a_request_that_is_made_again_has_its_id_and_a_new_time(receiver):
    """What the receiver goes by stays the same; the time is that of the attempt, so it is no replay."""
    clock = Clock(NOW)
    receiver.secret = None
    receiver.orders = [Answer(status=503), Answer(status=204, stores=True)]
    batch = batch_of([make_event(), make_event()])

    first = CloudEventsSink(
        receiver.url.partition("+")[2], account="s", keys=[b"k" * 32], clock=clock
    )
    with closing(first):
        assert first.deliver(batch).reason == "503 Service Unavailable"
    clock.now += 600
    # Another process takes over, and the events come in another order.
    other = CloudEventsSink(
        receiver.url.partition("+")[2], account="s", keys=[b"k" * 32], clock=clock
    )
    with closing(other):
        assert other.deliver(batch[::-1]).accepted
        assert other.deliver(batch[:1]).accepted

    ids = [request.headers["webhook-id"] for request in receiver.received]
    times = [int(request.headers["webhook-timestamp"]) for request in receiver.received]
    assert ids[0] == ids[1] != ids[2]
    assert times == [NOW, NOW + 600, NOW + 600]
    signatures = [request.headers["webhook-signature"] for request in receiver.received]
    assert len(set(signatures)) == 3


def test_events_of_two_applications_are_two_requests(receiver, sink):
    """The id of a request is made of source and id of its events: one id in two sources is two."""
    for source in ("shop", "search"):
        sink.deliver([envelope_of(make_event(id="same", source=source))])

    first, second = receiver.received
    assert first.headers["webhook-id"] != second.headers["webhook-id"]
    assert len(receiver.ledger) == 2


def test_a_lost_answer_is_a_repeat_that_the_receiver_can_tell(receiver, sink):
    """It has the events, we do not know it: they come again under the same ids and count once."""
    receiver.orders = [Answer(status=204, stores=True, cuts=True)]
    batch = batch_of([make_event(), make_event()])

    lost = sink.deliver(batch)
    again = sink.deliver(batch)

    assert lost.ambiguous
    assert lost.retryable == {envelope.id for envelope in batch}
    assert again == Delivery.all_accepted(batch)
    assert set(receiver.count().values()) == {2}
    assert len(receiver.ledger) == 2
    assert len({request.headers["webhook-id"] for request in receiver.received}) == 1


def test_the_vector_of_the_specification():
    """Id, time, body and key give the signature that any implementation of the standard gives."""
    key = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    headers = signed_headers(
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        b'{"test": 2432232314}',
        keys=read_webhook_secrets(key),
        now=1614265330.9,
    )

    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": Webhook(key).sign(
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            datetime.fromtimestamp(1614265330, UTC),
            '{"test": 2432232314}',
        ),
    }
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_without_a_secret_nothing_is_signed(receiver):
    """A receiver on a closed network may do without."""
    receiver.secret = None

    with closing(open_sink(receiver.url, source="s")) as sink:
        assert sink.deliver(batch_of([make_event()])).accepted

    [request] = receiver.received
    assert not [name for name in request.headers if name.lower().startswith("webhook-")]


def test_a_token_is_sent_and_never_shown(receiver):
    """The bearer token is in the header alone, even where the receiver repeats it."""
    receiver.token = TOKEN
    batch = batch_of([make_event()])
    problem = (("Content-Type", "application/problem+json"),)

    with closing(
        open_sink(receiver.url, source="s", webhook_secret=OLD, webhook_token=TOKEN)
    ) as sink:
        assert sink.deliver(batch).accepted
        receiver.orders = [
            Answer(
                status=403, headers=problem, body=b'{"detail": "no rights: %s"}' % TOKEN.encode()
            )
        ]
        refused = sink.deliver(batch)

        assert refused.hold
        assert refused.reason == "403 Forbidden: no rights: ***"
        assert TOKEN not in repr(sink) + sink.url
        assert OLD not in repr(sink) + sink.url


@pytest.mark.parametrize(
    ("status", "hold"),
    [
        pytest.param(410, True, id="gone"),
        pytest.param(404, True, id="not there"),
        pytest.param(302, True, id="elsewhere"),
        pytest.param(429, False, id="too many"),
        pytest.param(500, False, id="broken"),
    ],
)
def test_usage_is_never_thrown_away_for_an_answer(receiver, sink, status, hold):
    """Whatever the receiver says, the events are offered again; `hold` if a person is wanted."""
    receiver.orders = [Answer(status=status, headers=(("Location", "/elsewhere"),))]
    batch = batch_of([make_event()])

    delivery = sink.deliver(batch)

    assert (delivery.hold, delivery.accepted) == (hold, frozenset())
    assert delivery.retryable == {batch[0].id}
    assert delivery.refusal is None
    assert sink.deliver(batch) == Delivery.all_accepted(batch)


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_any_success_takes_the_batch(receiver, sink, status):
    """The body of a success is nobody's business."""
    receiver.orders = [Answer(status=status, stores=True)]

    assert sink.deliver(batch_of([make_event()])).accepted


def test_one_bad_event_does_not_hold_up_the_others(receiver, home):
    """A receiver that refuses a batch for one event gets the rest; that one becomes a dead letter."""
    receiver.down()
    with Meter(home, [receiver.url], source="shop", ledger=False, webhook_secret=OLD) as meter:
        events = [meter.record(TokenUsage(input_tokens=1 + n), "acme", model="m") for n in range(8)]
        receiver.poison = events[5].id
        receiver.up()

        assert meter.flush()

        [sink] = meter.statistics()["sinks"]
        assert (sink["acked"], sink["dead"], sink["pending"]) == (7, 1, 0)
    good = {event.id for event in events} - {receiver.poison}
    assert {event_id for _, event_id in receiver.ledger} == good


def test_what_cannot_be_read_makes_no_request(receiver, sink):
    """A batch of nothing but unusable events is rejected here."""
    delivery = sink.deliver([Envelope("bad", b"{")])

    assert [event_id for event_id, _ in delivery.rejected] == ["bad"]
    assert receiver.received == []


@pytest.mark.parametrize(
    ("url", "posts_to"),
    [
        pytest.param(
            "cloudevents+https://Example.org/usage", "https://example.org/usage", id="path"
        ),
        pytest.param(
            "cloudevents+https://example.org/a/", "https://example.org/a/", id="slash kept"
        ),
        pytest.param("cloudevents+https://example.org:443", "https://example.org", id="usual port"),
        pytest.param("cloudevents+https://example.org/", "https://example.org", id="root"),
        pytest.param("cloudevents+http://[::1]:80/a", "http://[::1]/a", id="IPv6"),
        pytest.param(
            "cloudevents+http://example.org/a%20b", "http://example.org/a%20b", id="escape"
        ),
    ],
)
def test_a_url_has_one_spelling(url, posts_to):
    """Debts are kept under it; the path is as it was given."""
    sink = open_sink(url, source="shop")

    assert sink.url == f"cloudevents+{posts_to}"
    assert (sink.account, sink.name) == ("shop", "cloudevents")


def test_the_path_arrives_as_given(receiver):
    """A slash at the end is there on the wire, and an address without a path asks for the root."""
    host = receiver.url.removesuffix("/usage")
    for path in ("/usage/", "/a%2Fb", "", "/"):
        with closing(open_sink(host + path, source="s", webhook_secret=OLD)) as sink:
            assert sink.deliver(batch_of([make_event()])).accepted

    assert [request.path for request in receiver.received] == ["/usage/", "/a%2Fb", "/", "/"]


def test_parameters():
    """How many events a request holds, how long the receiver remembers, whose books, what name."""
    sink = open_sink(
        "cloudevents+https://example.org?max_events=7&dedupe_window=32d&account=all&name=books",
        source="shop",
    )

    assert (sink.account, sink.name) == ("all", "books")
    assert sink.limits.max_events == 7
    assert sink.limits.dedupe_window == timedelta(days=32)
    assert sink.limits.dedupe == "unknown"
    assert open_sink("cloudevents+https://a.example", source="s").limits.dedupe_window is None


@pytest.mark.parametrize("secret", ["whsec_…", "whsec_c2hvcnQ=", "c2hvcnQ", "whsec_!"])
def test_a_wrong_secret_is_told_what_is_wanted(secret):
    """Even one that was copied from these pages, with its dots."""
    with pytest.raises(ValueError, match=r"^whsec_ and base64 of 24 to 64 bytes is wanted$"):
        read_webhook_secrets(secret)


@pytest.mark.parametrize(
    ("url", "match"),
    [
        pytest.param("cloudevents+https:///usage", "needs a host", id="no host"),
        pytest.param("cloudevents+https://u:hunter2@a.example", "WEBHOOK_SECRET", id="password"),
        pytest.param("cloudevents+https://a.example?secret=hunter2", "WEBHOOK_SECRET", id="secret"),
        pytest.param("cloudevents+https://a.example?max_events=0", "from 1", id="no events"),
        pytest.param("cloudevents+https://a.example?dedupe_window=1y", "24h or 32d", id="a year"),
        pytest.param("cloudevents+https://a.example?account=", "account", id="no account"),
        pytest.param("cloudevents+https://a.example#hunter2", "fragment", id="fragment"),
        pytest.param("cloudevents+https://a.example:hunter2", "port", id="no port"),
    ],
)
def test_a_wrong_url_is_named_without_what_may_be_secret(url, match):
    """The error says what is wanted and repeats no part that a secret could be in."""
    with pytest.raises(SinkURLError, match=match) as caught:
        open_sink(url, source="s")

    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("setting", ["webhook_secret", "webhook_token"])
def test_a_secret_or_token_that_is_none_is_not_repeated(setting):
    """From code, past the settings: the error names the setting alone."""
    with pytest.raises(ConfigurationError) as caught:
        open_sink("cloudevents+https://a.example", source="s", **{setting: "whsec_hunter2 \n\x00"})

    assert caught.value.setting == setting
    assert "hunter2" not in str(caught.value)


class _Quiet(WSGIRequestHandler):
    def log_message(self, format, *args):
        """Say nothing."""


def test_the_receiver_of_the_documentation_counts_once(tmp_path, home):
    """`examples/webhook_receiver.py` takes what is signed, each event once, and nothing else."""
    spec = importlib.util.spec_from_file_location("example", ROOT / "examples/webhook_receiver.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    application = example.receiver(str(tmp_path / "usage.db"), f"{NEW} {OLD}")
    with make_server("127.0.0.1", 0, application, handler_class=_Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        url = f"cloudevents+http://127.0.0.1:{server.server_port}/usage"
        try:
            batch = batch_of([make_event(), make_event()])
            with closing(open_sink(url, source="s", webhook_secret=OLD)) as sink:
                assert sink.deliver(batch) == Delivery.all_accepted(batch)
                assert sink.deliver(batch) == Delivery.all_accepted(batch)
            with closing(open_sink(url, source="s")) as sink:
                assert sink.deliver(batch_of([make_event()])).hold
            endpoint = url.partition("+")[2]
            old = Clock(datetime.now(UTC).timestamp() - 3600)
            key = read_webhook_secrets(OLD)
            with closing(CloudEventsSink(endpoint, account="s", keys=key, clock=old)) as sink:
                assert sink.deliver(batch_of([make_event()])).hold
            with Meter(home, [url], source="shop", ledger=False, webhook_secret=OLD) as meter:
                event = meter.record(TokenUsage(input_tokens=3), "acme", model="m")
                assert meter.flush()
        finally:
            server.shutdown()
            thread.join()

    with closing(sqlite3.connect(tmp_path / "usage.db")) as database:
        rows = database.execute("SELECT source, id FROM usage ORDER BY rowid").fetchall()
    assert rows == [*(("tests", each.id) for each in batch), ("shop", event.id)]
