"""Ollama's own API, read from JSON and from objects such as its SDK's."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import BaseModel, create_model

from llm_metering.errors import InvalidUsageError, UnknownUsageError
from llm_metering.extract import ollama
from llm_metering.extract.views import as_mapping
from llm_metering.token_usage import TokenUsage
from tests.extract.native import (
    body_of,
    cases,
    counts_in,
    counts_of,
    expected_of,
    fed,
    numbers_of,
    reading_of,
    recorded,
)


class SubscriptableModel(BaseModel):
    """The objects of ollama 0.6.2 (`_types.py`): they can be asked like a dict, but are none."""

    def __getitem__(self, name: str) -> Any:
        return getattr(self, name)

    def __contains__(self, name: str) -> bool:
        return name in self.model_fields_set


class Message(SubscriptableModel):
    role: str = "assistant"
    content: str | None = None
    thinking: str | None = None
    tool_calls: Sequence[Any] | None = None


COUNTS = ("prompt_eval_count", "eval_count", "total_duration")
TEXTS = ("model", "created_at", "done_reason")
FIELDS = {
    "done": (bool | None, None),
    **dict.fromkeys(COUNTS, (int | None, None)),
    **dict.fromkeys(TEXTS, (str | None, None)),
}
Chat = create_model("Chat", __base__=SubscriptableModel, message=(Message, ...), **FIELDS)
Generate = create_model("Generate", __base__=SubscriptableModel, response=(str, ...), **FIELDS)
Embed = create_model("Embed", __base__=SubscriptableModel, embeddings=(list, ...), **FIELDS)
KINDS = {"message": Chat, "response": Generate, "embeddings": Embed}


def object_of(body):
    """What the SDK makes of a body; it knows nothing of cached tokens."""
    kind = next(KINDS[name] for name in KINDS if name in body)
    return kind.model_validate(body)


# --- what was recorded


@pytest.mark.parametrize("interaction", recorded("ollama", streamed=False))
def test_recorded_bodies(interaction):
    """A recorded answer gives its numbers, as JSON and as an object."""
    body = json.loads(interaction.text)

    reading = ollama.read(body)

    assert numbers_of(reading.usage) == expected_of(interaction)
    assert ollama.read(as_mapping(object_of(body))) == reading
    assert reading.created is not None
    assert ollama.output(body)


@pytest.mark.parametrize("interaction", recorded("ollama", streamed=True))
def test_recorded_streams(interaction):
    """A recorded stream gives its numbers, from JSON and from objects."""
    chunks = interaction.chunks
    objects = [object_of(each) for each in chunks]

    reading = reading_of(ollama, chunks)

    assert numbers_of(reading.usage) == expected_of(interaction)
    assert reading_of(ollama, objects) == reading
    assert reading.is_final
    assert fed(ollama, chunks).has_ended
    assert fed(ollama, objects).output() == fed(ollama, chunks).output()
    assert fed(ollama, chunks).output()


# --- our own bodies


@pytest.mark.parametrize("case", cases("ollama", streamed=False))
def test_bodies(case):
    """A body gives its counts, and an object what the SDK keeps of them."""
    body = case["body"]

    assert counts_of(ollama.read(body)) == counts_in(case)
    made = ollama.read(as_mapping(object_of(body)))
    assert made.usage.input_tokens == ollama.read(body).usage.input_tokens
    assert made.usage.output_tokens == ollama.read(body).usage.output_tokens


@pytest.mark.parametrize("case", cases("ollama", streamed=True))
def test_streams(case):
    """A stream gives the counts of its last chunk, from JSON and from objects."""
    objects = [object_of(each) for each in case["chunks"]]

    assert counts_of(reading_of(ollama, case["chunks"])) == counts_in(case)
    assert reading_of(ollama, objects) == reading_of(ollama, case["chunks"])
    assert fed(ollama, objects).output().texts == ["Blue."]


def test_nanoseconds():
    """Ollama writes its times to the nanosecond."""
    reading = ollama.read(body_of("ollama", "plain"))

    assert reading.created == datetime(2026, 11, 21, 20, 19, 0, 123456, tzinfo=UTC)


# --- streams that break off


@pytest.mark.parametrize("case_name", ["streamed", "streamed, generate"])
def test_a_stream_cut_before_its_end(case_name):
    """Before its last chunk a stream has no usage, only text."""
    stream = fed(ollama, body_of("ollama", case_name)[:-1])
    reading = ollama.read(stream.body())

    assert reading.usage is None
    assert not reading.flags
    assert reading.model == "smollm2:135m"
    assert not stream.is_final
    assert not stream.has_ended
    assert stream.output().texts == ["Blue."]


def test_an_end_without_counts():
    """Loading a model ends without counts: that is no usage of 0."""
    stream = fed(ollama, [{"model": "m", "response": "", "done": True, "done_reason": "load"}])

    assert stream.has_ended
    assert not stream.is_final
    assert ollama.read(stream.body()).usage is None


# --- what is absent


@pytest.mark.parametrize(
    ("counts", "usage"),
    [
        pytest.param({"eval_count": 20}, TokenUsage(output_tokens=20), id="cached prompt"),
        pytest.param({"prompt_eval_count": 80}, TokenUsage(input_tokens=80), id="no answer"),
        pytest.param(
            {"prompt_eval_cached_count": 64},
            TokenUsage(cache_read_input_tokens=64),
            id="cached alone",
        ),
        pytest.param(
            {"prompt_eval_count": None, "eval_count": 20}, TokenUsage(output_tokens=20), id="null"
        ),
        pytest.param(
            {"prompt_eval_count": 0, "eval_count": 20},
            TokenUsage(input_tokens=0, output_tokens=20),
            id="an explicit zero",
        ),
    ],
)
def test_a_missing_count_is_no_zero(counts, usage):
    """A count that was left out is not known; there is no total then."""
    assert ollama.read({"message": {}, "done": True, **counts}).usage == usage


# --- odd numbers


@pytest.mark.parametrize(
    "count",
    [
        pytest.param("80", id="text"),
        pytest.param(True, id="bool"),
        pytest.param(80.5, id="float"),
        pytest.param(-1, id="negative"),
        pytest.param(10**12, id="too large"),
    ],
)
def test_no_counts(count):
    """What is no count is refused, and the answer flagged."""
    with pytest.raises(InvalidUsageError):
        ollama.extract_usage({"prompt_eval_count": count})

    reading = ollama.read({"message": {}, "done": True, "prompt_eval_count": count})
    assert reading.usage is None
    assert reading.flags == ("invalid_usage",)


def test_contradictory_numbers_are_kept():
    """More cached tokens than there are in the prompt are kept as they came."""
    usage = ollama.extract_usage({"prompt_eval_count": 8, "prompt_eval_cached_count": 9})

    assert usage.cache_read_input_tokens == 9
    assert not usage.is_consistent


def test_other_shapes():
    """A usage without any of the counts is refused."""
    with pytest.raises(UnknownUsageError):
        ollama.extract_usage({"total_duration": 3, "eval_count": None})


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({}, id="empty"),
        pytest.param({"done": True}, id="an end of something"),
        pytest.param({"embeddings": [[0.5]], "model": "m"}, id="embeddings of someone"),
        pytest.param({"embeddings": [[0.5]], "total_duration": 1}, id="embeddings of no model"),
        pytest.param({"model": "m", "total_duration": 1}, id="no embeddings"),
        pytest.param({"message": {}, "finish_reason": "COMPLETE"}, id="Cohere's answer"),
        pytest.param({"response": {}, "event_type": "stream-end"}, id="Cohere's event"),
    ],
)
def test_other_bodies(body):
    """What is no answer of Ollama is left to other modules."""
    assert ollama.read(body) is None
    assert not ollama.matches_chunk(body)
    assert not fed(ollama, [body]).body()


def test_output_by_kind():
    """Visible text, shown thinking and tool calls are kept apart."""
    call = {"function": {"name": "paint", "arguments": {"colour": "blue"}}}
    message = {"content": "Blue.", "thinking": "Hm.", "tool_calls": [call, call]}

    output = ollama.output({"message": message, "done": True})

    assert (output.texts, output.reasoning) == (["Blue."], ["Hm."])
    assert output.tool_calls == [("paint", '{"colour":"blue"}')] * 2
