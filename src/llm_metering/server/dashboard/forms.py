"""What a form sends."""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qsl

from fastapi import Request

from ..problems import Refusal

__all__ = ["fields_of", "local_path"]

_TYPE: Final = "application/x-www-form-urlencoded"
_MOST_FIELDS: Final = 50
_MOST_BYTES: Final = 64 << 10


async def fields_of(request: Request) -> dict[str, str]:
    """The fields of a form; of one that comes twice the last.

    Raises:
        Refusal: If it is none, or a large one (400, 413, 415).
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != _TYPE:
        raise Refusal(415, "a form is wanted")
    body = await request.body()
    if len(body) > _MOST_BYTES:
        raise Refusal(413, "the form is too large")
    try:
        text = body.decode("ascii")
        pairs = parse_qsl(
            text, keep_blank_values=True, max_num_fields=_MOST_FIELDS, errors="strict"
        )
    except ValueError:
        raise Refusal(400, "the form cannot be read") from None
    return dict(pairs)


def local_path(text: str) -> str:
    """A path of this server to go on to; `/` if the text is none.

    >>> local_path("/costs?month=2026-11"), local_path("//evil.example"), local_path("https://evil")
    ('/costs?month=2026-11', '/', '/')
    """
    # Browsers take a backslash for a slash, and leave tabs and line ends out.
    is_ours = text.startswith("/") and not text.startswith("//") and "\\" not in text
    return text if is_ours and text.isprintable() and text.isascii() else "/"
