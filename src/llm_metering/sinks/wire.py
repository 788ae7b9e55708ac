"""A connection to a server, kept for the next request; beside `http` the only user of httpx.

Requests go through httpcore, httpx's own transport: what httpx adds to it (cookies, redirects, a
line in the application's log for each request) takes as long as the batch itself. Where the
environment names a proxy, httpx finds it, and does the work.
"""

from __future__ import annotations

import codecs
import time
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Final
from urllib.request import getproxies

import httpcore
import httpx

from .. import system

__all__ = ["Answer", "Wire", "WireError"]

TIMEOUT: Final = 30.0
"""Seconds to connect, to send and to wait for each piece of an answer."""

MAX_BODY: Final = 16 * 1024
"""Bytes of an answer that are read."""

BODY_PATIENCE: Final = 5.0
"""Seconds after which no more of a body is wanted, though bytes of it keep coming: the status is known."""

_EXTENSIONS: Final = {"timeout": httpx.Timeout(TIMEOUT).as_dict()}
_HEADERS: Final = {"User-Agent": f"llm-metering/{version('llm-metering')}", "Accept": "*/*"}

_RawHeaders = list[tuple[bytes, bytes]]

_UNSENT: Final = (
    *(httpcore.ConnectError, httpcore.ConnectTimeout, httpcore.PoolTimeout, httpcore.ProxyError),
    *(httpcore.UnsupportedProtocol, httpcore.LocalProtocolError),
    *(httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError),
    *(httpx.UnsupportedProtocol, httpx.LocalProtocolError),
)
"""After these the server has seen nothing of the request."""

_TOO_LATE: Final = (httpcore.TimeoutException, httpx.TimeoutException)
_BROKEN: Final = (
    *(httpcore.NetworkError, httpcore.ProtocolError, httpcore.ProxyError),
    *(httpcore.UnsupportedProtocol, httpx.HTTPError),
)


class WireError(Exception):
    """A request that has no answer.

    Attributes:
        ambiguous: The server may have seen it.
        is_late: It is the time that ran out.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(f"{type(error).__name__}: {error}")
        self.name = type(error).__name__
        self.ambiguous = not isinstance(error, _UNSENT)
        self.is_late = isinstance(error, _TOO_LATE)


class Answer:
    """What a server answered, as far as a sink looks at it.

    Attributes:
        status: The HTTP status code.
        headers: By lower-case name.
        body: The first 16 KiB.
    """

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes = b"") -> None:
        self.status = status
        self.headers = headers
        self.body = body


class Wire:
    """Posts to one URL, one request at a time.

    Args:
        url: Where to.
        headers: Of each request.

    Raises:
        ValueError: If a proxy or a certificate that the environment names cannot be used.
        OSError: As well.
        httpx.InvalidURL: If the URL is none.
    """

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        parsed = httpx.URL(url)
        self._url = httpcore.URL(
            scheme=parsed.raw_scheme, host=parsed.raw_host, port=parsed.port, target=parsed.raw_path
        )
        merged = httpx.Headers({"Host": parsed.netloc.decode()} | _HEADERS | dict(headers))
        self._headers = merged.raw
        self._parsed = parsed, merged
        self._pool: httpcore.ConnectionPool | None = None
        self._client: httpx.Client | None = None
        # Imports modules, and makes a TLS context, which takes locks inside OpenSSL.
        with system.undisturbed():
            codecs.lookup("idna")  # a module as well, which the first request would import
            if any(getproxies().get(scheme) for scheme in ("http", "https", "all")):
                # A redirect would turn the POST into a GET that answers 200: nothing would be stored.
                self._client = httpx.Client(follow_redirects=False)
            else:
                context = httpx.create_ssl_context() if parsed.scheme == "https" else None
                self._pool = httpcore.ConnectionPool(ssl_context=context)

    def post(self, body: bytes, headers: Mapping[str, str] | None = None) -> Answer:
        """Send `body`.

        Args:
            body: As it goes over the wire.
            headers: Of this request alone, beside those of each.

        Raises:
            WireError: If there is no answer.
            UnicodeError: If no server can have the name.
        """
        try:
            added = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
            if self._pool:
                return self._through_pool(body, added)
            return self._through_client(body, added)
        except (*_TOO_LATE, *_BROKEN) as error:
            raise WireError(error) from None

    def close(self) -> None:
        """Close the connection."""
        if self._pool is not None:
            self._pool.close()
        if self._client is not None:
            self._client.close()

    def _through_pool(self, body: bytes, added: _RawHeaders) -> Answer:
        assert self._pool is not None
        length = (b"Content-Length", b"%d" % len(body))
        request = httpcore.Request(
            b"POST",
            self._url,
            headers=[*self._headers, *added, length],
            content=body,
            extensions=_EXTENSIONS,
        )
        response = self._pool.handle_request(request)
        try:
            pieces = _beginning(response.iter_stream())
        finally:
            response.close()
        if response.status < 300 and not pieces:
            return Answer(response.status, {}, b"")  # nobody looks at more of an acceptance
        return _decoded(httpx.Response(response.status, headers=response.headers), pieces)

    def _through_client(self, body: bytes, added: _RawHeaders) -> Answer:
        assert self._client is not None
        url, common = self._parsed
        headers = httpx.Headers([*common.raw, *added])
        request = httpx.Request("POST", url, headers=headers, content=body, extensions=_EXTENSIONS)
        response = self._client.send(request, stream=True)
        try:
            pieces = _beginning(response.iter_raw())
        finally:
            response.close()
        return _decoded(response, pieces)


def _beginning(pieces: Iterable[bytes]) -> bytes:
    # The status is the answer. A body that breaks off takes nothing from it: a batch that was
    # accepted must not be sent for ever.
    body = b""
    until = time.monotonic() + BODY_PATIENCE
    try:
        for piece in pieces:
            body += piece
            if len(body) >= MAX_BODY or time.monotonic() >= until:
                break
    except (*_TOO_LATE, *_BROKEN):
        pass
    return body[:MAX_BODY]


def _decoded(response: httpx.Response, raw: bytes) -> Answer:
    # We ask for no encoding, and some gateways compress all the same.
    try:
        body = httpx.Response(response.status_code, headers=response.headers, content=raw).content
    except httpx.DecodingError:
        body = b""
    return Answer(response.status_code, response.headers, body[:MAX_BODY])
