"""Kafka to test against: librdkafka's own mock cluster in this process, and a broker process.

The mock cluster is driven through librdkafka's C interface, of which the Python package shows none:
https://github.com/confluentinc/librdkafka/blob/v2.16.0/src/rdkafka_mock.h
Its brokers listen on 127.0.0.1 for every client, other processes included; topics that a producer asks
for are made, with four partitions.

The broker process is `noida-db`. It writes all its data to a file as it ends, and about once a second
before: `kill -9` takes what it acknowledged since, as no broker of Kafka would. `wait_until_saved`
is for tests that kill it so. The file has four bytes for one, so keep topics small there.
"""

from __future__ import annotations

import ctypes
import json
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Self

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

__all__ = [
    "INIT_PRODUCER_ID",
    "METADATA",
    "PRODUCE",
    "BrokerProcess",
    "Brokers",
    "MockBrokers",
    "Record",
    "free_port",
]

PRODUCE, METADATA, INIT_PRODUCER_ID = 0, 3, 22
"""Keys of requests: https://kafka.apache.org/protocol.html#protocol_api_keys"""

_PATIENCE = 20.0
"""Seconds that a broker may take to answer, or to hand out what it has."""
_LOOK = 0.1
_QUIET = {"log_level": 0}
_PRODUCER = 0


@dataclass(frozen=True, kw_only=True)
class Record:
    """What a topic holds."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes
    headers: tuple[tuple[str, bytes], ...]
    timestamp: tuple[int, int]


class Brokers:
    """What can be asked of either kind.

    Attributes:
        bootstrap: `host:port`, separated by commas.
    """

    bootstrap: str

    def url(self, topic: str, query: str = "") -> str:
        """The URL of a sink that writes to `topic`."""
        return f"kafka://{self.bootstrap}/{topic}{'?' if query else ''}{query}"

    def partitions(self, topic: str) -> int:
        """How many the topic has."""
        metadata = _admin(self.bootstrap).list_topics(topic, timeout=_PATIENCE)
        return len(metadata.topics[topic].partitions)

    def records(self, topic: str) -> list[Record]:
        """All that the topic holds now, partition by partition, each in its order."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": "tests",
                "enable.auto.commit": False,
                "allow.auto.create.topics": False,
                **_QUIET,
            }
        )
        try:
            left = {}
            for number in range(self.partitions(topic)):
                at = TopicPartition(topic, number, OFFSET_BEGINNING)
                first, after_last = consumer.get_watermark_offsets(at, timeout=_PATIENCE)
                if first < after_last:
                    left[number] = after_last
            consumer.assign([TopicPartition(topic, each, OFFSET_BEGINNING) for each in left])
            found = []
            tries = int(_PATIENCE / _LOOK)
            while left:
                # It waits until it has so many, or for as long as it may.
                messages = consumer.consume(5000, timeout=_LOOK)
                tries -= not messages
                if not tries:
                    raise TimeoutError(f"{topic} did not hand out what it has: {left}")
                for message in messages:
                    if message.error():
                        raise KafkaException(message.error())
                    found.append(_record(message))
                    if message.offset() + 1 >= left.get(message.partition(), 1 << 62):
                        del left[message.partition()]
        finally:
            consumer.close()
        return sorted(found, key=lambda record: (record.partition, record.offset))


