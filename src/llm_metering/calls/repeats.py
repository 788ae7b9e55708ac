"""Answers that come a second time: a gateway's cache, or a server that gives its ids again.

LangChain marks what its own cache answers. A cache in front of the provider replays the whole
response, under the id it had; and a model of LlamaIndex's that asks another one in a bare thread hands
on its answer. That is no proof: a server may draw its ids from a few, as Ollama
does, or make them of the second, and a model may return one object for ever. So such a call is
billed as it reports, and flagged for who wants to know.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from .call import Key
from .table import CallTable
from .values import Report

__all__ = ["REMEMBERED", "Answers", "answers_of"]

REMEMBERED: Final = 10_000
"""How many answers are remembered."""


class Answers:
    """The answers that were billed lately, told apart by id, model and counts."""

    def __init__(self) -> None:
        self._calls: dict[tuple[object, ...], Key] = {}
        self._order: deque[tuple[object, ...]] = deque()

    def is_repeated(self, key: Key, report: Report) -> bool:
        """Whether another call has had the very answer that this one has; it is remembered.

        Args:
            key: The call; its end may be told of several times.
            report: What its answer says.
        """
        usage = report.usage
        if report.response_id is None or usage is None:
            return False
        answer = (report.response_id, report.model, usage.input_tokens, usage.output_tokens)
        known = self._calls.get(answer)
        if known is not None:
            return known != key
        self._calls[answer] = key
        self._order.append(answer)
        if len(self._order) > REMEMBERED:
            self._calls.pop(self._order.popleft(), None)
        return False


_BESIDE: Final = "answers"


def answers_of(calls: CallTable) -> Answers:
    """The answers that were billed by a table."""
    answers: Answers | None = calls.beside.get(_BESIDE)
    return calls.beside.setdefault(_BESIDE, Answers()) if answers is None else answers
