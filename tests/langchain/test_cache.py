"""Answers that no provider was asked for: LangChain's cache, and what only looks like one."""

from __future__ import annotations

import asyncio

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models.fake import FakeListLLM
from langchain_core.language_models.fake_chat_models import FakeMessagesListChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import Generation
from msgspec.structs import replace

from llm_metering.calls.repeats import REMEMBERED, Answers
from llm_metering.langchain import MeteringHandler
from tests.langchain.scripted import Scripted, usage
from tests.langchain.test_streams import at_the_end, counts_of, summary
from tests.metering import REPORT

HIT = ("cached", "reported", [])


def invoke(llm, config):
    return llm.invoke("x", config)


def ainvoke(llm, config):
    return asyncio.run(llm.ainvoke("x", config))


def streamed(llm, config):
    return llm.invoke("x", config, stream=True)


both = pytest.mark.parametrize("way", [invoke, ainvoke], ids=lambda way: way.__name__)


@pytest.mark.parametrize("way", [invoke, ainvoke, streamed], ids=lambda way: way.__name__)
@pytest.mark.parametrize(
    "used", [usage(100, 20), None], ids=["with usage", "the mark is all there is"]
)
def test_a_hit_costs_nothing(way, used, meter, events_of):
    """LangChain hands over the usage of the call that filled the cache, and marks it; or the mark alone."""
    llm = Scripted(
        script=at_the_end, answer=lambda: AIMessage("a", usage_metadata=used), cache=InMemoryCache()
    )
    config = {"callbacks": [MeteringHandler("acme", meter=meter)]}

    first, second = way(llm, config), way(llm, config)

    assert second.usage_metadata["total_cost"] == 0
    assert first.content == second.content
    # What we count ourselves is recorded a little later.
    hit, miss = sorted(events_of(meter), key=lambda event: event.data["status"])
    assert summary(hit) == HIT
    assert counts_of(hit) == (0, 0)
    assert miss.data["status"] == "completed"
    assert miss.data["total_tokens"] > 0


class Keeper(BaseCallbackHandler):
    """A handler of somebody else's that looks at the results later."""

    def __init__(self):
        self.results = []

    def on_llm_end(self, response, **kwargs):
        self.results.append(response)


@both
def test_a_hit_changes_the_result_of_the_call_before(way, meter, events_of):
    """LangChain marks the very message that the first call's handlers got; our numbers are copies."""
    cache, keeper = InMemoryCache(), Keeper()
    llm = Scripted(answer=lambda: AIMessage("a", usage_metadata=usage(100, 20)), cache=cache)
    config = {"callbacks": [keeper, MeteringHandler("acme", meter=meter)]}

    way(llm, config)
    way(llm, config)

    (generation,) = keeper.results[0].generations[0]
    assert generation.message.usage_metadata["total_cost"] == 0
    miss, hit = events_of(meter)
    assert (counts_of(miss), summary(miss)) == ((100, 20), ("completed", "reported", []))
    assert summary(hit) == HIT


@both
def test_a_hit_from_an_entry_that_holds_text_alone(way, meter, events_of):
    """Caches that keep plain `Generation`s lose the usage and the mark; such a hit has no id either."""
    cache = InMemoryCache()
    llm = Scripted(answer=lambda: AIMessage("a", usage_metadata=usage(100, 20)), cache=cache)
    config = {"callbacks": [MeteringHandler("acme", meter=meter)]}

    way(llm, config)
    for key in cache._cache:
        cache._cache[key] = [Generation(text="a")]
    way(llm, config)

    miss, hit = events_of(meter)
    assert counts_of(miss) == (100, 20)
    assert summary(hit) == ("cached", "reported", ["unmarked_cache_hit"])
    assert counts_of(hit) == (0, 0)


@both
def test_an_answer_without_anything_is_no_hit(way, meter, events_of):
    """A model that reports nothing was asked all the same: LangChain gives its message an id."""
    llm = Scripted(answer=lambda: AIMessage("a"))

    way(llm, {"callbacks": [MeteringHandler("acme", meter=meter)]})

    (event,) = events_of(meter)
    assert summary(event) == ("completed", "estimated", [])


