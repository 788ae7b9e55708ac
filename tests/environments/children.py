"""Processes that meter, and what must hold of them in the end."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import httpx

import llm_metering
from llm_metering import Meter, TokenUsage, at_exit
from llm_metering.testing import OpenMeterServer
from tests.transport.harness import CHILD_TIMEOUT, PROJECT

USAGE = TokenUsage(input_tokens=100, output_tokens=20)

PRELUDE = """
import os, signal, sys
signal.alarm(50)  # the child's own deadline; faulthandler's hangs the end of a forked process
import llm_metering
from tests.environments.children import meter_call
"""


def meter_call() -> str:
    """Meter one call with the default meter; its event's id, which is printed as well."""
    event = llm_metering.record(USAGE, "customer-42", model="gpt-5-mini")
    assert event is not None
    # Whole lines, also from processes that share the pipe. Not by `sys.stdout`: its lock may be held by
    # another thread while this one forks, and the child would wait for it for ever.
    os.write(sys.stdout.fileno(), f"{event.id}\n".encode())
    return event.id


def meter_calls(count: int) -> list[str]:
    """Meter that many calls; their ids. A function that other processes can be given."""
    return [meter_call() for _ in range(count)]


def meter_hastily() -> None:
    """Meter a call in a process that has little time to end."""
    at_exit.EXIT_TIMEOUT = 0.5  # type: ignore[misc]
    meter_call()


def ships_at_its_end(worker: str = "gevent") -> bool:
    """Whether a process can open a first connection when its interpreter ends.

    gevent resolves names on a native thread, and CPython 3.12 starts none then. What is left on disk
    is shipped by the next process.
    """
    return worker != "gevent" or sys.version_info[:2] != (3, 12)


def sent(server: OpenMeterServer) -> list[str]:
    """The ids that the server was sent, as often as it was."""
    return [event_id for request in server.received for event_id in request.ids]


def eventually(holds: Callable[[], object]) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + CHILD_TIMEOUT
    while not holds():
        assert time.monotonic() < deadline, "it never came to hold"
        time.sleep(0.01)


def assert_all_counted(home: Path, server: OpenMeterServer, ids: Iterable[str]) -> None:
    """What was metered is in the ledger and at the server once, as soon as all are finished."""
    expected = list(ids)
    assert len(set(expected)) == len(expected)
    with Meter(home, [server.sink_url], source="tests") as heir:
        assert heir.drain(30)
        assert sorted(event["id"] for event in server.events) == sorted(expected)
        assert heir.usage("calls_total").total == len(expected)
        statistics = heir.statistics()
        assert (statistics["recorded"], statistics["failures"]) == (len(expected), 0)


class WebServer:
    """gunicorn with the application of `web_app.py`, over two workers.

    Args:
        options: Further options of gunicorn's.
    """

    def __init__(self, *options: str) -> None:
        # Ours to begin with: nobody is given its port, and nothing need be asked for.
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.ids: set[str] = set()
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "gunicorn", "tests.environments.web_app:application"),
                *("--bind", f"fd://{self._socket.fileno()}", "--workers", "2"),
                *("--no-control-socket", "--log-level", "warning", *options),
            ],
            cwd=PROJECT,
            pass_fds=[self._socket.fileno()],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ask(self, count: int = 1) -> list[int]:
        """Have that many calls made; the processes that answered."""
        return [int(self._ask().split()[0]) for _ in range(count)]

    def ask_everybody(self) -> list[int]:
        """Ask until both workers have answered; their processes."""
        found: set[int] = set()
        eventually(lambda: found.update(self.ask()) or len(found) == 2)
        return sorted(found)

    def _ask(self) -> str:
        answer = httpx.get(self.url, headers={"Connection": "close"}, timeout=30, trust_env=False)
        assert answer.status_code == 200
        self.ids.update(answer.text.split()[1:])
        return answer.text

    def stop(self) -> str:
        """Stop it as an orchestrator does, with patience; what it wrote to stderr."""
        self._process.send_signal(signal.SIGTERM)
        _, stderr = self._process.communicate(timeout=CHILD_TIMEOUT)
        assert self._process.returncode == 0, stderr
        return stderr

    def close(self) -> None:
        """Leave nothing behind, also of a test that failed."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        self._process.communicate(timeout=CHILD_TIMEOUT)
        self._socket.close()


@contextlib.contextmanager
def web_server(*options: str) -> Iterator[WebServer]:
    """gunicorn for as long as the block lasts."""
    server = WebServer(*options)
    try:
        yield server
    finally:
        server.close()
