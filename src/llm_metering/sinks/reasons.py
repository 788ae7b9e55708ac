"""What a server or a library says, as a sink may repeat it: short, printable and without secrets."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

__all__ = ["shorten"]

MAX_REASON: Final = 200


def shorten(text: str, secrets: Iterable[str | None] = (), *, most: int = MAX_REASON) -> str:
    """The beginning of `text` on one line.

    Args:
        text: What was said.
        secrets: What it must not show.
        most: So many characters of it.
    """
    # The longest first: one may be the beginning of another.
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, "***")
    # It is shown in terminals, which obey control characters.
    text = "".join(character if character.isprintable() else " " for character in text)
    text = " ".join(text.split())
    return text if len(text) <= most else f"{text[: most - 1]}…"
