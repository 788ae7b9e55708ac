"""Putting the chunks of a stream together into the body of a response that was not streamed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from ..exchange import Output

__all__ = ["Assembler", "Pieces", "is_count", "supersedes"]


def is_count(value: object) -> bool:
    """Whether a count says more than nothing; one that is no count at all does, since it is odd."""
    return value is not None and value != 0


def supersedes(
    new: Mapping[str, Any], known: Mapping[str, Any] | None, names: Iterable[str]
) -> bool:
    """Whether a stream's later usage replaces the one known, by the counts it has under `names`.

    One without any count does not, nor one of zeros where there were tokens: some servers and
    proxies end their streams with an empty usage.
    """
    if any(is_count(new.get(name)) for name in names):
        return True
    if known is not None and any(is_count(known.get(name)) for name in names):
        return False
    return any(value is not None for value in new.values())


class Assembler(Protocol):
    """Reads one stream of one provider's shape.

    `feed` raises nothing, whatever a chunk holds.

    Attributes:
        is_final: Whether the usage of the whole call was seen, not only that of its beginning.
        has_ended: Whether the provider said that this was all.
        has_several: Whether another response began where one had ended.
    """

    is_final: bool
    has_ended: bool
    has_several: bool

    def feed(self, chunk: Mapping[str, Any], /) -> None: ...

    def body(self) -> Mapping[str, Any]:
        """What the provider would have answered without streaming, as far as is known."""

    def output(self) -> Output:
        """The text that arrived."""


class Pieces:
    """The pieces of text of a stream, kept apart by where they belong and joined at the end.

    Tokens do not end where chunks do: counting each piece for itself counts too many.
    """

    def __init__(self) -> None:
        self._texts: defaultdict[object, list[str]] = defaultdict(list)
        self._reasoning: defaultdict[object, list[str]] = defaultdict(list)
        self._tool_names: dict[object, str] = {}
        self._tool_arguments: defaultdict[object, list[str]] = defaultdict(list)

    def text(self, piece: object, index: object = 0) -> None:
        """A piece of the visible answer; `index` is its choice or block."""
        if isinstance(piece, str) and piece:
            self._texts[index].append(piece)

    def reasoning(self, piece: object, index: object = 0) -> None:
        """A piece of the reasoning that is shown."""
        if isinstance(piece, str) and piece:
            self._reasoning[index].append(piece)

    def tool_call(self, index: object, *, name: object = None, arguments: object = None) -> None:
        """A piece of a tool call: its name, or more of its JSON arguments."""
        if isinstance(name, str) and name:
            self._tool_names[index] = name
        if isinstance(arguments, str) and arguments:
            self._tool_arguments[index].append(arguments)

    def output(self) -> Output:
        """All of it, joined."""
        calls = dict.fromkeys([*self._tool_names, *self._tool_arguments])
        return Output(
            texts=["".join(pieces) for pieces in self._texts.values()],
            reasoning=["".join(pieces) for pieces in self._reasoning.values()],
            tool_calls=[
                (self._tool_names.get(index, ""), "".join(self._tool_arguments.get(index, ())))
                for index in calls
            ],
        )
