"""Kafka: a record for each event, acknowledged when the brokers say that it is written.

A record is what the Kafka protocol binding of CloudEvents 1.0.2 calls the structured content mode:
https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md
Its key is the subject, so that a customer's events stay in one partition, and its value what is in the
journal. The headers repeat what tells an event from another, for readers that look at nothing else.

Kafka knows no event twice: idempotence, which is on, is about one producer's retries. A process that
is killed before it hears of a batch leaves it to another, which writes it again. Readers count an event
of the same `ce_source` and `ce_id` once.

A record has no timestamp of its own: brokers delete by that time, and an event that comes late, or is
sent again, would be gone before anybody read it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from ... import system
from ...errors import SinkURLError
from ...handoff import Turn
from .._payload import UnusableEventError, read_event_as
from ..base import Delivery, Envelope, SinkContext, SinkLimits
from ..reasons import shorten
from ..urls import filled
from .faults import REFUSED, Fault
from .library import confluent_kafka
from .producer import Key, Line, Record
from .topic import KafkaTopic, topic_of

__all__ = ["FIXED", "KafkaSink", "from_url", "records_of"]

PATIENCE: Final = 10.0
"""Seconds to wait for what was written to be reported, while a broker may be there."""
CLOSE_PATIENCE: Final = 15.0
LIMITS: Final = SinkLimits(max_events=2000, max_bytes=4 << 20, dedupe="never")

_KEPT_PROMISES: Final[Mapping[str, str]] = {
    "enable.idempotence": "true",
    "acks": "all",
    "message.timeout.ms": "0",
}
FIXED: Final = frozenset(
    [
        *(*_KEPT_PROMISES, "request.required.acks", "delivery.timeout.ms"),
        *("bootstrap.servers", "metadata.broker.list", "transactional.id"),
        # An event would be given up, reported only if it fails, or taken by brokers in memory.
        *("retries", "message.send.max.retries", "delivery.report.only.error"),
        *("enable.gapless.guarantee", "log.queue", "test.mock.num.brokers"),
    ]
)
"""Properties that nobody may change."""

_DEFAULTS: Final[Mapping[str, str]] = {
    "client.id": "llm-metering",
    # Java's producers, ksqlDB and Flink put a key into this partition too.
    "partitioner": "murmur2_random",
    "enable.metrics.push": "false",
    # Else an outage may last ten seconds longer than it does.
    "reconnect.backoff.max.ms": "2000",
    # A topic that does not exist is said so within one delivery.
    "topic.metadata.propagation.max.ms": "5000",
}
_PARAMETERS: Final = ("account", "name")
_CONTENT_TYPE: Final = ("content-type", "application/cloudevents+json; charset=UTF-8")


class _Event(msgspec.Struct, frozen=True, gc=False):
    id: str
    source: str
    type: str
    subject: str
    time: datetime
    specversion: str = "1.0"


_events: Final = msgspec.json.Decoder(_Event)


class KafkaSink:
    """Writes events to a topic.

    Args:
        topic: Which.
        account: Whose books it writes: by default the name of the application.
        name: How `status` calls it.

    Attributes:
        topic: Where its records go.
        properties: librdkafka's, as the sink uses them; with secrets.

    Raises:
        SinkURLError: If librdkafka does not know a property, or its value makes no sense.
        MissingExtraError: If confluent-kafka is not installed.
    """

    limits = LIMITS

    def __init__(self, topic: KafkaTopic, *, account: str, name: str = "kafka") -> None:
        self.name = name
        self.url = topic.url
        self.account = account
        self.topic = topic
        self._secrets = topic.secrets
        self.properties: Mapping[str, str] = {
            **_DEFAULTS,
            **topic.properties,
            **_KEPT_PROMISES,
            "bootstrap.servers": ",".join(topic.brokers),
        }
        _check(self.properties, self._secrets)
        self._line = Line(topic.topic, self.properties, self._secrets)
        self._turn = Turn()
        system.on_fork(self)

    def __repr__(self) -> str:
        return f"<KafkaSink {self.name} {self.url} account={self.account}>"

    def deliver(self, batch: Sequence[Envelope], /) -> Delivery:
        system.notice_fork()
        records, rejected = records_of(batch)
        if not records:
            return Delivery(rejected=rejected)
        with self._turn:
            until = time.monotonic() + PATIENCE
            try:
                faults = self._line.write(records, until=until)
                if any(fault.kind in REFUSED for fault in faults.values()):
                    self._sort_out(records, faults, until)
            except Exception as error:
                reason = shorten(f"no producer: {_text_of(error)}", self._secrets)
                faults = dict.fromkeys(records, Fault("hold", reason))
        return _judge(batch, records, faults, rejected)

    def close(self) -> None:
        system.notice_fork()
        if self._turn.acquire(timeout=CLOSE_PATIENCE):
            try:
                self._line.close()
            finally:
                self._turn.release()

    def after_fork(self) -> None:
        """Let go of the parent's producer in a forked child."""
        self._line.forget()
        self._turn = Turn()

    def _sort_out(
        self, records: Mapping[Key, Record], faults: dict[Key, Fault], until: float
    ) -> None:
        """Offer what was refused in company again in parts, until each is taken or refused alone.

        A broker refuses what comes in one request for a partition together. Where it took others
        of the batch, it is well, and what it refuses alone is itself to blame.
        """
        refused = [key for key, fault in faults.items() if fault.kind in REFUSED]
        if len(faults) == len(records):
            return
        groups = [refused]
        while groups and time.monotonic() < until:
            group = groups.pop()
            middle = (len(group) + 1) // 2
            for part in filter(None, (group[:middle], group[middle:])):
                for key in part:
                    del faults[key]
                faults |= self._line.write({key: records[key] for key in part}, until=until)
                again = [key for key in part if key in faults and faults[key].kind in REFUSED]
                if len(part) == 1 and again:
                    faults[part[0]] = Fault("too_large", faults[part[0]].reason)
                elif again:
                    groups.append(again)


