"""Servers over a home, in this process and as processes of their own."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from llm_metering.access import ApiKeys, PortalTokens
from llm_metering.ledger import Ledger
from llm_metering.meter import Meter
from llm_metering.server import ServerOptions, create_app

EVENTS = "/api/v1/events"

PLANS = """
[[plans]]
name = "pro"
effective_from = 2020-01-01
currency = "USD"
[[plans.charges]]
name = "Tokens"
meter = "tokens_total"
per = 1000
price = "1"

[[subjects]]
subject = "acme"
plan = "pro"
from = 2020-01-01
"""


def event(id="1", **changes):
    """An event of acme, as the library's own are, except for what the test is about."""
    return {
        "specversion": "1.0",
        "id": id,
        "source": "app",
        "type": "llm.usage",
        "subject": "acme",
        "time": "2026-11-21T12:00:00Z",
        "data": {
            "model": "gpt-5-mini",
            "provider": "openai",
            "total_tokens": 120,
            "input_tokens": 100,
            "output_tokens": 20,
            "calls": 1,
            "provenance": "reported",
            "status": "completed",
        },
    } | changes


def bearer(key):
    """The headers of who has a key."""
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture
def keys(home):
    """The keys of the home."""
    with contextlib.closing(ApiKeys(home)) as keys:
        yield keys


@pytest.fixture
def tokens(home):
    """The portal tokens of the home."""
    with contextlib.closing(PortalTokens(home)) as tokens:
        yield tokens


@pytest.fixture
def living():
    """The desks of the servers that are serving in this process."""
    return []


@pytest.fixture
def serving(home, living):
    """Serve the home, in this process; gives a client for the block."""

    @contextlib.contextmanager
    def serving(*, sinks=(), key=None, **options):
        settings = {each: options.pop(each) for each in list(options) if each in _SETTINGS}
        with Meter(home, sinks, source="server", **settings) as meter:
            app = create_app(meter, ServerOptions(**{"keys_required": False, **options}))
            with TestClient(
                app,
                base_url="http://localhost",
                raise_server_exceptions=False,
                headers=bearer(key) if key else {},
            ) as client:
                living.append(app.state.desk)
                yield client
                living.remove(app.state.desk)

    return serving


_SETTINGS = (
    *("subject_token_secrets", "ledger", "durability", "openmeter_token", "limits", "plans"),
    *("default_grant", "requests_per_minute", "limits_url", "features"),
)


@pytest.fixture
def client(serving):
    """A client of a server that wants no key, since there is none."""
    with serving() as client:
        yield client


@pytest.fixture
def recorded(home, living):
    """The events of the ledger, once what was recorded has come there, by id."""

    def recorded(source="app"):
        assert all(desk.sources.flush(30) for desk in living)
        with Meter(home, (), source=source) as meter:
            assert meter.drain(30, "ledger")
        with contextlib.closing(Ledger(home / "ledger.db")) as ledger:
            ids = [id for id, _ in ledger.moments(None, None, source=source)]
            assert len(ids) == len(set(ids))
            found = ledger.payloads(ids, source=source)
        return {id: json.loads(payload) for id, payload in found.items()}

    return recorded


def audit(home):
    """The lines of the audit log."""
    folder = home / "audit"
    files = sorted(folder.iterdir()) if folder.exists() else []
    return [json.loads(line) for file in files for line in file.read_text("ascii").splitlines()]


class Process:
    """`llm-metering serve`, as a process of its own.

    Attributes:
        home: Its home.
        url: Where it listens.
        said: What it wrote to stderr.
    """

    def __init__(self, home, *arguments, **environment):
        self._process = subprocess.Popen(
            [sys.executable, "-m", "llm_metering", "serve", "--port", "0", *arguments],
            env={**os.environ, "LLM_METERING_HOME": str(home), **environment},
            stderr=subprocess.PIPE,
            text=True,
        )
        self.home = home
        self.said = ""
        self.url = ""
        self.pid = self._process.pid
        for line in self._process.stderr:
            self.said += line
            if found := re.search(r"listening on (\S+)", line):
                self.url = found[1]
                break
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self):
        for line in self._process.stderr:
            self.said += line

    @property
    def address(self):
        """Host and port."""
        host, _, port = self.url.rpartition("/")[2].rpartition(":")
        return host.strip("[]"), int(port)

    @property
    def workers(self):
        """The processes that it has begun."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        return list(map(int, children.split()))

    def kill(self):
        """As the kernel does."""
        self._process.kill()
        return self.wait()

    def stop(self):
        """As systemd does; gives the exit code."""
        self._process.terminate()
        return self.wait()

    def wait(self):
        """Its exit code."""
        code = self._process.wait(60)
        self._reader.join()
        self._process.stderr.close()
        return code

    @property
    def is_over(self):
        """Whether it has ended."""
        return self._process.poll() is not None


@pytest.fixture
def serve(home):
    """Start `llm-metering serve` on the home; what still runs is killed at the end."""
    started = []

    def serve(*arguments, **environment):
        process = Process(home, *arguments, **environment)
        started.append(process)
        return process

    yield serve
    for process in started:
        if not process.is_over:
            process.kill()
