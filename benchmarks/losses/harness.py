"""Running one client through one scenario, and counting what came of its events."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from .application import NOTES
from .scenarios import Scenario

__all__ = ["Outcome", "count", "run", "versions_of"]

ROOT: Final = Path(__file__).parents[2]
QUIET: Final = 5.0
"""Seconds without an arrival after which the application's next start is asked to end."""
NEXT_START: Final = 60.0
"""Seconds after which it is asked to end in any case."""
RECORDING: Final = 300.0
"""Seconds that recording may take; a client that blocks its caller is killed then."""
_STEP: Final = 0.05
_SETTLED: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A cell of the table.

    Attributes:
        client: Its row.
        scenario: Its column.
        recorded: Events whose call returned.
        refused: Of those, the ones of which the call's return value said that they were not taken.
        pending: Events that had not arrived when the application had ended.
        lost: Events that had not arrived after its next start either.
        duplicates: Events that came more than once.
        renamed: Events that came under more than one id, or another than the client had named.
        faults: Requests that the server was to fail, and did.
        seconds: From the last event to the end of the application.
        killed: Whether it had to be killed, because it did not end by itself.
        errors: What the server could not read, and an application that failed: the cell counts
            for nothing then.
    """

    client: str
    scenario: str
    recorded: int
    refused: int
    pending: int
    lost: int
    duplicates: int
    renamed: int
    faults: int
    seconds: float
    killed: bool
    errors: Sequence[str] = ()


class _Server:
    """The fake server, by its pipes."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.url = str(self._answer()["url"])
        self.is_up = False

    def up(self) -> None:
        if not self.is_up:
            self.order("up")
            self.is_up = True

    def order(self, order: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{order}\n")
        self._process.stdin.flush()
        return self._answer()

    def wait_until_quiet(self, seconds: float, *, at_most: float, expected: int = -1) -> None:
        """Wait until nothing has come for some seconds, or all that is expected has."""
        latest, deadline = time.monotonic(), time.monotonic() + at_most
        before = self.order("count")
        while before["numbers"] != expected and time.monotonic() < deadline:
            time.sleep(_STEP)
            now = self.order("count")
            if now != before:
                before, latest = now, time.monotonic()
            elif time.monotonic() - latest > seconds:
                return

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer


def versions_of(python: str) -> dict[str, str | None]:
    """The versions of the clients that an interpreter has."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [python, "-m", "benchmarks.losses.application", "versions"],
            cwd=ROOT,
            env=_environment(Path(folder)),
            stdout=subprocess.PIPE,
            check=True,
        )
    versions: dict[str, str | None] = json.loads(done.stdout)
    return versions


def run(python: str, client: str, name: str, scenario: Scenario) -> Outcome:
    """Fill one cell of the table."""
    with tempfile.TemporaryDirectory(prefix="losses-") as created:
        folder = Path(created)
        with _module(python, folder, "server", scenario.fault, str(scenario.times)) as process:
            server = _Server(process)
            return _run(python, client, name, scenario, server, folder)


def _run(
    python: str, client: str, name: str, scenario: Scenario, server: _Server, folder: Path
) -> Outcome:
    if scenario.down == 0:
        server.up()
    timeout = str(scenario.flush_timeout)
    how = (str(scenario.count), str(scenario.rate), scenario.end, timeout)
    with _module(
        python, folder, "application", "record", client, server.url, str(folder), *how
    ) as application:
        errors = _conduct(application, scenario, server, folder / NOTES)
        ended = time.time()
        killed = application.returncode == -9 and scenario.signal is None
    notes = _read_notes(folder / NOTES)
    seconds = ended - (folder / NOTES).stat().st_mtime if notes else 0.0
    # What a killed client had sent may still be on its way through the loopback.
    server.wait_until_quiet(_SETTLED, at_most=NEXT_START)
    pending = len(notes.keys() - _came(server).keys())
    server.up()
    with _module(
        python, folder, "application", "next", client, server.url, str(folder), timeout
    ) as application:
        assert application.stdin is not None
        assert application.stdout is not None
        # A busy machine may take seconds to start it, and clients print things of their own.
        while application.stdout.readline() not in ("started\n", ""):
            pass
        server.wait_until_quiet(QUIET, at_most=NEXT_START, expected=len(notes))
        application.stdin.close()
        if _wait(application, scenario.patience) != 0:
            errors.append(f"the next start ended with {application.returncode}")
    server.wait_until_quiet(_SETTLED, at_most=NEXT_START)
    books = server.order("all")
    return Outcome(
        client=client,
        scenario=name,
        pending=pending,
        faults=books["faults"],
        seconds=round(seconds, 1),
        killed=killed,
        errors=(*errors, *books["errors"]),
        **count(notes, _came(server)),
    )


def count(notes: Mapping[int, str], came: Mapping[int, Mapping[str, int]]) -> dict[str, int]:
    """What became of the events.

    An event that came and was not noted is no loss: its application was killed between the two.

    Args:
        notes: What each was called when its call returned, by number; `-` if it was refused.
        came: How often each came under which id, by number.
    """
    named = {number: {name} - {"-"} for number, name in notes.items()}
    return {
        "recorded": len(notes),
        "refused": sum(name == "-" for name in notes.values()),
        "lost": len(notes.keys() - came.keys()),
        "duplicates": sum(sum(ids.values()) > 1 for ids in came.values()),
        "renamed": sum(len(ids.keys() | named.get(n, set())) > 1 for n, ids in came.items()),
    }


def _conduct(
    application: subprocess.Popen[str], scenario: Scenario, server: _Server, notes: Path
) -> list[str]:
    """Let the scenario happen; what should not have."""
    if scenario.down:
        _wait_for_notes(application, notes, 1)
        time.sleep(scenario.down)
        server.up()
    if scenario.signal is not None:
        _wait_for_notes(application, notes, scenario.count)
        application.send_signal(scenario.signal)
        status = _wait(application, scenario.patience)
        # 0: a client may have a handler.
        return [] if status in (-scenario.signal, 0) else [f"it ended with {status}"]
    _wait_for_notes(application, notes, scenario.count)
    status = _wait(application, scenario.patience)
    return [] if status in (0, -9) else [f"it ended with {status}"]


def _wait_for_notes(application: subprocess.Popen[str], notes: Path, count: int) -> None:
    read, seen, deadline = 0, 0, time.monotonic() + RECORDING
    while seen < count and application.poll() is None and time.monotonic() < deadline:
        time.sleep(_STEP / 5)
        with contextlib.suppress(FileNotFoundError), notes.open("rb") as file:
            file.seek(read)
            new = file.read()
            read, seen = read + len(new), seen + new.count(b"\n")


def _wait(application: subprocess.Popen[str], patience: float) -> int:
    """The status with which it ended, by itself or after a kill."""
    try:
        return application.wait(patience)
    except subprocess.TimeoutExpired:
        application.kill()
        return application.wait()


def _read_notes(notes: Path) -> dict[int, str]:
    lines = notes.read_text().splitlines() if notes.exists() else []
    return {int(number): name for number, _, name in (line.partition(" ") for line in lines)}


def _came(server: _Server) -> dict[int, dict[str, int]]:
    came: dict[int, dict[str, int]] = defaultdict(dict)
    for number, id_, times in server.order("all")["came"]:
        came[number][id_] = times
    return came


@contextlib.contextmanager
def _module(
    python: str, folder: Path, module: str, *arguments: str
) -> Iterator[subprocess.Popen[str]]:
    with (folder / "log.txt").open("a") as log:
        process = subprocess.Popen(
            [python, "-m", f"benchmarks.losses.{module}", *arguments],
            cwd=ROOT,
            env=_environment(folder),
            stdin=subprocess.PIPE,
            # Nobody reads what an application that records may print.
            stdout=log if "record" in arguments else subprocess.PIPE,
            stderr=log,
            text=True,
        )
        try:
            with process:
                try:
                    yield process
                finally:
                    if process.stdin is not None and not process.stdin.closed:
                        process.stdin.close()
        finally:
            process.kill()


def _environment(folder: Path) -> dict[str, str]:
    # Nothing of the developer's settings for any of these clients, and no proxy.
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    return {**kept, "HOME": str(folder), "NO_PROXY": "127.0.0.1"}
