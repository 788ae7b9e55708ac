"""What stands before every route: who calls, from where, how fast, and how much of it is read.

A key is looked at before the body is: who has none makes nobody read megabytes.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
import traceback
from collections.abc import Callable
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..access import ApiKeys, AuditLog, PortalTokens, Sessions
from ..access.portal_token import PREFIX as TOKEN_PREFIX
from ..errors import AccessStoreError, ApiKeyError, PortalTokenError
from .callers import Caller
from .cookies import cookie_of, session_of
from .incoming import is_deeper
from .measures import Measures
from .options import ServerOptions
from .paths import PORTAL_API, is_page
from .problems import Refusal, Refusing
from .rates import Rates

__all__ = ["PUBLIC", "Gate", "note"]

logger = logging.getLogger("llm_metering")

PUBLIC: Final = frozenset(["/healthz", "/readyz", "/login", "/portal/link"])
"""Paths that are answered without a key: those of health say nothing but whether the server works, and who
comes to the others has something to show, a key or the code of a link."""

STATIC: Final = "/static/"
"""Below it are style and script of the pages, which are the same for everybody."""

EXCHANGE: Final = f"{PORTAL_API}/session"
"""Where a code is exchanged for a cookie: who comes with one has nothing else to show."""

_SAFE: Final = ("GET", "HEAD", "OPTIONS")

_LOCAL: Final = ("localhost", "127.0.0.1", "[::1]")
_TOO_SLOW: Final = 408


class Gate:
    """Lets requests through to the application, or answers them itself.

    Args:
        app: The application.
        keys: Who has a key.
        tokens: Who has a portal token.
        audit: Hears of who was refused.
        measures: Hears of every answer.
        sessions: Who has signed in with a key.
        options: How much is taken.
        refusing: Makes the answers to who is refused.
        clock: Monotonic, in seconds.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: ApiKeys,
        tokens: PortalTokens,
        audit: AuditLog,
        measures: Measures,
        sessions: Sessions,
        options: ServerOptions,
        refusing: Refusing,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._keys = keys
        self._tokens = tokens
        self._audit = audit
        self._measures = measures
        self._sessions = sessions
        self._options = options
        self._refusing = refusing
        self._clock = clock
        self._rates = Rates(clock=clock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        began = self._clock()
        request_id = secrets.token_hex(8)
        status = 500

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                given = list(message.get("headers", []))
                if not any(name == b"cache-control" for name, _ in given):
                    given.append((b"cache-control", b"no-store"))
                message["headers"] = [
                    *given,
                    (b"x-request-id", request_id.encode()),
                    (b"x-content-type-options", b"nosniff"),
                ]
            await send(message)

        client = scope["client"][0] if scope.get("client") else None
        caller = Caller(client=client)
        state = scope.setdefault("state", {})
        state["request_id"] = request_id
        try:
            headers = Headers(scope=scope)
            caller = state["caller"] = await self._caller(scope, headers, client)
            self._slow_down(caller)
            _check_origin(scope, headers)
            replay = await self._body(headers, receive)
        except Refusal as refusal:
            await run_in_threadpool(note, self._audit, refusal, caller, scope)
            response = self._refusing(scope, refusal, f"urn:request:{request_id}")
            await response(scope, receive, send_on)
        except ClientGone:
            return
        else:
            await self._answered(scope, replay, send_on, request_id)
        finally:
            self._measures.answered(scope, status, self._clock() - began)

    async def _answered(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        """Have the application answer; an error of ours is told of here, and goes no further.

        What goes on from here uvicorn logs with its message, which may quote what was sent.
        """
        has_begun = False

        async def send_on(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._app(scope, receive, send_on)
        except Exception as error:
            where = "".join(traceback.format_tb(error.__traceback__))
            logger.error("request %s failed: %s\n%s", request_id, type(error).__name__, where)  # noqa: TRY400
            if not has_begun:
                broken = self._refusing(scope, Refusal(500), f"urn:request:{request_id}")
                await broken(scope, receive, send)

    async def _caller(self, scope: Scope, headers: Headers, client: str | None) -> Caller:
        path = scope["path"]
        # Also of whoever still has the cookie of an earlier link.
        is_exchange = path == EXCHANGE and scope["method"] == "POST"
        if path in PUBLIC or path.startswith(STATIC) or is_exchange:
            return Caller(client=client)
        given = headers.get("authorization")
        cookie = cookie_of(path, headers)
        if given is None and cookie is not None:
            return await run_in_threadpool(self._recognised, cookie, client)
        if given is None:
            if not await run_in_threadpool(self._are_keys_required):
                self._check_host(headers)
                return Caller(client=client)
            session = session_of(path, headers)
            if session is None:
                raise _unknown("no key")
            return await run_in_threadpool(self._signed_in, session, client)
        kind, _, text = given.strip().partition(" ")
        if kind.lower() != "bearer":
            raise _unknown("no key")
        return await run_in_threadpool(self._recognised, text.strip(), client)

    def _recognised(self, text: str, client: str | None) -> Caller:
        try:
            if text.startswith(TOKEN_PREFIX):
                return Caller(token=self._tokens.recognise(text), client=client)
            return Caller(key=self._keys.recognise(text), client=client)
        except ApiKeyError as error:
            raise _unknown(f"key {error.reason}", error.id) from None
        except PortalTokenError as error:
            raise _unknown(f"token {error.reason}", error.id) from None
        except AccessStoreError as error:
            raise Refusal(503, "keys cannot be read now", headers={"Retry-After": "5"}) from error

    def _signed_in(self, text: str, client: str | None) -> Caller:
        try:
            return Caller(key=self._keys.find(self._sessions.recognise(text).key), client=client)
        except ApiKeyError as error:
            raise _unknown(f"session {error.reason}", error.id) from None
        except AccessStoreError as error:
            raise Refusal(503, "keys cannot be read now", headers={"Retry-After": "5"}) from error

    def _are_keys_required(self) -> bool:
        try:
            return self._options.keys_required or bool(self._keys.all())
        except AccessStoreError as error:
            raise Refusal(503, "keys cannot be read now", headers={"Retry-After": "5"}) from error

    def _check_host(self, headers: Headers) -> None:
        # A page of another site reaches this machine from the browser of who sits before it, under
        # that site's name.
        name = headers.get("host", "")
        host = name if name.endswith("]") else name.rpartition(":")[0] or name
        if host.lower() not in (*_LOCAL, *self._options.hosts):
            raise Refusal(403, "this server is called by another name", reason="host")

    def _slow_down(self, caller: Caller) -> None:
        if caller.key is not None:
            per_minute = caller.key.requests_per_minute or self._options.requests_per_minute
            wait = self._rates.wait(caller.key.id, per_minute)
        elif caller.token is not None:
            # A customer, who asks for what a page shows.
            per_minute = self._options.portal_requests_per_minute
            wait = self._rates.wait(caller.token.id, per_minute)
        else:
            return
        if wait:
            raise Refusal(
                429,
                f"at most {per_minute} requests a minute are answered",
                headers={"Retry-After": str(int(wait) + 1)},
                reason="rate",
            )

    async def _body(self, headers: Headers, receive: Receive) -> Receive:
        """All of the body, read within the limits; what reads it again."""
        most = self._options.max_body
        too_large = Refusal(
            413, f"a body has at most {most} bytes", headers={"Connection": "close"}
        )
        if "content-length" in headers and "transfer-encoding" in headers:
            # Something before us may have taken the other one for the length (RFC 9112, section 6.1).
            raise Refusal(
                400, "a body has one length", headers={"Connection": "close"}, reason="two lengths"
            )
        try:
            if int(headers.get("content-length", "0")) > most:
                raise too_large
        except ValueError:
            raise Refusal(400, "the content length is no number") from None
        if headers.get("content-encoding", "identity").lower() != "identity":
            raise Refusal(415, "bodies are taken as they are, without a content encoding")
        body = bytearray()
        try:
            async with asyncio.timeout(self._options.body_timeout):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientGone
                    body += message.get("body", b"")
                    if len(body) > most:
                        raise too_large
                    if not message.get("more_body", False):
                        break
        except TimeoutError:
            raise Refusal(
                _TOO_SLOW, "the body took too long to come", headers={"Connection": "close"}
            ) from None
        whole = bytes(body)
        if whole and is_deeper(whole, self._options.max_depth):
            raise Refusal(400, f"the body is nested more than {self._options.max_depth} deep")
        return _replaying(whole, receive)


def _check_origin(scope: Scope, headers: Headers) -> None:
    """Refuse what a page of another site has made a browser send here, with our cookie or without.

    Browsers say of what kind a request is (https://www.w3.org/TR/fetch-metadata/), or at least from where.
    What a program sends to the API is JSON and has a key, which no such page can do.
    """
    if scope["method"] in _SAFE or not is_page(scope["path"]):
        return
    site = headers.get("sec-fetch-site")
    if site is not None:
        is_ours = site in ("same-origin", "none")
    else:
        is_ours = headers.get("origin", "").partition("://")[2] == headers.get("host", "-")
    if not is_ours:
        raise Refusal(403, "this was not sent by a page of this server", reason="origin")


def note(audit: AuditLog, refusal: Refusal, caller: Caller, scope: Scope) -> None:
    """Write down that somebody was refused, where that is something for the audit log."""
    if refusal.reason is not None:
        audit.refused(
            refusal.reason,
            actor=caller.actor,
            status=refusal.status,
            method=scope["method"],
            path=scope["path"],
            client=caller.client,
            request=scope["state"]["request_id"],
        )


class ClientGone(Exception):  # noqa: N818  # it is no error
    """Whoever called has gone before all of the request was here."""


def _replaying(body: bytes, receive: Receive) -> Receive:
    is_read = False

    async def replay() -> Message:
        nonlocal is_read
        if is_read:
            return await receive()
        is_read = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def _unknown(reason: str, id: str | None = None) -> Refusal:
    # Always the same: whoever shows a key is not told what is wrong with it.
    return Refusal(
        401,
        "a key is wanted: Authorization: Bearer",
        headers={"WWW-Authenticate": "Bearer"},
        reason=reason if id is None else f"{reason} {id}",
    )
