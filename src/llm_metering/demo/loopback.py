"""HTTP clients for the model server on this machine."""

from __future__ import annotations

import httpx

__all__ = ["async_client", "client"]

# One request a connection. After a streamed answer the server (xllamacpp 2026.10.11549) now and
# then closes a connection without having said so, and the next request on it fails with "Server
# disconnected without sending a response".
_LIMITS = httpx.Limits(max_keepalive_connections=0)


def client(timeout: float) -> httpx.Client:
    """Make a client that talks to 127.0.0.1 and nobody else.

    Args:
        timeout: Seconds to wait for the next byte.
    """
    # Proxies of the environment are for the way out; some would be asked for 127.0.0.1 too.
    return httpx.Client(trust_env=False, limits=_LIMITS, timeout=timeout)


def async_client(timeout: float) -> httpx.AsyncClient:
    """`client` for asyncio."""
    return httpx.AsyncClient(trust_env=False, limits=_LIMITS, timeout=timeout)
