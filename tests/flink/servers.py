"""What the statements run between: Kafka and PostgreSQL in a process, Flink in another."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

RUNNER = Path(__file__).with_name("run_statements.py")
JARS = (
    "flink-connector-base",
    "flink-connector-jdbc-core",
    "flink-connector-jdbc-postgres",
    "flink-connector-kafka",
    "kafka-clients",
    "postgresql",
)
PARTITIONS = 2
"""Of the topic that is read; the one that is written has one, so that its records have an order."""

_NAP = 0.1


class Servers:
    """Addresses of a broker and a database that nobody else uses.

    Attributes:
        kafka: The broker's.
        postgres: The database's.
    """

    def __init__(self) -> None:
        self.kafka, self.postgres = (f"127.0.0.1:{port}" for port in _free_ports(2))

    @contextmanager
    def running(self, folder: Path) -> Iterator[Servers]:
        """Run both, with the topics of the documentation."""
        command = [
            *(str(Path(sys.executable).with_name("noida-db")), "start", "--only", "kafka,postgres"),
            *("--kafka-port", self.kafka.split(":")[1]),
            *("--postgres-port", self.postgres.split(":")[1]),
            *("--data-dir", str(folder)),
        ]
        with subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        ) as own:
            try:
                self._make_topics(own)
                yield self
            finally:
                # What was started starts the server, and would leave it behind.
                os.killpg(own.pid, signal.SIGKILL)

    def _make_topics(self, process: subprocess.Popen[bytes]) -> None:
        admin = AdminClient({"bootstrap.servers": self.kafka, "log_level": 0})
        while True:
            assert process.poll() is None, "the broker ended"
            try:
                admin.list_topics(timeout=1)
                break
            except KafkaException:
                time.sleep(_NAP)
        topics = [NewTopic("llm-usage", PARTITIONS, 1), NewTopic("llm-usage-by-hour", 1, 1)]
        for made in admin.create_topics(topics).values():
            made.result()


class Job:
    """Flink, running one file of statements.

    Args:
        statements: The file.
        folder: Where its checkpoints and its output go.
        recover_from: A checkpoint to go on from.
    """

    def __init__(self, statements: Path, folder: Path, *, recover_from: Path | None = None) -> None:
        folder.mkdir()
        self.checkpoints = folder / "checkpoints"
        self._output = folder / "output.txt"
        connectors = Path(os.environ["FLINK_CONNECTORS"], "pyflink", "lib").absolute()
        options: dict[str, Any] = {
            "pipeline.jars": ";".join((connectors / f"{jar}.jar").as_uri() for jar in JARS),
            # One of each step, so that what was written last was read last.
            "parallelism.default": 1,
            "restart-strategy.type": "none",
            "execution.checkpointing.interval": "1 s",
            # All, to go on from one that is not the last.
            "execution.checkpointing.num-retained": 1000,
            "execution.checkpointing.dir": self.checkpoints.as_uri(),
        }
        if recover_from is not None:
            options["execution.state-recovery.path"] = recover_from.as_uri()
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, str(RUNNER), str(statements)),
                    *(f"{key}={value}" for key, value in options.items()),
                ],
                # Half an hour off, so that hours of another zone would show.
                env=os.environ | {"JVM_ARGS": "-Xmx1g -Duser.timezone=Asia/Kolkata"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        """The plan, and what went wrong."""
        return self._output.read_text("utf-8", errors="replace")

    def expect_alive(self) -> None:
        """Fail the test if the job has ended."""
        assert self._process.poll() is None, self.output

    def wait(self) -> int:
        """Wait for its end, which is one of failing; its exit code."""
        return self._process.wait()

    def wait_for_checkpoint(self) -> Path:
        """The first checkpoint that is begun from now on, complete."""
        newest = max(map(_number, self._complete()), default=0)
        # The next one may have begun before.
        while not (after := [each for each in self._complete() if _number(each) > newest + 1]):
            self.expect_alive()
            time.sleep(_NAP)
        return after[0]

    def kill(self) -> None:
        """End Flink as the machine's end would: nothing is flushed, nothing is saved."""
        if self._process.returncode is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _complete(self) -> Sequence[Path]:
        return [each.parent for each in self.checkpoints.glob("*/chk-*/_metadata")]


def _number(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("chk-"))


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
