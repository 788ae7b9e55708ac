"""LangChain may tell of one call several times: it is billed once, by the provider's books.

langchain-core 1.7.2 concatenates the handlers of `with_config` and of the call
(`runnables/config.py`, `merge_configs`), does not look for duplicates in a list
(`callbacks/manager.py`, `_configure`), and so tells one handler twice of the outermost run.
"""

from __future__ import annotations

import asyncio
from collections import Counter

import openai
import pytest
from langchain_core.runnables import RunnableLambda
from langchain_openai import OpenAI

import llm_metering
from llm_metering import Meter
from llm_metering.langchain import MeteringHandler
from llm_metering.sinks.memory import MemorySink

from .asking import gpt
from .bill_lines import asked, billed, booked

PROMPT = asked("acme")


def invoke(model, config):
    model.invoke(PROMPT, config)


def ainvoke(model, config):
    asyncio.run(model.ainvoke(PROMPT, config))


def stream(model, config):
    list(model.stream(PROMPT, config))


def astream(model, config):
    async def main():
        return [chunk async for chunk in model.astream(PROMPT, config)]

    asyncio.run(main())


def batch(model, config):
    model.batch([PROMPT, asked("acme", "and")], config)


def abatch(model, config):
    asyncio.run(model.abatch([PROMPT, asked("acme", "and")], config))


WAYS = [invoke, ainvoke, stream, astream, batch, abatch]
every_way = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)


def in_a_list(way, model, one, two):
    way(model, {"callbacks": [one, two]})


def configured_and_called(way, model, one, two):
    way(model.with_config(callbacks=[one]), {"callbacks": [two]})


def constructed_and_called(way, model, one, two):
    way(model.model_copy(update={"callbacks": [one]}), {"callbacks": [two]})


def in_a_chain(way, model, one, two):
    chain = RunnableLambda(lambda x: x) | model.with_config(callbacks=[one])
    way(chain, {"callbacks": [two]})


def in_a_chain_thrice(way, model, one, two):
    chain = RunnableLambda(lambda x: x) | model.model_copy(update={"callbacks": [one, two]})
    way(chain.with_config(callbacks=[two]), {"callbacks": [one, one]})


DOUBLES = [
    in_a_list,
    configured_and_called,
    constructed_and_called,
    in_a_chain,
    in_a_chain_thrice,
]


def is_at_rest(meter):
    """Nothing was odd, nothing failed, nothing is left open."""
    status = meter.statistics()
    odd = (status["ignored_signals"], status["failures"], status["open_calls"])
    return odd == ({}, 0, 0)


@every_way
@pytest.mark.parametrize("double", DOUBLES, ids=lambda double: double.__name__)
@pytest.mark.parametrize("is_same", [True, False], ids=["one handler", "two handlers"])
@pytest.mark.parametrize("installed", [False, True], ids=["alone", "beside install"])
def test_told_twice_billed_once(
    way, double, is_same, installed, provider, default_meter, events_of
):
    """Same handler twice, two handlers, a global one beside them: the books are the provider's."""
    if installed:
        llm_metering.install()
    one = MeteringHandler("acme")

    double(way, gpt(provider), one, one if is_same else MeteringHandler("acme"))

    events = events_of(default_meter)
    assert billed(events) == booked(provider)
    assert len(events) == (2 if "batch" in way.__name__ else 1)
    assert is_at_rest(default_meter)


@pytest.mark.parametrize("double", DOUBLES, ids=lambda double: double.__name__)
@pytest.mark.parametrize("way", [stream, astream], ids=lambda way: way.__name__)
def test_a_stream_without_usage_that_is_told_twice(way, double, provider, meter, events_of):
    """Its pieces are told twice, too: the text that is counted is that of the answer, once."""
    handler = MeteringHandler("acme", meter=meter)
    model = gpt(provider, stream_usage=False)

    double(way, model, handler, handler)
    way(model, {"callbacks": [handler]})

    twice, once = events_of(meter)
    assert twice.data["provenance"] == once.data["provenance"] == "estimated"
    # The provider's answers differ by a word or two, never by a factor.
    assert 0.6 < twice.data["output_tokens"] / once.data["output_tokens"] < 1.7
    assert is_at_rest(meter)


