"""How many tokens a picture is.

Sources: OpenAI's guide "Images and vision", section on calculating costs (January 2026); Claude's
page "Vision" (September 2026: one token for each patch of 28 by 28 pixels); Gemini's page
"Understand and count tokens" (258 tokens for each tile).
"""

from __future__ import annotations

import re
from math import ceil, floor, sqrt
from typing import Final

from .prompt import Image

__all__ = ["openai_picture", "picture"]

ASSUMED_SIDE: Final = 1024
"""Pixels of a side, where only the provider could see the picture: the size in OpenAI's first
example."""

_PATCH: Final = 32
_MOST_PATCHES: Final = 1536
_PATCHED: Final = (
    (re.compile(r"gpt-4\.1-mini|gpt-5[\d.]*-mini"), 1.62),
    (re.compile(r"gpt-4\.1-nano|gpt-5[\d.]*-nano"), 2.46),
    (re.compile(r"o4-mini"), 1.72),
)
_TILED: Final = (
    (re.compile(r"gpt-4o-mini"), 2833, 5667),
    (re.compile(r"gpt-5"), 70, 140),
    (re.compile(r"o\d"), 75, 150),
    (re.compile(r"computer-use"), 65, 129),
    (re.compile(r""), 85, 170),
)
_NEW_CLAUDE: Final = re.compile(r"opus-4[.-][7-9]|(opus|sonnet|haiku)-[5-9]")


def openai_picture(image: Image, model: str) -> int:
    """Tokens of a picture for a model of OpenAI's."""
    width, height = image.width or ASSUMED_SIDE, image.height or ASSUMED_SIDE
    for pattern, multiplier in _PATCHED:
        if pattern.match(model):
            return ceil(_patches(width, height) * multiplier)
    base, tile = next((base, tile) for pattern, base, tile in _TILED if pattern.match(model))
    if image.detail == "low":
        return base
    # First into a square of 2048 pixels, then its shorter side to 768; never enlarged.
    scale = min(1.0, 2048 / max(width, height))
    scale *= min(1.0, 768 / (min(width, height) * scale))
    return base + tile * ceil(width * scale / 512) * ceil(height * scale / 512)


def _patches(width: int, height: int) -> int:
    needed = ceil(width / _PATCH) * ceil(height / _PATCH)
    if needed <= _MOST_PATCHES:
        return needed
    shrink = sqrt(_MOST_PATCHES * _PATCH**2 / (width * height))
    columns, rows = width * shrink / _PATCH, height * shrink / _PATCH
    # Once more, so that whole patches fit the width.
    shrink *= min(max(floor(columns), 1) / columns, max(floor(rows), 1) / rows)
    patches = ceil(width * shrink / _PATCH - 1e-9) * ceil(height * shrink / _PATCH - 1e-9)
    return min(patches, _MOST_PATCHES)


def picture(rule: str, image: Image, model: str) -> int:
    """Tokens of a picture for a model of another family."""
    width, height = image.width or ASSUMED_SIDE, image.height or ASSUMED_SIDE
    if rule == "claude":
        longest, most = (2576, 4784) if _NEW_CLAUDE.search(model) else (1568, 1568)
        scale = min(1.0, longest / max(width, height), sqrt(most * 28 * 28 / (width * height)))
        return min(most, ceil(width * scale / 28) * ceil(height * scale / 28))
    if rule == "gemini":
        if "gemini-3" in model:
            return 1120  # the default resolution of that generation
        if width <= 384 and height <= 384:
            return 258
        return 258 * ceil(width / 768) * ceil(height / 768)
    return openai_picture(image, "")
