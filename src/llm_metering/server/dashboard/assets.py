"""`/static/`: style, script and icon of the pages, which are the same for everybody."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Final

from fastapi import APIRouter, Response

from ..problems import Refusal

__all__ = ["asset", "router"]

router = APIRouter(include_in_schema=False)

_FOLDER: Final = Path(__file__).parent / "static"
_TYPES: Final = {
    "dashboard.css": "text/css; charset=utf-8",
    "dashboard.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}


@router.get("/static/{name}")
async def static(name: str) -> Response:
    """One of the files there are; nothing else that lies there or elsewhere."""
    if name not in _TYPES:
        raise Refusal(404)
    headers = {"Cache-Control": "public, max-age=31536000, immutable"}
    return Response(_content(name), media_type=_TYPES[name], headers=headers)


def asset(name: str) -> str:
    """The address of a file, another one when its content is."""
    return f"/static/{name}?v={hashlib.sha256(_content(name)).hexdigest()[:12]}"


@cache
def _content(name: str) -> bytes:
    return (_FOLDER / name).read_bytes()
