"""The cookies that a browser shows instead of a portal token, or of a key.

No script can read them (`HttpOnly`), and they go over HTTPS alone unless the browser is on this machine
(`Secure`). That of a customer is sent by no page of another site (`SameSite=Strict`) and to no path but those
of the portal. That of an operator is sent where somebody follows a link to a page (`Lax`), so that links can be
shared; it is looked at for pages alone, and whatever changes something takes a request that our own page has
made as well.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from starlette.datastructures import Headers
from starlette.requests import Request, cookie_parser
from starlette.responses import Response

from .paths import PORTAL_API, PORTAL_PAGES, is_page, is_portal

__all__ = [
    "clear_portal_cookie",
    "clear_session_cookie",
    "cookie_of",
    "is_local",
    "session_of",
    "set_portal_cookie",
    "set_session_cookie",
]

_PORTAL: Final = "llm_metering_portal"
_SESSION: Final = "llm_metering_session"
_LOCAL: Final = ("localhost", "127.0.0.1", "::1")


def cookie_of(path: str, headers: Headers) -> str | None:
    """The portal token that a request to the portal shows in its cookie."""
    if not is_portal(path):
        return None
    return cookie_parser(headers.get("cookie", "")).get(_PORTAL)


def session_of(path: str, headers: Headers) -> str | None:
    """The session that a request for an operator's page shows in its cookie."""
    if is_portal(path) or not is_page(path):
        return None
    return cookie_parser(headers.get("cookie", "")).get(_SESSION)


def set_portal_cookie(request: Request, response: Response, token: str, life: timedelta) -> None:
    """Have a browser show a token for as long as it holds, in the portal's API and on its pages."""
    for path in (PORTAL_API, PORTAL_PAGES):
        response.set_cookie(
            _PORTAL,
            token,
            max_age=max(int(life.total_seconds()), 0),
            path=path,
            secure=not is_local(request),
            httponly=True,
            samesite="strict",
        )


def clear_portal_cookie(request: Request, response: Response) -> None:
    """Have a browser forget it."""
    for path in (PORTAL_API, PORTAL_PAGES):
        response.delete_cookie(
            _PORTAL, path=path, secure=not is_local(request), httponly=True, samesite="strict"
        )


def set_session_cookie(request: Request, response: Response, session: str, life: timedelta) -> None:
    """Have a browser show a session for as long as it holds."""
    response.set_cookie(
        _SESSION,
        session,
        max_age=max(int(life.total_seconds()), 0),
        path="/",
        secure=not is_local(request),
        httponly=True,
        samesite="lax",
    )


def clear_session_cookie(request: Request, response: Response) -> None:
    """Have a browser forget it."""
    response.delete_cookie(
        _SESSION, path="/", secure=not is_local(request), httponly=True, samesite="lax"
    )


def is_local(request: Request) -> bool:
    """Whether a browser on this machine asks, by plain HTTP.

    A proxy that speaks HTTPS for us says so in no way that could be trusted; a browser on this machine is
    the one that needs none.
    """
    return request.url.scheme == "http" and request.url.hostname in _LOCAL
