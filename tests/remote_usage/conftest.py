"""Servers with meters and a few events, and what asks them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from llm_metering.meters import METERS
from llm_metering.remote_usage import RemoteUsage
from llm_metering.sinks import open_sink
from llm_metering.testing import OpenMeterServer

Ask = Callable[..., RemoteUsage]


def usage_event(id: str, time: str = "2026-11-21T10:00:00Z", **data: Any) -> dict[str, Any]:
    """A CloudEvent of acme's."""
    return {
        "specversion": "1.0",
        "id": id,
        "source": "tests",
        "type": "llm.usage",
        "subject": "acme",
        "time": time,
        "data": data,
    }


@pytest.fixture
def built_in() -> list[dict[str, Any]]:
    """The built-in meters, as a server is given them."""
    return [meter.to_dict() for meter in METERS.values()]


@pytest.fixture
def server(built_in) -> Iterator[OpenMeterServer]:
    """A server with the built-in meters and three events."""
    with OpenMeterServer(meters=built_in, token="a-secret") as server:
        server.preload(
            [
                usage_event("1", total_tokens=100, calls=1, model="a", provenance="reported"),
                usage_event("2", total_tokens=20, calls=1, model="b", provenance="estimated"),
                usage_event("3", "2026-11-21T11:30:00Z", total_tokens=3, calls=1),
            ]
        )
        yield server


@pytest.fixture(params=["v1", "v3"])
def api(request) -> str:
    """Both APIs."""
    return request.param


@pytest.fixture
def remote(server, api) -> RemoteUsage:
    """Asks the server."""
    return remote_of(server.url, api)


def remote_of(
    url: str, api: str = "v1", token: str | None = "a-secret", **more: Any
) -> RemoteUsage:
    """Asks a server, as a sink with these parameters would."""
    given = "".join(f"&{name}={value}" for name, value in more.pop("sink", {}).items())
    sink = open_sink(f"openmeter+{url}?api={api}{given}", source="tests", openmeter_token=token)
    return RemoteUsage(sink, **more)