@pytest.mark.parametrize("double", DOUBLES, ids=lambda double: double.__name__)
@pytest.mark.parametrize("way", [invoke, ainvoke], ids=lambda way: way.__name__)
def test_a_broken_answer_that_is_told_twice(way, double, provider, meter, events_of):
    """Of a stream that `invoke` reads and that breaks off, the pieces are all there is: once each.

    LangChain hands over none of them with the error (`_generate_response_from_error`).
    """
    handler = MeteringHandler("acme", meter=meter)
    model = gpt(provider, "gpt-x+pieces20+die15", streaming=True)

    for tell in (double, lambda way, model, one, _: way(model, {"callbacks": [one]})):
        with pytest.raises(Exception, match=r"closed|incomplete|Connection"):
            tell(way, model, handler, handler)

    twice, once = events_of(meter)
    assert twice.data["provenance"] == once.data["provenance"] == "estimated"
    assert 0.6 < twice.data["output_tokens"] / once.data["output_tokens"] < 1.7


@pytest.mark.parametrize("way", WAYS[:4], ids=lambda way: way.__name__)
@pytest.mark.parametrize("double", DOUBLES, ids=lambda double: double.__name__)
def test_a_refusal_that_is_told_twice_is_one(way, double, provider, meter, events_of):
    """An error is delivered as often as the start was, and counted once a call."""
    handler = MeteringHandler("acme", meter=meter)

    with pytest.raises(openai.RateLimitError):
        double(way, gpt(provider, "gpt-x+refuse429"), handler, handler)

    assert events_of(meter) == []
    assert meter.statistics()["refused_calls"] == len(provider.entries) == 1
    assert is_at_rest(meter)


@pytest.mark.parametrize("double", DOUBLES, ids=lambda double: double.__name__)
@pytest.mark.parametrize("installed", [False, True], ids=["alone", "beside install"])
def test_a_completion_model_that_is_told_of_twice(
    double, installed, provider, default_meter, events_of
):
    """`on_llm_start` gives each run a list of its own; the string in it is the one thing shared."""
    if installed:
        llm_metering.install()
    llm = OpenAI(model="gpt-x", base_url=provider.openai_url, api_key="x", max_retries=0)
    handler = MeteringHandler("acme")

    double(invoke, llm, handler, handler)

    assert billed(events_of(default_meter)) == booked(provider)
    assert is_at_rest(default_meter)


@every_way
def test_two_meters_have_the_same_call(way, provider, home, tmp_path):
    """Each meter has each call once, under the id that the other has it under."""
    one, two = MemorySink(), MemorySink()
    with Meter(home=home, sinks=[one]) as first, Meter(home=tmp_path / "2", sinks=[two]) as second:
        handlers = [MeteringHandler("acme", meter=meter) for meter in (first, second, first)]
        way(gpt(provider), {"callbacks": handlers})

    assert billed(one.events) == billed(two.events) == booked(provider)
    assert {event.id for event in one.events} == {event.id for event in two.events}


def test_one_handler_on_every_level_of_a_chain(provider, meter, events_of):
    """Outer chain, inner chain, model and call all have it: one event for each model call."""
    handler = MeteringHandler("acme", meter=meter)
    model = gpt(provider).model_copy(update={"callbacks": [handler]})
    inner = (RunnableLambda(lambda x: x) | model).with_config(callbacks=[handler])

    def ask_twice(prompt, config):
        inner.invoke(prompt, config)
        return inner.invoke(prompt, {"callbacks": [handler]})

    chain = RunnableLambda(ask_twice).with_config(callbacks=[handler])
    chain.invoke(PROMPT, {"callbacks": [handler]})

    events = events_of(meter)
    assert billed(events) == booked(provider)
    assert Counter(event.subject for event in events) == {"acme": 2}
    assert is_at_rest(meter)
