"""Which paths are pages for people, and which of those are for customers."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlencode

from starlette.datastructures import Headers

__all__ = ["API", "PORTAL_API", "PORTAL_PAGES", "is_page", "is_portal", "link_path", "wants_page"]

API: Final = "/api/"
PORTAL_API: Final = "/api/v1/portal"
PORTAL_PAGES: Final = "/portal"

_FOR_PROGRAMS: Final = ("/healthz", "/readyz", "/metrics", "/openapi.json")


def is_page(path: str) -> bool:
    """Whether a path is one of those for people, be there such a page or not."""
    return not path.startswith(API) and path not in _FOR_PROGRAMS


def is_portal(path: str) -> bool:
    """Whether a path is for customers, who show a portal token."""
    return path == PORTAL_PAGES or path.startswith((f"{PORTAL_PAGES}/", f"{PORTAL_API}/"))


def link_path(code: str) -> str:
    """The path of a link that carries a code.

    >>> link_path("a-b_c")
    '/portal/link?code=a-b_c'
    """
    return f"{PORTAL_PAGES}/link?{urlencode({'code': code})}"


def wants_page(path: str, headers: Headers) -> bool:
    """Whether whoever asks is to be answered with a page, also where something is refused."""
    return is_page(path) and "text/html" in headers.get("accept", "")