class MockBrokers(Brokers):
    """Brokers in this process; `with MockBrokers() as brokers`.

    Args:
        count: How many; their ids begin with 1.
    """

    def __init__(self, count: int = 1) -> None:
        self._count = count

    def __enter__(self) -> Self:
        self._lib = _librdkafka()
        conf = self._lib.rd_kafka_conf_new()
        error = ctypes.create_string_buffer(512)
        self._lib.rd_kafka_conf_set(conf, b"log_level", b"0", error, len(error))
        self._handle = self._lib.rd_kafka_new(_PRODUCER, conf, error, len(error))
        assert self._handle, error.value
        self._cluster = self._lib.rd_kafka_mock_cluster_new(self._handle, self._count)
        self.bootstrap = self._lib.rd_kafka_mock_cluster_bootstraps(self._cluster).decode()
        return self

    def __exit__(self, *exc: object) -> None:
        self._lib.rd_kafka_mock_cluster_destroy(self._cluster)
        self._lib.rd_kafka_destroy(self._handle)

    def create(self, topic: str, partitions: int = 4, replicas: int = 1) -> None:
        """Make a topic."""
        name = topic.encode()
        self._check(self._lib.rd_kafka_mock_topic_create(self._cluster, name, partitions, replicas))

    def down(self, broker: int | None = None) -> None:
        """Close the connections of one broker, or of all, and take no new ones."""
        for each in self._ids(broker):
            self._check(self._lib.rd_kafka_mock_broker_set_down(self._cluster, each))

    def up(self, broker: int | None = None) -> None:
        """Undo that."""
        for each in self._ids(broker):
            self._check(self._lib.rd_kafka_mock_broker_set_up(self._cluster, each))

    def slow(self, milliseconds: int, broker: int | None = None) -> None:
        """Answer each request so much later."""
        for each in self._ids(broker):
            self._check(self._lib.rd_kafka_mock_broker_set_rtt(self._cluster, each, milliseconds))

    def fail(self, api: int, errors: Sequence[int]) -> None:
        """Answer the next requests of a kind with these codes of `KafkaError`."""
        array = (ctypes.c_int * len(errors))(*errors)
        self._lib.rd_kafka_mock_push_request_errors_array(self._cluster, api, len(errors), array)

    def fail_in(self, topic: str, partition: int, api: int, errors: Sequence[int]) -> None:
        """The same, for what the next requests have for one partition."""
        codes = [ctypes.c_int(each) for each in errors]
        self._check(
            self._lib.rd_kafka_mock_partition_push_request_errors(
                self._cluster, topic.encode(), partition, api, len(errors), *codes
            )
        )

    def stop_failing(self, api: int) -> None:
        """Forget the codes that are left."""
        self._lib.rd_kafka_mock_clear_request_errors(self._cluster, api)

    def topic_fails(self, topic: str, error: int) -> None:
        """Answer each question for a topic with this code; 0 ends it."""
        self._lib.rd_kafka_mock_topic_set_error(self._cluster, topic.encode(), error)

    def behead(self, topic: str, partition: int) -> None:
        """Take a partition's leader away."""
        self._check(
            self._lib.rd_kafka_mock_partition_set_leader(
                self._cluster, topic.encode(), partition, -1
            )
        )

    def _ids(self, broker: int | None) -> Sequence[int]:
        return range(1, self._count + 1) if broker is None else [broker]

    def _check(self, error: int) -> None:
        assert error == 0, f"librdkafka answers {error}"


