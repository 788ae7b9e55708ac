"""One request, and the numbers and the text that it will be answered with.

They follow from the request's number, so that no two requests are answered alike: a meter that
takes one call for another is wrong by a number that can be seen.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from .ledger import Entry
from .samples import WORDS

__all__ = ["Call", "Frame", "Numbers", "Piece", "without_none"]

_TRAIT: Final = re.compile(r"([a-z]+)(\d+)")
_EDGE: Final = 3


class Frame(NamedTuple):
    """What is sent at once: the bytes, and what the books say of them."""

    data: bytes
    text: str = ""
    tokens: int = 0
    tells_usage: bool = False


class Piece(NamedTuple):
    """A piece of the answer, the tokens it took, and the tokens up to it."""

    text: str
    tokens: int
    so_far: int


class Numbers(NamedTuple):
    """What the client is told; which may be wrong, if the model's name asks for it."""

    input: Any
    output: Any
    cached: Any
    written: Any
    written_5m: Any
    written_1h: Any
    reasoning: Any
    total: Any


@dataclass
class Call:
    """A request that is being answered."""

    entry: Entry
    body: Mapping[str, Any]

    def __post_init__(self) -> None:
        self.base, *named = self.entry.model.split("+")
        self.traits: dict[str, int] = {}
        for name in named:
            found = _TRAIT.fullmatch(name)
            self.traits[found[1] if found else name] = int(found[2]) if found else 0
        number = self.entry.number
        self.input = 200 + 17 * number
        self.output = 40 + 7 * number
        self.cached = 8 * (1 + number % 11)
        self.written_5m = 5 + number % 3 if self.has("cache") else 0
        self.written_1h = 2 + number % 5 if self.has("cache") else 0
        self.written = self.written_5m + self.written_1h
        self.reasoning = 3 + number % 13
        self.search_units = 1 + number % 4

    def has(self, *names: str) -> bool:
        """Whether the model's name asks for one of these."""
        return not self.traits.keys().isdisjoint(names)

    def edge(self, name: str) -> int | None:
        """After how many pieces something happens, if it does."""
        return self.traits[name] or _EDGE if self.has(name) else None

    @property
    def embeds(self) -> bool:
        """Whether the model is one that embeds."""
        return "embed" in self.base

    @property
    def served(self) -> str:
        """The model that answers, which is not called as it was asked for."""
        return f"{self.base}-2026-11"

    @property
    def name(self) -> str:
        """The provider's name for its answer."""
        return f"answer-{self.entry.number}"

    def pieces(self, text: str | None = None) -> Iterator[Piece]:
        """The answer in pieces; the first one holds what was thought before it, too."""
        number = self.entry.number
        count = self.traits.get("pieces") or 5 + number % 4
        if text is None:
            texts = [f"{WORDS[(number + i) % len(WORDS)]} " for i in range(count)]
        else:
            size = -(-len(text) // count)
            texts = [text[i : i + size] for i in range(0, len(text), size)]
        share, rest = divmod(self.output - self.reasoning, len(texts))
        so_far = 0
        for i, each in enumerate(texts):
            tokens = share if i else share + rest + self.reasoning
            so_far += tokens
            yield Piece(each, tokens, so_far)

    def numbers(self, output: int | None = None, extra_input: int = 0) -> Numbers:
        """What the client is told of the whole call, or of as many tokens of output."""
        sent = self.output if output is None else output
        known = Numbers(
            input=self.input + extra_input,
            output=sent,
            cached=self.cached,
            written=self.written,
            written_5m=self.written_5m,
            written_1h=self.written_1h,
            reasoning=min(self.reasoning, sent),
            total=self.input + extra_input + sent,
        )
        if self.has("negative"):
            known = known._replace(output=-sent)
        if self.has("nonint"):
            known = known._replace(output=sent + 0.5)
        if self.has("float"):
            known = known._replace(input=float(known.input), output=float(sent))
        if self.has("text"):
            known = known._replace(input=str(known.input))
        if self.has("contradict"):
            known = known._replace(total=known.total + 1000, cached=known.input + 5)
        if self.has("half"):
            known = known._replace(input=None)
        return known


def without_none(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that are known."""
    return {name: value for name, value in fields.items() if value is not None}
