"""100,000 calls of processes that are killed, over a broker that is killed, by a reader that is killed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing

from llm_metering.ledger import Ledger
from llm_metering.ledger.intake import Intake
from llm_metering.ledger.intake_values import Taken
from llm_metering.meters import usage_query
from tests.kafka_brokers import BrokerProcess

from . import recording
from .conftest import QUICK

CALLS = 100_000
RECORDERS = ("one", "two")
EACH = CALLS // len(RECORDERS)


class Processes:
    """Processes of Python, all of which are killed at the end."""

    def __init__(self, folder, url):
        self._folder = folder
        self._url = url
        self._all = []

    def start(self, *arguments, **variables):
        with (self._folder / "output.txt").open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", *map(str, arguments)],
                env={**os.environ, **variables},
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
            )
        self._all.append(process)
        return process

    def record(self, name, until):
        """Have a process record calls until there are so many."""
        # Compressed, since this broker writes all that it has to disk once a second.
        url, books = f"{self._url}&compression.type=zstd", self.books(name)
        process = self.start("tests.ingest.recording", name, self._folder / name, url, books)
        self.go_on(process, until)
        return process

    def go_on(self, process, until):
        process.stdin.write(b"%d\n" % until)
        process.stdin.flush()

    def books(self, name):
        return self._folder / f"{name}.books"

    def ingest(self, home, *options):
        return self.start("llm_metering", "ingest", self._url, "--home", home, *options)

    def drain(self, name):
        """Deliver what a killed process has left, if nobody else has."""
        variables = {"LLM_METERING_SINKS": self._url, "LLM_METERING_LEDGER": "off"}
        variables["LLM_METERING_SOURCE"] = "recording"
        return self.start("llm_metering", "drain", "--home", self._folder / name, **variables)

    def done(self, process):
        process.communicate()
        assert process.returncode == 0, (self._folder / "output.txt").read_text()

    def close(self):
        for process in self._all:
            kill(process)
            process.stdin.close()


def kill(process):
    """End it without a warning; how it ended."""
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGKILL)
    return process.wait()


def taken(home):
    """What the ledger says has become of all records."""
    with closing(Intake(home / "ledger.db")) as intake:
        return sum((each.taken for each in intake.books()), Taken())


def wait_for(condition):
    """Wait; the test's time limit ends what never comes."""
    while not condition():
        time.sleep(0.02)


def test_the_ledger_is_exact(tmp_path, home):
    """Each call is in the ledger once, under its subject and model, with its tokens.

    While they are sent and read, a recorder is killed, the reader four times, and the broker, while
    calls go on being recorded. What this broker acknowledges it saves a moment later, where a cluster
    has replicated it: so nothing is sent to it in the moment before it is killed.
    """
    with (
        BrokerProcess(tmp_path / "broker") as broker,
        closing(Processes(tmp_path, broker.url("usage", QUICK))) as processes,
    ):
        broker.create("usage", 6)
        recorders = {name: processes.record(name, EACH * 4 // 10) for name in RECORDERS}
        reader = processes.ingest(home)

        wait_for(lambda: recording.written(processes.books("two")) > EACH // 10)
        assert kill(recorders["two"]) == -signal.SIGKILL
        recorders["two"] = processes.record("two", EACH * 4 // 10)
        for part in (5, 25):
            wait_for(lambda part=part: taken(home).new >= CALLS * part // 100)
            assert kill(reader) == -signal.SIGKILL
            reader = processes.ingest(home)

        for process in recorders.values():
            processes.go_on(process, EACH * 7 // 10)
        wait_for(lambda: taken(home).new >= CALLS * 45 // 100)
        for process in recorders.values():
            process.send_signal(signal.SIGSTOP)
        broker.wait_until_saved("usage")
        broker.kill()
        assert kill(reader) == -signal.SIGKILL
        reader = processes.ingest(home)
        for process in recorders.values():
            processes.go_on(process, EACH)
            process.send_signal(signal.SIGCONT)
        wait_for(lambda: recording.written(processes.books("one")) > EACH * 8 // 10)
        broker.start()

        wait_for(lambda: taken(home).new >= CALLS * 85 // 100)
        assert kill(reader) == -signal.SIGKILL
        for process in recorders.values():
            processes.done(process)
        for name in RECORDERS:
            processes.done(processes.drain(name))
        processes.done(processes.ingest(home, "--until-end"))

    expected, calls = Counter(), Counter()
    for name in RECORDERS:
        for number in range(EACH):
            subject, model, usage = recording.call(name, number)
            expected[subject, model] += usage.total_tokens
            calls[subject, model] += 1
    assert (sums(home, "tokens_total"), sums(home, "calls_total")) == (expected, calls)
    books = taken(home)
    assert (books.new, books.refused, books.lost) == (CALLS, 0, 0)


def sums(home, meter):
    """What the ledger says each subject used of each model."""
    with closing(Ledger(home / "ledger.db")) as ledger:
        report = ledger.query(usage_query(meter, group_by=["subject", "model"]))
    return Counter({(row.subject, row.group_by["model"]): row.value for row in report})