@pytest.mark.parametrize("is_async", [False, True], ids=["stream", "astream"])
def test_a_stream_never_asks_the_cache(is_async, meter, events_of):
    """Two streams of one prompt are two calls of the provider, with a cache as well."""
    llm = Scripted(script=at_the_end, cache=InMemoryCache())
    config = {"callbacks": [MeteringHandler("acme", meter=meter)]}

    async def consume():
        return [each async for each in llm.astream("x", config)]

    for _ in range(2):
        if is_async:
            asyncio.run(consume())
        else:
            list(llm.stream("x", config))

    assert [counts_of(event) for event in events_of(meter)] == [(100, 20)] * 2
    assert {event.data["status"] for event in events_of(meter)} == {"completed"}


@both
def test_a_hit_of_a_completion_model_is_not_told(way, meter, events_of):
    """LangChain calls no hook for it: there is one event, that of the call that filled the cache."""
    llm = FakeListLLM(responses=["a", "b"], cache=InMemoryCache())
    config = {"callbacks": [MeteringHandler("acme", meter=meter)]}

    assert [way(llm, config), way(llm, config)] == ["a", "a"]

    (event,) = events_of(meter)
    assert event.data["status"] == "completed"


@pytest.mark.parametrize("response_id", ["chatcmpl-7", None], ids=["an id", "no id"])
@both
def test_a_model_that_returns_one_object_for_ever_is_no_cache(way, response_id, meter, events_of):
    """The second message has the first run's id, and is billed: what looks like a hit proves none."""
    metadata = {} if response_id is None else {"id": response_id}
    message = AIMessage("a", usage_metadata=usage(100, 20), response_metadata=metadata)
    llm = FakeMessagesListChatModel(responses=[message])
    config = {"callbacks": [MeteringHandler("acme", meter=meter)]}

    assert way(llm, config).id == way(llm, config).id

    first, second = events_of(meter)
    assert counts_of(first) == counts_of(second) == (100, 20)
    assert summary(first) == ("completed", "reported", [])
    expected = [] if response_id is None else ["repeated_answer"]
    assert summary(second) == ("completed", "reported", expected)


def test_an_id_that_is_given_again_is_no_repetition(meter, events_of):
    """Ollama draws its ids from a few; another answer under the same id is another answer."""
    answers = iter([usage(100, 20), usage(100, 21)])
    llm = Scripted(
        answer=lambda: AIMessage(
            "a", usage_metadata=next(answers), response_metadata={"id": "chatcmpl-7"}
        )
    )

    for _ in range(2):
        llm.invoke("x", {"callbacks": [MeteringHandler("acme", meter=meter)]})

    assert [summary(event) for event in events_of(meter)] == [("completed", "reported", [])] * 2


@pytest.mark.parametrize(
    "cost", [pytest.param(True, id="a truth value"), pytest.param("0", id="a text"), 0.02, None]
)
def test_only_a_cost_of_nothing_marks_a_hit(cost, meter, events_of):
    """Whatever else an integration puts there."""

    def answer():
        message = AIMessage("a")
        message.usage_metadata = usage(100, 20, total_cost=cost)
        return message

    Scripted(answer=answer).invoke("x", {"callbacks": [MeteringHandler("acme", meter=meter)]})

    (event,) = events_of(meter)
    assert (counts_of(event), event.data["status"]) == ((100, 20), "completed")


def test_two_handlers_of_one_call_see_one_answer(meter, events_of):
    """The second delivery of an end is no repetition."""
    llm = Scripted(
        answer=lambda: AIMessage(
            "a", usage_metadata=usage(100, 20), response_metadata={"id": "chatcmpl-8"}
        )
    )

    llm.invoke("x", {"callbacks": [MeteringHandler("acme", meter=meter) for _ in range(2)]})

    (event,) = events_of(meter)
    assert summary(event) == ("completed", "reported", [])


def test_what_is_remembered_is_bounded():
    """An old answer is forgotten for a new one; however often an end is told, it is remembered once."""
    answers = Answers()
    for number in range(REMEMBERED + 1):
        for _ in range(2):
            report = replace(REPORT, response_id=str(number))
            assert not answers.is_repeated(f"run-{number}", report)

    assert answers.is_repeated("another", replace(REPORT, response_id="1"))
    assert not answers.is_repeated("another", replace(REPORT, response_id="0"))
    assert len(answers._calls) == len(answers._order) == REMEMBERED
