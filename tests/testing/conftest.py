"""A fake server, and somebody who posts to it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from llm_metering.testing import OpenMeterServer

BATCH = "application/cloudevents-batch+json"

Post = Callable[..., httpx.Response]


@pytest.fixture
def server() -> Iterator[OpenMeterServer]:
    """A server that counts each event once."""
    with OpenMeterServer() as server:
        yield server


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    """A client that the environment's proxies are nothing to, and that waits for a while only."""
    with httpx.Client(trust_env=False, timeout=20) as client:
        yield client


@pytest.fixture
def post(server: OpenMeterServer, client: httpx.Client) -> Post:
    """Posts events, or a body as it stands, to the server."""

    def post(
        events: Any,
        path: str = "/api/v1/events",
        content_type: str | None = BATCH,
        **headers: str,
    ) -> httpx.Response:
        content = events if isinstance(events, bytes) else json.dumps(events).encode()
        if content_type is not None:
            headers["Content-Type"] = content_type
        return client.post(server.url + path, content=content, headers=headers)

    return post
