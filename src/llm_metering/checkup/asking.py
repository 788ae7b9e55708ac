"""One HTTP request of a check, and why it got no answer.

Beside `sinks/http.py` and `sinks/wire.py` the only module that imports httpx, whose errors end here too.
"""

from __future__ import annotations

import json
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Final

import httpx

from .finding import Finding, failure

__all__ = ["NETWORK_LIMIT", "Reply", "UnreachableError", "ask"]

NETWORK_LIMIT: Final = 5.0
"""Seconds for one request."""

_MAX_BODY: Final = 8 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a server answered.

    Attributes:
        status: The HTTP status code.
        document: The JSON it sent; `None` if it sent none.
    """

    status: int
    document: Any = None


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

    def as_finding(self, sink: str) -> Finding:
        """That the sink cannot be reached."""
        return failure(
            "sink.reachable",
            self.found,
            means="nothing is delivered; events wait on disk",
            advice=self.advice,
            sink=sink,
        )


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
    """Make a request the way a sink does: with the same proxies, and without following redirects.

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
    headers = {"User-Agent": f"llm-metering/{version('llm-metering')}", **(signed or {})}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    if content_type is not None:
        headers["Content-Type"] = content_type
    deadline = time.monotonic() + limit
    try:
        with (
            httpx.Client(timeout=limit, follow_redirects=False) as client,
            client.stream(
                method, url, params=parameters, content=body, headers=headers
            ) as response,
        ):
            content = _read(response, deadline)
            return Reply(status=response.status_code, document=_document(content))
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError, ImportError) as error:
        raise _explained(error, limit) from error


def _read(response: httpx.Response, deadline: float) -> bytes:
    content = b""
    for piece in response.iter_bytes():
        content += piece
        # Each piece has the client's time-out to itself, and a slow server could send for ever.
        if time.monotonic() > deadline or len(content) > _MAX_BODY:
            raise httpx.ReadTimeout("the answer does not end")
    return content


def _document(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _explained(error: Exception, limit: float) -> UnreachableError:
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
