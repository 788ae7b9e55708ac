"""HTTP requests that ask a server something, and why one got no answer.

Beside `http` and `wire`, which deliver, the only module that sends requests; httpx' errors end here.
"""

from __future__ import annotations

import json
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from types import TracebackType
from typing import Any, Final, Self

import httpx

from .deadline import Deadline
from .http import retry_after

__all__ = ["NETWORK_LIMIT", "Asker", "Reply", "UnreachableError", "ask"]

NETWORK_LIMIT: Final = 5.0
"""Seconds for one request of a check."""

_MAX_BODY: Final = 8 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a server answered.

    Attributes:
        status: The HTTP status code.
        content: What it sent.
        retry_after: Seconds that it asks to wait, if it does.
        date: When it answered, by its own clock, if it says so.
    """

    status: int
    content: bytes = field(default=b"", repr=False)
    retry_after: float | None = None
    date: str | None = None

    @property
    def document(self) -> Any:
        """The JSON it sent; `None` if it sent none."""
        try:
            return json.loads(self.content)
        except (ValueError, RecursionError):
            return None


class UnreachableError(Exception):
    """A server that gave no answer.

    Attributes:
        found: What happened, without anything secret.
        advice: What to do about it.
    """

    def __init__(self, found: str, advice: str) -> None:
        super().__init__(found)
        self.found = found
        self.advice = advice


class Asker:
    """Asks one server many things over a few connections that stay open; safe in several threads.

    It does so the way a sink does: with the same proxies, and without following redirects.

    Args:
        limit: Seconds for each request, but for the resolver, which cannot be stopped.
        token: The API key, if there is one.
        most_bytes: The longest answer that is read.
        clock: A monotonic clock, in seconds.
    """

    def __init__(
        self,
        *,
        limit: float,
        token: str | None = None,
        most_bytes: int = _MAX_BODY,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit = limit
        self._most_bytes = most_bytes
        self._deadline = Deadline(clock)
        self._headers = {"User-Agent": f"llm-metering/{version('llm-metering')}"}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"
        try:
            self._client = httpx.Client(timeout=limit, follow_redirects=False)
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError, ImportError) as error:
            raise _explained(error, limit) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._client.close()

    def ask(
        self,
        method: str,
        url: str,
        *,
        parameters: Mapping[str, str | int] | None = None,
        body: bytes | None = None,
        content_type: str | None = None,
        signed: Mapping[str, str] | None = None,
    ) -> Reply:
        """Make a request.

        Args:
            method: `GET`, `POST` or `OPTIONS`.
            url: Where to.
            parameters: Of the query.
            body: What is posted.
            content_type: Of the body.
            signed: Further headers.

        Raises:
            UnreachableError: If there is no answer.
        """
        headers = {**self._headers, **(signed or {})}
        if content_type is not None:
            headers["Content-Type"] = content_type
        try:
            with self._client.stream(
                method,
                url,
                params=parameters,
                content=body,
                headers=headers,
                extensions=self._deadline.begin(self._limit),
            ) as response:
                return Reply(
                    status=response.status_code,
                    content=_read(response, self._most_bytes),
                    retry_after=retry_after(
                        response.headers.get("retry-after"), now=datetime.now(UTC)
                    ),
                    date=response.headers.get("date"),
                )
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError, ImportError) as error:
            raise _explained(error, self._limit) from error


def ask(
    method: str,
    url: str,
    *,
    limit: float,
    token: str | None = None,
    parameters: Mapping[str, str | int] | None = None,
    body: bytes | None = None,
    content_type: str | None = None,
    signed: Mapping[str, str] | None = None,
) -> Reply:
    """Make one request; see `Asker`.

    Args:
        method: `GET`, `POST` or `OPTIONS`.
        url: Where to.
        limit: Seconds for all of it, but for the resolver, which cannot be stopped.
        token: The API key, if there is one.
        parameters: Of the query.
        body: What is posted.
        content_type: Of the body.
        signed: Further headers.

    Raises:
        UnreachableError: If there is no answer.
    """
    with Asker(limit=limit, token=token) as asker:
        return asker.ask(
            method,
            url,
            parameters=parameters,
            body=body,
            content_type=content_type,
            signed=signed,
        )


class _TooLongError(ValueError):
    """An answer that does not end within what is read."""


def _read(response: httpx.Response, most_bytes: int) -> bytes:
    content = bytearray()
    for piece in response.iter_bytes():
        content += piece
        if len(content) > most_bytes:
            raise _TooLongError(f"its answer is longer than {most_bytes >> 20} MiB")
    return bytes(content)


def _explained(error: Exception, limit: float) -> UnreachableError:
    if isinstance(error, _TooLongError):
        return UnreachableError(str(error), "ask for less at once")
    causes = list(_causes(error))
    # The texts of these errors are left out: some repeat a header or a URL.
    if any(isinstance(each, socket.gaierror | UnicodeError) for each in causes):
        return UnreachableError(
            "its name has no address (DNS)",
            "mind the spelling of the host, and look at the resolver",
        )
    for each in causes:
        if isinstance(each, ssl.SSLCertVerificationError):
            return UnreachableError(
                f"its certificate is not trusted: {each.verify_message}",
                "name the authority that signed it in SSL_CERT_FILE, and look at the clock",
            )
        if isinstance(each, ssl.SSLError):
            return UnreachableError(
                f"no encrypted connection can be made (TLS: {each.reason or 'broken off'})",
                "is it http:// that the server speaks at this port?",
            )
    if isinstance(error, httpx.TimeoutException):
        return UnreachableError(
            f"no answer within {limit:g} s ({type(error).__name__})",
            "look at the network, the firewall and the server",
        )
    if isinstance(error, httpx.ProxyError):
        return UnreachableError(
            "the proxy of the environment refuses", "look at HTTPS_PROXY, HTTP_PROXY and NO_PROXY"
        )
    if any(isinstance(each, ConnectionRefusedError) for each in causes):
        return UnreachableError(
            "it refuses connections", "is the server running, and is the port right?"
        )
    if isinstance(error, httpx.HTTPError):
        return UnreachableError(
            f"the connection failed ({type(error).__name__})",
            "look at the network and at the server's log",
        )
    return UnreachableError(
        f"no request can be made ({type(error).__name__})",
        "look at the proxy and certificate variables of the environment",
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
