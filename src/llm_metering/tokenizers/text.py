"""How many tokens a text is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, Protocol

__all__ = ["BLOCK", "TextEncoding", "blocks", "capitals_in", "extra_digits", "tokens_in"]

BLOCK: Final = 8192
"""Characters that are encoded at a time, at most. tiktoken before 0.13 needs time quadratic in the
length of a run without a boundary (openai/tiktoken issue 195), and even 0.14 dies of a megabyte of
spaces (`StackOverflow`, issues 15 and 245)."""

_SEARCHED: Final = BLOCK // 2
_BOUNDARIES: Final = frozenset(
    ' ,.;:!?()[]{}-"\u201c\u201d\u2026'
    "\u3001\u3002\u300c\u300d\uff01\uff08\uff09\uff0c\uff1a\uff1b\uff1f"
)
_NUMBERS: Final = re.compile(r"\d{2,}")
_SHOUTED: Final = re.compile(r"\b[A-Z]{2,}\b")


class TextEncoding(Protocol):
    """The one thing we ask of an encoding."""

    def encode_ordinary(self, text: str, /) -> list[int]:
        """The tokens of a text, in which special tokens are text like any other."""


def tokens_in(encoding: TextEncoding, text: str) -> int:
    """How many tokens `text` is.

    Text that looks like a special token is counted as the text it is.
    """
    if not text:
        return 0
    if len(text) <= BLOCK:
        return _encode(encoding, text)
    return sum(_encode(encoding, block) for block in blocks(text))


def blocks(text: str) -> Iterator[str]:
    """`text` in pieces of at most `BLOCK` characters.

    It is cut before a single mark between two letters, where every encoding of OpenAI's starts a
    new token: the tokens of the pieces are those of the whole. A stretch without such a place is
    cut anywhere, which costs a token at most.
    """
    start = 0
    while len(text) - start > BLOCK:
        end = start + BLOCK
        for at in range(end - 1, end - _SEARCHED, -1):
            if text[at] in _BOUNDARIES and text[at - 1].isalpha() and text[at + 1].isalpha():
                end = at
                break
        yield text[start:end]
        start = end
    yield text[start:]


def capitals_in(text: str) -> float:
    """The share of `text` that is words in capitals."""
    if not text or text.islower():
        return 0.0
    return sum(map(len, _SHOUTED.findall(text))) / len(text)


def extra_digits(text: str) -> int:
    """How many tokens more `text` has where each digit is one, not each group of up to three."""
    return sum(len(run) - -(-len(run) // 3) for run in _NUMBERS.findall(text))


def _encode(encoding: TextEncoding, text: str) -> int:
    try:
        return len(encoding.encode_ordinary(text))
    except Exception:
        raise
    except BaseException as error:
        # A panic in Rust arrives as a BaseException; it must not end our thread.
        if type(error).__name__ == "PanicException":
            raise ValueError("tiktoken panicked") from None
        raise
