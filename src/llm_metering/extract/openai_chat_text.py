"""The text of OpenAI's chat completions and legacy completions, whole and in chunks.

Source: openai 3.54.0, `openai/types/chat/chat_completion_message.py`,
`openai/types/chat/chat_completion_chunk.py`, `openai/types/completion_choice.py`. Reasoning that
is shown has no place in them; DeepSeek, Z.ai and others call it `reasoning_content`, Groq,
OpenRouter and vLLM `reasoning`, Snowflake sends `reasoning_details` alone. Mistral's content may be a list of parts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from ..exchange import Output
from .assembly import Pieces, is_count, supersedes
from .openai_chat import usage_in
from .reading import NOTHING
from .views import as_list, as_mapping, copy_of

__all__ = ["Stream", "matches_chunk", "output"]

_TEXT: Final = frozenset(["delta", "message", "text", "logprobs"])
_NAMES: Final = frozenset(["id", "model", "created"])
_COUNTS: Final = ("prompt_tokens", "completion_tokens", "total_tokens")
_KEPT_APART: Final = frozenset(["choices", "usage"])


def output(body: Mapping[str, Any]) -> Output:
    """What an unstreamed body answers."""
    collector = _Collector()
    for position, choice in enumerate(as_list(body.get("choices"))):
        collector.add(as_mapping(choice) or NOTHING, position)
    return collector.pieces.output()


def matches_chunk(chunk: Mapping[str, Any]) -> bool:
    """Whether `chunk` is of a stream of this shape."""
    return isinstance(chunk.get("choices"), list | tuple)


class Stream:
    """Puts a stream's chunks together.

    The usage is the last that was reported, but for an empty one. Where it comes with the choices,
    before they have all finished, it is that of the answer so far (vLLM's `continuous_usage_stats`,
    Perplexity). Of several whole bodies none is the answer: they have no usage together.
    """

    def __init__(self) -> None:
        self.is_final = False
        self.has_ended = False
        self.has_several = False
        self._collector = _Collector()
        self._body: dict[str, Any] = {}
        self._choice: dict[str, Any] = {}
        self._unfinished: set[int] = set()
        self._has_begun = False
        self._is_whole = False
        self._are_whole = False

    def feed(self, chunk: Mapping[str, Any], /) -> None:
        choices = as_list(chunk.get("choices"))
        if choices and self._has_begun and not self._unfinished:
            self._look_for_another(chunk, as_mapping(choices[0]) or NOTHING)
        usage = usage_in(chunk)
        is_news = usage is not None or not (self._body.get("id") and self._body.get("model"))
        for position, each in enumerate(choices):
            choice = as_mapping(each) or NOTHING
            index = self._collector.add(choice, position)
            if index not in self._collector.finished:
                self._unfinished.add(index)
            if not self._has_begun or choice.get("finish_reason"):
                if not self._has_begun:
                    self._is_whole = _is_whole(choice)
                is_news = self._has_begun = True
                if choice.get("finish_reason"):
                    self._collector.finished.add(index)
                    self._unfinished.discard(index)
                self._note(choice)
        if is_news or chunk.get("error"):
            self._merge(chunk)
        if usage and supersedes(usage, self._body.get("usage"), _COUNTS):
            self._report(usage, is_alone=not choices)
        self.has_ended = self.is_final or (self._has_begun and not self._unfinished)

    def body(self) -> Mapping[str, Any]:
        body = {**self._body, "choices": [self._choice]}
        if self._are_whole:
            body.pop("usage", None)
        return body

    def output(self) -> Output:
        return Output() if self._are_whole else self._collector.pieces.output()

    def _look_for_another(self, chunk: Mapping[str, Any], choice: Mapping[str, Any]) -> None:
        """Whether what comes after the end of all choices is another response."""
        known, name = self._body.get("id"), chunk.get("id")
        is_another = bool(known and name and known != name)
        index = choice.get("index")
        if _is_whole(choice) and self._is_whole:
            self.has_several = self._are_whole = True
        elif is_another and (0 if index is None else index) in self._collector.finished:
            self.has_several = True

    def _report(self, usage: Mapping[str, Any], *, is_alone: bool) -> None:
        has_finished = self._has_begun and not self._unfinished
        is_zero = all(not is_count(usage.get(name)) for name in _COUNTS)
        if is_zero and not has_finished and any(name in usage for name in _COUNTS):
            return  # what some servers put until they have counted
        self._body["usage"] = copy_of(usage)
        self.is_final = has_finished or (is_alone and not is_zero)

    def _note(self, choice: Mapping[str, Any]) -> None:
        """Keep what tells whose choice it is and how it ended, but for the text."""
        ended_badly = self._choice.get("finish_reason") == "error"
        for key, value in choice.items():
            is_news = value is not None or key not in self._choice
            if is_news and key not in _TEXT and not ended_badly:
                self._choice[key] = value

    def _merge(self, chunk: Mapping[str, Any]) -> None:
        for key, value in chunk.items():
            # Azure's first chunk has an empty id; Groq's compound models end with a stub.
            if key in _NAMES:
                self._body[key] = self._body.get(key) or value
            elif value is not None and key not in _KEPT_APART:
                self._body[key] = value


def _is_whole(choice: Mapping[str, Any]) -> bool:
    """Whether a choice is that of a body that was not streamed; some streams have both names."""
    return (
        choice.get("delta") is None
        and (choice.get("message") is not None or choice.get("text") is not None)
        and bool(choice.get("finish_reason"))
    )


class _Collector:
    """The text of choices, and which of them have finished."""

    def __init__(self) -> None:
        self.pieces = Pieces()
        self.finished: set[int] = set()
        self._calls: dict[tuple[int, int], object] = {}

    def add(self, choice: Mapping[str, Any], position: int) -> int:
        """Take the text of a choice, or of a piece of one, and say which choice it is."""
        index = choice.get("index")
        if type(index) is not int:
            index = position
        # Writer repeats each delta as a message; Perplexity's message is the answer so far.
        said = choice.get("delta") or choice.get("message")
        message = as_mapping(said) if said is not None else None
        if message is None:
            self.pieces.text(choice.get("text"), index)
            return index
        content = message.get("content")
        if isinstance(content, str):
            self.pieces.text(content, index)
        elif content:
            self._parts(content, index)
        self.pieces.text(message.get("refusal"), index)
        if (audio := message.get("audio")) is not None:
            transcript = (as_mapping(audio) or NOTHING).get("transcript")
            self.pieces.text(transcript, (index, "audio"))
        if thoughts := message.get("reasoning_content") or message.get("reasoning"):
            self.pieces.reasoning(thoughts, index)
        elif (details := message.get("reasoning_details")) is not None:
            for detail in as_list(details):
                fields = as_mapping(detail) or NOTHING
                self.pieces.reasoning(fields.get("text") or fields.get("summary"), index)
        if (calls := message.get("tool_calls")) is not None:
            for number, call in enumerate(as_list(calls)):
                self._tool_call(as_mapping(call) or NOTHING, index, number)
        if (call := message.get("function_call")) is not None:
            self._function(as_mapping(call) or NOTHING, (index, "function_call"))
        return index

    def _parts(self, content: object, index: int) -> None:
        for part in as_list(content):
            fields = as_mapping(part) or NOTHING
            self.pieces.text(fields.get("text"), index)
            for thought in as_list(fields.get("thinking")):
                self.pieces.reasoning((as_mapping(thought) or NOTHING).get("text"), index)

    def _tool_call(self, call: Mapping[str, Any], index: int, number: int) -> None:
        place = call.get("index")
        slot = (index, place if type(place) is int else number)
        name = call.get("id")
        if isinstance(name, str) and name:
            # Google's endpoint gives every call the index 0, and an id of its own.
            self._calls[slot] = name
        self._function(
            as_mapping(call.get("function")) or NOTHING, (slot, self._calls.get(slot, ""))
        )

    def _function(self, function: Mapping[str, Any], key: object) -> None:
        arguments = function.get("arguments")
        if isinstance(arguments, Mapping):
            arguments = json.dumps(arguments, default=str)  # as Mistral's SDK may hold them
        self.pieces.tool_call(key, name=function.get("name"), arguments=arguments)