def records_of(
    batch: Sequence[Envelope],
) -> tuple[dict[Key, Record], frozenset[tuple[str, str]]]:
    """The records of a batch, and the events that are none, with the reason."""
    records: dict[Key, Record] = {}
    rejected: set[tuple[str, str]] = set()
    for envelope in batch:
        try:
            event = read_event_as(_events, envelope.payload)
        except UnusableEventError as error:
            rejected.add((envelope.id, str(error)))
            continue
        headers = [
            _CONTENT_TYPE,
            ("ce_id", event.id),
            ("ce_source", event.source),
            ("ce_type", event.type),
            ("ce_specversion", event.specversion),
        ]
        records[event.source, envelope.id] = Record(event.subject, envelope.payload, headers)
    return records, frozenset(rejected)


def _judge(
    batch: Sequence[Envelope],
    records: Mapping[Key, Record],
    faults: Mapping[Key, Fault],
    rejected: frozenset[tuple[str, str]],
) -> Delivery:
    if not faults and not rejected:
        return Delivery.all_accepted(batch)
    dead = {key[1]: fault for key, fault in faults.items() if fault.kind == "too_large"}
    left = {key[1]: fault for key, fault in faults.items() if fault.kind != "too_large"}
    kinds = {fault.kind for fault in left.values()}
    accepted = frozenset(key[1] for key in records if key not in faults)
    refused = bool(kinds) and kinds <= REFUSED and not accepted
    return Delivery(
        accepted=accepted,
        retryable=frozenset(left),
        rejected=rejected | {(event_id, fault.reason) for event_id, fault in dead.items()},
        reason=_reason(left.values()),
        hold="hold" in kinds,
        refusal=("size" if "size" in kinds else "content") if refused else None,
        ambiguous="unknown" in kinds,
    )


def _reason(faults: Iterable[Fault]) -> str | None:
    """The one that a person should see: what only they can mend, and then what is commonest."""
    counted: dict[Fault, int] = {}
    for fault in faults:
        counted[fault] = counted.get(fault, 0) + 1
    if not counted:
        return None
    return max(counted, key=lambda fault: (fault.kind == "hold", counted[fault])).reason


def _check(properties: Mapping[str, str], secrets: Iterable[str]) -> None:
    """Have librdkafka read the properties, without brokers that it could connect to."""
    library = confluent_kafka()
    if "sasl.oauthbearer.method" in properties:
        return  # it would ask for a token
    alone = {name: value for name, value in properties.items() if name != "bootstrap.servers"}
    try:
        with system.undisturbed():
            library.Producer({**alone, "log_level": 0})
    except Exception as error:
        # An error may quote the value.
        text = _text_of(error)
        for name, value in properties.items():
            if name in text:
                text = text.replace(f'"{value}"', "").replace(f": {value}", "")
        told = shorten(text, secrets)
        raise SinkURLError(f"a kafka sink cannot be made so: {told}") from None


def _text_of(error: Exception) -> str:
    cause: Any = error.args[0] if error.args else None
    return str(cause.str()) if hasattr(cause, "fatal") else type(error).__name__


def from_url(url: str, context: SinkContext, /) -> KafkaSink:
    """Make the sink that `kafka://host:9092/topic` names.

    Raises:
        SinkURLError: If the URL makes no sense.
        ConfigurationError: If the file of properties cannot be used.
        MissingExtraError: If confluent-kafka is not installed.
    """
    topic = topic_of(url, context.credentials, parameters=_PARAMETERS, fixed=FIXED)
    return KafkaSink(
        topic,
        account=filled("account", topic.parameters.get("account", context.source)),
        name=filled("name", topic.parameters.get("name", "kafka")),
    )
