"""`TopicReader`: a topic as its brokers hand it out; all that is asked of confluent-kafka.

Partitions are assigned by hand, at the ledger's positions: which records are read is the ledger's to
say, not a consumer group's. Properties as librdkafka 2.16 has them:
https://github.com/confluentinc/librdkafka/blob/v2.16.0/CONFIGURATION.md
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, Final

from ..errors import ConfigurationError, IngestError
from ..sinks.kafka.library import Log, confluent_kafka
from ..sinks.kafka.topic import KafkaTopic, topic_of
from ..sinks.reasons import shorten
from .positions import Watermarks
from .seen import BrokerError, Record, Seen, error_of, seen_of, trouble_of, worst_of

__all__ = ["TopicReader"]

logger = logging.getLogger("llm_metering")

DEFAULT_GROUP: Final = "llm-metering"
SCHEME: Final = "kafka://"
PARAMETERS: Final = ("account", "group", "name")
"""All but `group` are the sink's, whose URL may be given as it is."""

NOT_YOURS: Final = frozenset(
    ["bootstrap.servers", "metadata.broker.list", "group.id", "log.queue", "test.mock.num.brokers"]
)
"""Properties that the URL says, or that would keep librdkafka's reports from us."""

FIXED: Final[Mapping[str, str | bool]] = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    # What was deleted has to be said, not passed over.
    "auto.offset.reset": "error",
    "enable.partition.eof": True,
    # What a transaction took back was never sent.
    "isolation.level": "read_committed",
    "allow.auto.create.topics": False,
}
USUAL: Final = {
    "client.id": "llm-metering",
    "enable.metrics.push": False,
    # An outage ends for us soon after it ends.
    "reconnect.backoff.max.ms": 2000,
    # So long does `close` wait for a group that does not answer, to which positions are shown. We are
    # no member of it, for whom it would mean more.
    "session.timeout.ms": 2000,
    # Of memory for what was fetched and not read yet; 64 MiB unless it is said.
    "queued.max.messages.kbytes": 16_384,
}

ANSWER_WITHIN: Final = 2.0
"""Seconds to wait for a broker before it is asked again; so long may a signal wait, too."""

LULL: Final = 0.1
"""Seconds without a record, behind which there is no use in waiting for more of them."""

AT_ONCE: Final = 500
"""Messages that are asked of librdkafka at once; between two such pieces their size is looked at."""