class BrokerProcess(Brokers):
    """One broker in a process of its own; `with BrokerProcess(tmp_path / "broker") as broker`.

    Args:
        folder: Where it keeps its data; made if need be.
        port: Where it listens; a free one if none is named.
    """

    def __init__(self, folder: Path, port: int | None = None) -> None:
        self._folder = folder
        self.port = port or free_port()
        self.bootstrap = f"127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start it, on the same port and with the same data as before, and wait until it answers."""
        self._folder.mkdir(parents=True, exist_ok=True)
        # Not by its Python command, which would live on beside a broker that is killed.
        binary = str(files("noida_db").joinpath("noida-db"))
        with (self._folder / "broker.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(binary, "start", "--only", "kafka", "--kafka-port", str(self.port)),
                    *("--data-dir", str(self._folder / "data")),
                ],
                stdout=log,
                stderr=log,
                cwd=self._folder,
            )
        clock = threading.Event()
        for _ in range(int(_PATIENCE * 50)):
            if self._process.poll() is not None:
                break
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1.0):
                    pass
                _admin(self.bootstrap).list_topics(timeout=_PATIENCE)
            except (OSError, KafkaException):
                clock.wait(0.02)
            else:
                return
        raise RuntimeError((self._folder / "broker.log").read_text())

    def wait_until_saved(self, topic: str) -> None:
        """Wait until all that the topic holds is on disk, and so outlives a `kill`."""
        held = {record.partition: record.offset + 1 for record in self.records(topic)}
        clock = threading.Event()
        for _ in range(int(_PATIENCE * 20)):
            if held.items() <= self._saved(topic).items():
                return
            clock.wait(0.05)
        raise TimeoutError(f"{topic} was not saved: {held}, {self._saved(topic)}")

    def _saved(self, topic: str) -> dict[int, int]:
        try:
            snapshot = json.loads((self._folder / "data" / "kafka.json").read_bytes())
        except (FileNotFoundError, ValueError):
            return {}
        topics = dict(snapshot["topics"])
        if topic not in topics:
            return {}
        return {number: each["high_watermark"] for number, each in topics[topic]["partitions"]}

    def kill(self) -> None:
        """End it without a warning (`kill -9`); more than once is no error."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it in good order."""
        self._end(signal.SIGTERM)

    def freeze(self) -> None:
        """Stop it where it is: connections stay, and nothing answers."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def create(self, topic: str, partitions: int = 4, **config: str) -> None:
        """Make a topic, and wait until it is there.

        Args:
            topic: Its name.
            partitions: How many.
            **config: Of the topic; an underscore stands for a dot.
        """
        admin = _admin(self.bootstrap)
        dotted = {name.replace("_", "."): value for name, value in config.items()}
        [made] = admin.create_topics([NewTopic(topic, partitions, 1, config=dotted)]).values()
        made.result(_PATIENCE)
        clock = threading.Event()
        for _ in range(int(_PATIENCE * 50)):
            if topic in admin.list_topics(timeout=_PATIENCE).topics:
                return
            clock.wait(0.02)
        raise TimeoutError(f"{topic} is not there")

    def make_no_topics(self) -> None:
        """From now on a topic that nobody made does not exist."""
        entry = ConfigEntry(
            "auto.create.topics.enable",
            "false",
            incremental_operation=AlterConfigOpType.SET,
        )
        broker = ConfigResource(ResourceType.BROKER, "1", incremental_configs=[entry])
        admin = _admin(self.bootstrap)  # without a name it would end before its answer is there
        [altered] = admin.incremental_alter_configs([broker]).values()
        altered.result(_PATIENCE)

    def _signal(self, number: int) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def _end(self, number: int) -> None:
        self._signal(number)
        if self._process is not None:
            self._process.wait(_PATIENCE)
            self._process = None


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _admin(bootstrap: str) -> AdminClient:
    return AdminClient({"bootstrap.servers": bootstrap, **_QUIET})


def _record(message: Any) -> Record:
    return Record(
        partition=message.partition(),
        offset=message.offset(),
        key=message.key(),
        value=message.value(),
        headers=tuple(message.headers() or ()),
        timestamp=message.timestamp(),
    )


def _librdkafka() -> ctypes.CDLL:
    # The very file that `confluent_kafka` loaded: wheels have it under a name of their own.
    paths = re.findall(
        r"(/\S*librdkafka\S*\.so\S*)$", Path("/proc/self/maps").read_text(), re.MULTILINE
    )
    lib = ctypes.CDLL(paths[0])
    pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    for name, result, *arguments in (
        ("rd_kafka_conf_new", pointer),
        ("rd_kafka_conf_set", number, pointer, text, text, text, ctypes.c_size_t),
        ("rd_kafka_new", pointer, number, pointer, text, ctypes.c_size_t),
        ("rd_kafka_destroy", None, pointer),
        ("rd_kafka_mock_cluster_new", pointer, pointer, number),
        ("rd_kafka_mock_cluster_bootstraps", text, pointer),
        ("rd_kafka_mock_cluster_destroy", None, pointer),
        ("rd_kafka_mock_topic_create", number, pointer, text, number, number),
        ("rd_kafka_mock_topic_set_error", None, pointer, text, number),
        ("rd_kafka_mock_partition_set_leader", number, pointer, text, number, number),
        ("rd_kafka_mock_broker_set_down", number, pointer, ctypes.c_int32),
        ("rd_kafka_mock_broker_set_up", number, pointer, ctypes.c_int32),
        ("rd_kafka_mock_broker_set_rtt", number, pointer, ctypes.c_int32, number),
        ("rd_kafka_mock_clear_request_errors", None, pointer, ctypes.c_int16),
        (
            *("rd_kafka_mock_partition_push_request_errors", number, pointer, text),
            *(ctypes.c_int32, ctypes.c_int16, ctypes.c_size_t),
        ),
        (
            *("rd_kafka_mock_push_request_errors_array", None),
            *(pointer, ctypes.c_int16, ctypes.c_size_t, ctypes.POINTER(number)),
        ),
    ):
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    return lib
