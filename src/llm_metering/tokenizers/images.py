"""How large a picture is, read from the first bytes of its file.

Sources: the file formats. PNG: the IHDR chunk comes first. GIF: the logical screen. JPEG: the first
start-of-frame segment. WebP: VP8, VP8L and VP8X chunks, as RFC 9649 describes them.
The picture is never decoded.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any, Final

from .prompt import Image
from .views import as_text, field, fields

__all__ = ["image_of", "size_of"]

_ENOUGH: Final = 256 * 1024
"""Bytes to look at: before its size, a JPEG may carry colour profiles and thumbnails."""

_IN_ADDRESS: Final = re.compile(r"(?<=[/_=-])([1-9]\d{1,4})x([1-9]\d{1,4})(?=[/_.?&-]|$)")
"""Many servers of pictures have addresses such as `…/800x400`."""
_LONGEST: Final = 2000
_ALPHABET: Final = str.maketrans("-_", "+/")
_NO_FRAME: Final = frozenset([0xC4, 0xC8, 0xCC])


def image_of(part: Mapping[str, Any]) -> Image:
    """The picture of a part, in the form of any provider."""
    held = field(part, "image_url", "image", "source", "url", "data", "bytes")
    detail = as_text(part.get("detail"))
    for _ in range(4):
        inner = fields(held)
        if not inner:
            break
        detail = detail or as_text(inner.get("detail"))
        held = field(inner, "url", "data", "bytes", "source", "image_url")
    size = size_of(held)
    is_seen = size is not None
    if size is None and isinstance(held, str) and (stated := _IN_ADDRESS.search(held[:_LONGEST])):
        size = int(stated[1]), int(stated[2])
    width, height = size or (None, None)
    return Image(width=width, height=height, detail=detail or "auto", is_seen=is_seen)


def size_of(data: object) -> tuple[int, int] | None:
    """Width and height of a picture, from its bytes, their base64, or a `data:` URL of them."""
    if isinstance(data, str):
        data = _decoded(data)
    if not isinstance(data, bytes | bytearray):
        return None
    head = bytes(data[:_ENOUGH])
    try:
        size = _png(head) or _gif(head) or _webp(head) or _jpeg(head)
    except IndexError:
        return None
    return size if size and size[0] > 0 and size[1] > 0 else None


def _decoded(text: str) -> bytes | None:
    if text.startswith("data:"):
        start = text.find(",", 0, 200) + 1
        if not start:
            return None
    elif "://" in text[:20]:
        return None
    else:
        start = 0
    digits = text[start : start + _ENOUGH * 4 // 3]
    try:
        # Gemini's are of the alphabet for addresses.
        return base64.b64decode(digits[: len(digits) // 4 * 4].translate(_ALPHABET))
    except (binascii.Error, ValueError):
        return None


def _png(head: bytes) -> tuple[int, int] | None:
    if head[:8] != b"\x89PNG\r\n\x1a\n":
        return None
    return _number(head, 16, 4), _number(head, 20, 4)


def _gif(head: bytes) -> tuple[int, int] | None:
    if head[:6] not in (b"GIF87a", b"GIF89a"):
        return None
    return _number(head, 6, 2, "little"), _number(head, 8, 2, "little")


def _webp(head: bytes) -> tuple[int, int] | None:
    if head[:4] != b"RIFF" or head[8:12] != b"WEBP":
        return None
    chunk = head[12:16]
    if chunk == b"VP8X":
        return _number(head, 24, 3, "little") + 1, _number(head, 27, 3, "little") + 1
    if chunk == b"VP8L":
        bits = _number(head, 21, 4, "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if chunk == b"VP8 ":
        return _number(head, 26, 2, "little") & 0x3FFF, _number(head, 28, 2, "little") & 0x3FFF
    return None


def _jpeg(head: bytes) -> tuple[int, int] | None:
    if head[:2] != b"\xff\xd8":
        return None
    at = 2
    while head[at] == 0xFF:
        marker = head[at + 1]
        if marker == 0xFF:  # padding
            at += 1
        elif 0xC0 <= marker <= 0xCF and marker not in _NO_FRAME:
            return _number(head, at + 7, 2), _number(head, at + 5, 2)
        else:
            at += 2 + _number(head, at + 2, 2)
    return None


def _number(head: bytes, at: int, length: int, order: Any = "big") -> int:
    if at + length > len(head):
        raise IndexError
    return int.from_bytes(head[at : at + length], order)