class TopicReader:
    """Reads a topic.

    Args:
        url: `kafka://host[:port][,host[:port]…]/topic[?group=…]`.
        credentials: `kafka_username`, `kafka_password` and `kafka_properties`, where they are set.

    Raises:
        SinkURLError: If the URL names no topic.
        ConfigurationError: If a property cannot be used.
        MissingExtraError: If confluent-kafka is not installed.
    """

    def __init__(self, url: str, credentials: Mapping[str, str]) -> None:
        if not url.startswith(SCHEME):
            raise ConfigurationError("URL", "a topic is wanted: kafka://host:9092/topic")
        fixed = {*FIXED, *NOT_YOURS}
        self._of: KafkaTopic = topic_of(url, credentials, parameters=PARAMETERS, fixed=fixed)
        self.group = self._of.parameters.get("group") or DEFAULT_GROUP
        self.cluster = ""
        self._errors: deque[Any] = deque(maxlen=100)
        self._high: dict[int, int] = {}
        self._consumer = self._made()

    @property
    def topic(self) -> str:
        """The topic's name."""
        return self._of.topic

    @property
    def url(self) -> str:
        """The topic's URL without parameters."""
        return self._of.url

    def partitions(self) -> list[int]:
        """The numbers of the partitions that there are now; afterwards `cluster` is known.

        Raises:
            BrokerError: If that is not to be had now.
            IngestError: If the brokers are of another cluster than before.
        """
        kafka = confluent_kafka()
        try:
            metadata = self._consumer.list_topics(self.topic, timeout=ANSWER_WITHIN)
        except kafka.KafkaException as exception:
            # Which hands out what else has happened, such as a wrong password.
            self._consumer.poll(0)
            seen = [exception.args[0], *self._errors]
            self._errors.clear()
            raise worst_of(seen, self._of.secrets) from exception
        error = metadata.topics[self.topic].error
        if error is not None:
            raise self._error(error, f"the topic {self.topic}: ")
        cluster = metadata.cluster_id or ""
        if self.cluster and cluster != self.cluster:
            raise IngestError(
                f"the brokers of {self.url} are of another cluster than a moment ago; start again"
            )
        self.cluster = cluster
        return sorted(metadata.topics[self.topic].partitions)

    def watermarks(self, partition: int) -> Watermarks:
        """What a partition has now.

        Raises:
            BrokerError: If that is not to be had now.
        """
        kafka = confluent_kafka()
        try:
            low, high = self._consumer.get_watermark_offsets(
                kafka.TopicPartition(self.topic, partition), timeout=ANSWER_WITHIN
            )
        except kafka.KafkaException as exception:
            raise self._error(exception.args[0], f"partition {partition}: ") from exception
        self._high[partition] = high
        return Watermarks(low, high)

    def assign(self, offsets: Mapping[int, int]) -> None:
        """Read these partitions from these offsets on, and forget what was fetched before."""
        kafka = confluent_kafka()
        self._consumer.assign(
            [kafka.TopicPartition(self.topic, each, offset) for each, offset in offsets.items()]
        )

    def read(
        self, *, most: int, most_bytes: int, seconds: float, stop: threading.Event
    ) -> Iterator[Seen]:
        """What comes within so many seconds, at most so many records and about so many bytes."""
        deadline = time.monotonic() + seconds
        count = size = 0
        while count < most and size < most_bytes and not stop.is_set():
            left = deadline - time.monotonic()
            messages = self._consumer.consume(
                min(AT_ONCE, most - count), timeout=min(max(left, 0.0), LULL)
            )
            if not messages and count:
                return
            for message in messages:
                seen = seen_of(message, self._of.secrets)
                count += 1
                size += len(seen.value or b"") if isinstance(seen, Record) else 0
                yield seen
            while self._errors:
                yield trouble_of(self._errors.popleft(), self._of.secrets)
            if left <= 0:
                return

    def behind(self, partition: int, position: int) -> int | None:
        """How many offsets there are behind a position, as far as the brokers have said so."""
        kafka = confluent_kafka()
        _, high = self._consumer.get_watermark_offsets(
            kafka.TopicPartition(self.topic, partition), cached=True
        )
        # Before the first records come, nothing is cached: OFFSET_INVALID, which is negative.
        high = max(high, self._high.get(partition, -1))
        return high - position if high >= position else None

    def show_positions(self, offsets: Mapping[int, int]) -> None:
        """Commit positions to the group, for those who watch its lag; nobody reads them back."""
        kafka = confluent_kafka()
        try:
            self._consumer.commit(
                offsets=[
                    kafka.TopicPartition(self.topic, each, at) for each, at in offsets.items()
                ],
                asynchronous=True,
            )
        except kafka.KafkaException as exception:
            logger.debug("positions are not shown to the group: %s", exception.args[0].name())

    def close(self) -> None:
        """Let go of the connections."""
        self._consumer.close()

    def _made(self) -> Any:
        kafka = confluent_kafka()
        try:
            return kafka.Consumer(
                {
                    **USUAL,
                    **self._of.properties,
                    **FIXED,
                    "bootstrap.servers": ",".join(self._of.brokers),
                    "group.id": self.group,
                    "error_cb": self._errors.append,
                    "on_commit": _on_commit,
                    "logger": Log(self._of.secrets),
                }
            )
        except kafka.KafkaException as exception:
            text = shorten(exception.args[0].str(), self._of.secrets)
            raise ConfigurationError("kafka", f"librdkafka refuses a property: {text}") from None

    def _error(self, error: Any, about: str) -> BrokerError:
        return error_of(error, about, self._of.secrets)


def _on_commit(error: Any, _partitions: Any) -> None:
    if error is not None:
        logger.debug("positions are not shown to the group: %s", error.name())
