"""The cookie that a customer's browser shows instead of a portal token.

No script can read it (`HttpOnly`), no other site can have it sent (`SameSite=Strict`), it goes to no path but
those of the portal, and over HTTPS alone unless the browser is on this machine (`Secure`).
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from starlette.datastructures import Headers
from starlette.requests import Request, cookie_parser
from starlette.responses import Response

__all__ = ["PORTAL", "clear_cookie", "cookie_of", "set_cookie"]

PORTAL: Final = "/api/v1/portal"

_NAME: Final = "llm_metering_portal"
_LOCAL: Final = ("localhost", "127.0.0.1", "::1")


def cookie_of(path: str, headers: Headers) -> str | None:
    """The token that a request to the portal shows in its cookie."""
    if not path.startswith(f"{PORTAL}/"):
        return None
    return cookie_parser(headers.get("cookie", "")).get(_NAME)


def set_cookie(request: Request, response: Response, token: str, life: timedelta) -> None:
    """Have a browser show a token for as long as it holds."""
    response.set_cookie(
        _NAME,
        token,
        max_age=max(int(life.total_seconds()), 0),
        path=PORTAL,
        secure=_is_secure(request),
        httponly=True,
        samesite="strict",
    )


def clear_cookie(request: Request, response: Response) -> None:
    """Have a browser forget it."""
    response.delete_cookie(
        _NAME, path=PORTAL, secure=_is_secure(request), httponly=True, samesite="strict"
    )


def _is_secure(request: Request) -> bool:
    # A proxy that speaks HTTPS for us says so in no way that could be trusted; a browser on this machine
    # is the one that needs none.
    return request.url.scheme == "https" or request.url.hostname not in _LOCAL
