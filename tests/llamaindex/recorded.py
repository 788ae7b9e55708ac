"""Recorded answers of real providers, asked for through LlamaIndex's real clients."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from llama_index.core.callbacks import CallbackManager

from llm_metering import Meter, subject
from llm_metering.llamaindex import MeteringHandler
from llm_metering.sinks.memory import MemorySink
from tests.extract.recorded import NUMBERS, Interaction
from tests.llamaindex.asking import messages
from tests.llamaindex.recorded_clients import is_completion, model_for
from tests.replaying import Replays

__all__ = ["Outcome", "Replayed", "expected_of", "is_right", "numbers_of", "reported_by_llamaindex"]

PROMPT: Final = "Hello"
# As in the test of the extractors: what was recorded knows no `num_cached_tokens`.
CORRECTIONS: Final = {"sequences/mistral-openai-chat-unary-2-1": {"cache_read_tokens": 32}}

_INPUT: Final = ("prompt_tokens", "input_tokens", "prompt_token_count", "inputTokens")
_OUTPUT: Final = ("completion_tokens", "output_tokens", "candidates_token_count", "outputTokens")
# Anthropic's, Bedrock's and Gemini's own words for what is beside those.
_MORE_INPUT: Final = (
    *("cache_read_input_tokens", "cache_creation_input_tokens", "tool_use_prompt_token_count"),
    *("cacheReadInputTokens", "cacheWriteInputTokens"),
)
_MORE_OUTPUT: Final = ("thoughts_token_count",)


class Outcome(NamedTuple):
    """What came of one call: our event's data, and LlamaIndex's answer, or the pieces of one."""

    data: dict[str, Any]
    answers: list[Any]


class Replayed:
    """Calls that are answered with what was recorded, and the events of them."""

    def __init__(self, replays: Replays, meter: Meter, sink: MemorySink) -> None:
        self._replays = replays
        self._meter = meter
        self._sink = sink
        self._handler = MeteringHandler("customer-42", meter=meter)
        self._outcomes: dict[str, Outcome] = {}
        self._calls = 0

    def model(self, interaction: Interaction) -> Any:
        """A model whose next call gets the recorded answer."""
        manager = CallbackManager([self._handler])
        return model_for(interaction, self._replays.url(interaction.name), callback_manager=manager)

    def once(self, interaction: Interaction) -> Outcome:
        """The outcome of a call for it, made when it is asked for first."""
        if interaction.name not in self._outcomes:
            self._outcomes[interaction.name] = self._call(interaction)
        return self._outcomes[interaction.name]

    def _call(self, interaction: Interaction) -> Outcome:
        model, name = self.model(interaction), self._new_name()
        answers: list[Any] = []
        way, asked = _way(interaction)
        with subject("customer-42", call=name):
            try:
                if interaction.is_stream:
                    answers.extend(getattr(model, f"stream_{way}")(asked))
                else:
                    answers.append(getattr(model, way)(asked))
            except Exception:
                assert self.event(name)["status"] == "failed"
        return Outcome(self.event(name), answers)

    async def acall(self, interaction: Interaction, model: Any = None) -> dict[str, Any]:
        """The same in an event loop; the data of its event."""
        model, name = model or self.model(interaction), self._new_name()
        way, asked = _way(interaction)
        with subject("customer-42", call=name):
            try:
                if interaction.is_stream:
                    async for _ in await getattr(model, f"astream_{way}")(asked):
                        await asyncio.sleep(0)
                else:
                    await getattr(model, f"a{way}")(asked)
            except Exception:
                assert self.event(name)["status"] == "failed"
        return self.event(name)

    def streams(self, interactions: Iterable[Interaction]) -> Iterator[tuple[str, Any]]:
        """Streams that are made and not yet read, each with the name of its call."""
        for interaction in interactions:
            name = self._new_name()
            way, asked = _way(interaction)
            with subject("customer-42", call=name):
                yield name, getattr(self.model(interaction), f"stream_{way}")(asked)

    def _new_name(self) -> str:
        self._calls += 1
        return f"call-{self._calls}"

    def event(self, name: str) -> dict[str, Any]:
        """The data of the one event of a call."""
        assert self._meter.flush()
        (event,) = (each for each in self._sink.events if each.data["call"] == name)
        return dict(event.data)


def _way(interaction: Interaction) -> tuple[str, Any]:
    return ("complete", PROMPT) if is_completion(interaction) else ("chat", messages(PROMPT))


def numbers_of(data: Mapping[str, Any]) -> dict[str, int]:
    """What we metered."""
    return {key: data.get(field, 0) for key, field in NUMBERS.items()}


def expected_of(interaction: Interaction) -> dict[str, int]:
    """What the provider reported."""
    assert interaction.expected is not None
    expected = {**interaction.expected, **CORRECTIONS.get(interaction.name, {})}
    return {key: expected[key] for key in NUMBERS}


def is_right(interaction: Interaction, totals: tuple[int, int] | None) -> bool:
    """Whether the tokens of input and output are those that the provider reported."""
    expected = expected_of(interaction)
    return totals == (expected["input_tokens_total"], expected["output_tokens_total"])


def reported_by_llamaindex(answers: list[Any]) -> tuple[int, int] | None:
    """The tokens of input and output that one finds in LlamaIndex's answer, or the pieces of one.

    Found as a kind reader would: in the last `raw` that has a usage, or beside it, whatever the
    provider calls them, and with what the provider counts beside them.
    """
    found = map(_usage_in, reversed(answers))
    return next((totals for totals in found if totals is not None), None)


def _usage_in(answer: Any) -> tuple[int, int] | None:
    raw = _fields(getattr(answer, "raw", None))
    places: Iterable[Any] = (
        raw.get("usage"),
        _fields(raw.get("response")).get("usage"),
        raw.get("usage_metadata"),
        _fields(raw.get("meta")).get("tokens"),
        getattr(answer, "additional_kwargs", None),
    )
    usage = next(filter(None, map(_fields, places)), {})
    used_in = next((usage[name] for name in _INPUT if name in usage), None)
    used_out = next((usage[name] for name in _OUTPUT if name in usage), None)
    if used_in is None or used_out is None:
        return None
    return (
        used_in + sum(usage.get(name) or 0 for name in _MORE_INPUT),
        used_out + sum(usage.get(name) or 0 for name in _MORE_OUTPUT),
    )


def _fields(value: Any) -> dict[str, Any]:
    if value is None or isinstance(value, dict):
        return value or {}
    return dict(value.model_dump() if hasattr(value, "model_dump") else vars(value))
