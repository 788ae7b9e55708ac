"""What tests of environments get: a server to ship to, and settings that child processes find."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from llm_metering.testing import OpenMeterServer

collect_ignore = ["web_app.py"]
"""It meters while it is imported, as doctests would."""


@pytest.fixture
def server() -> Iterator[OpenMeterServer]:
    """A server that counts each event once."""
    with OpenMeterServer() as server:
        yield server


@pytest.fixture(autouse=True)
def settings(home: Path, server: OpenMeterServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Child processes keep their journal in the test's home and ship to its server."""
    monkeypatch.setenv("LLM_METERING_HOME", str(home))
    monkeypatch.setenv("LLM_METERING_SINKS", server.sink_url)
    monkeypatch.setenv("LLM_METERING_SOURCE", "tests")
