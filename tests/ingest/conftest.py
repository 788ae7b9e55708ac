"""Brokers, and ingesters that read from them in this process."""

from __future__ import annotations

import threading
from contextlib import closing

import pytest

from llm_metering.ingest import Ingester, TopicReader
from llm_metering.ledger.intake import Intake
from tests.kafka_brokers import BrokerProcess, MockBrokers

QUICK = "reconnect.backoff.ms=20&reconnect.backoff.max.ms=100"
PATIENCE = 20.0


@pytest.fixture(scope="session")
def mock():
    """Brokers in this process, which stay up: each test has a topic of its own."""
    with MockBrokers() as brokers:
        yield brokers


@pytest.fixture(scope="session")
def broker(tmp_path_factory):
    """A broker process, which stays up: each test has a topic of its own."""
    with BrokerProcess(tmp_path_factory.mktemp("broker")) as broker:
        yield broker


@pytest.fixture
def topic(request):
    """A name that no other test uses."""
    return "".join(each if each.isalnum() else "-" for each in request.node.name)


class Run:
    """One run of an ingester.

    Args:
        home: Whose ledger it reads into.
        url: The topic.
        reader: What reads it; one of its own if none is given.
        lock_home: Where its lock is; the home.
        options: Of the ingester.
    """

    def __init__(self, home, url, *, reader=None, lock_home=None, **options):
        self.lines = []
        self.stop = threading.Event()
        self.reader = reader or TopicReader(url, {})
        self.intake = Intake(home / "ledger.db")
        self._news = threading.Condition()
        self._progress = None
        self.ingester = Ingester(
            self.reader,
            self.intake,
            home=lock_home or home,
            say=self.lines.append,
            on_progress=self._hear,
            **options,
        )

    def _hear(self, progress):
        with self._news:
            self._progress = progress
            self._news.notify_all()

    def to_the_end(self):
        """Run until it stops by itself; its progress."""
        with closing(self.reader), closing(self.intake):
            self.ingester.run(self.stop)
            self.last = self.ingester.progress
        return self.last

    def __enter__(self):
        self._thread = threading.Thread(target=self.to_the_end, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc):
        self.stop.set()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()

    def wait(self, condition):
        """Wait until the progress is as wanted."""
        with self._news:
            done = self._news.wait_for(
                lambda: self._progress is not None and condition(self._progress), PATIENCE
            )
        assert done, (self._progress, self.lines)

    def said(self, text):
        """Whether it has said something that contains `text`."""
        return any(text in line for line in self.lines)


@pytest.fixture
def ingest(home):
    """Read a topic to its end; the run and what has become of it."""

    def ingest(url, **options):
        run = Run(home, url, until_end=True, **options)
        return run, run.to_the_end()

    return ingest
