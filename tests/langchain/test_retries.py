"""Retries, fallbacks and reused run ids: each answer that the provider gave is billed once.

LangChain makes a new run of each attempt (`runnables/retry.py`, `runnables/fallbacks.py`), LangGraph
runs a node again, and the SDKs retry within one run.
"""

from __future__ import annotations

import asyncio
from uuid import uuid4

import openai
import pytest
from langchain_anthropic import ChatAnthropic
from langchain_core.runnables import RunnableLambda

from llm_metering import subject
from llm_metering.langchain import MeteringHandler

from .asking import gpt
from .bill_lines import asked, billed, booked


def invoke(runnable, prompt, config):
    return runnable.invoke(prompt, config)


def ainvoke(runnable, prompt, config):
    return asyncio.run(runnable.ainvoke(prompt, config))


both_ways = pytest.mark.parametrize("way", [invoke, ainvoke], ids=["sync", "async"])


class Picky:
    """A parser that does not like the first answers."""

    def __init__(self, failures=1):
        self.left = failures

    def __call__(self, message):
        if self.left:
            self.left -= 1
            raise ValueError("not this one")
        return message


@both_ways
def test_an_attempt_that_was_refused_costs_nothing(way, provider, meter, events_of):
    """`with_retry`: the refused attempt is a run of its own, and no event."""
    model = gpt(provider, "gpt-x+429once").with_retry(wait_exponential_jitter=False)

    way(model, asked("acme"), {"callbacks": [MeteringHandler("acme", meter=meter)]})

    assert [entry.status for entry in provider.entries] == [429, 200]
    assert billed(events_of(meter)) == booked(provider)
    assert meter.statistics()["refused_calls"] == 1


@both_ways
def test_each_answered_attempt_is_billed(way, provider, meter, events_of):
    """`with_retry` around a parser: the provider answered three times, and was paid three times."""
    chain = (gpt(provider) | RunnableLambda(Picky(2))).with_retry(
        wait_exponential_jitter=False, stop_after_attempt=3
    )

    way(chain, asked("acme"), {"callbacks": [MeteringHandler("acme", meter=meter)]})

    events = events_of(meter)
    assert billed(events) == booked(provider)
    assert len(events) == len({event.data["run_id"] for event in events}) == 3


@both_ways
def test_a_fallback_is_billed_under_its_own_model(way, provider, meter, events_of):
    """`with_fallbacks`: the refused model makes no event, the one that answered does."""
    model = gpt(provider, "gpt-x+refuse429").with_fallbacks(
        [gpt(provider, "gpt-y+refuse400"), gpt(provider, "gpt-z")]
    )

    way(model, asked("acme"), {"callbacks": [MeteringHandler("acme", meter=meter)]})

    (event,) = events_of(meter)
    assert event.data["request_model"] == "gpt-z"
    assert billed([event]) == booked(provider)
    assert meter.statistics()["refused_calls"] == 2


@both_ways
def test_a_fallback_after_an_answer_is_billed_with_it(way, provider, meter, events_of):
    """The first model answered, and what came after it failed: both models were paid."""
    chain = (gpt(provider, "gpt-x") | RunnableLambda(Picky())).with_fallbacks(
        [gpt(provider, "gpt-y")]
    )

    way(chain, asked("acme"), {"callbacks": [MeteringHandler("acme", meter=meter)]})

    events = events_of(meter)
    assert billed(events) == booked(provider)
    assert sorted(event.data["request_model"] for event in events) == ["gpt-x", "gpt-y"]


@pytest.mark.needs("langgraph_1")
@both_ways
def test_a_node_that_runs_again_is_billed_again(way, provider, meter, events_of):
    """LangGraph's RetryPolicy runs the whole node again; both model calls keep their subject."""
    from langgraph.graph import END, START, MessagesState, StateGraph
    from langgraph.types import RetryPolicy

    model, picky = gpt(provider), Picky()

    def node(state):
        return {"messages": [picky(model.invoke(state["messages"]))]}

    graph = StateGraph(MessagesState)
    policy = RetryPolicy(max_attempts=2, initial_interval=0.001, retry_on=ValueError)
    graph.add_node("node", node, retry_policy=policy)
    graph.add_edge(START, "node")
    graph.add_edge("node", END)

    config = {
        "callbacks": [MeteringHandler(meter=meter)],
        "metadata": {"llm_metering_subject": "acme"},
    }
    way(graph.compile(), {"messages": [("user", asked("acme"))]}, config)

    events = events_of(meter)
    assert billed(events) == booked(provider)
    assert len(events) == len({event.data["run_id"] for event in events}) == 2


def anthropic_of(provider, model):
    return ChatAnthropic(model=model, base_url=provider.url, api_key="x", max_retries=2)


def openai_of(provider, model):
    return gpt(provider, model, max_retries=2)


@pytest.mark.parametrize(
    ("make", "model"),
    [(openai_of, "gpt-x+429once"), (anthropic_of, "claude-x+429once")],
    ids=["openai", "anthropic"],
)
@pytest.mark.parametrize("streams", [False, True], ids=["at once", "streamed"])
def test_what_an_sdk_retries_is_one_run_and_one_event(
    make, model, streams, provider, meter, events_of
):
    """The SDK hides the refusal: one run, one answer, one event, and nothing counted as refused."""
    config = {"callbacks": [MeteringHandler("acme", meter=meter)]}

    llm = make(provider, model)
    if streams:
        list(llm.stream(asked("acme"), config))
    else:
        llm.invoke(asked("acme"), config)

    assert [entry.status for entry in provider.entries] == [429, 200]
    assert billed(events_of(meter)) == booked(provider)
    assert meter.statistics()["refused_calls"] == 0


@both_ways
def test_an_sdk_that_gives_up_is_one_refusal(way, provider, meter, events_of):
    """Three requests, three refusals, one run: nothing to bill, one refused call."""
    model = gpt(provider, "gpt-x+refuse429", max_retries=2)

    with pytest.raises(openai.RateLimitError):
        way(model, asked("acme"), {"callbacks": [MeteringHandler("acme", meter=meter)]})

    assert [entry.status for entry in provider.entries] == [429] * 3
    assert events_of(meter) == []
    assert meter.statistics()["refused_calls"] == 1


@both_ways
def test_a_run_id_that_is_used_again_is_another_call(way, provider, meter, events_of):
    """On a bare model `config["run_id"]` is the run's id, as often as it is given: two calls."""
    run_id = uuid4()
    config = {"callbacks": [MeteringHandler("acme", meter=meter)], "run_id": run_id}

    for _ in range(2):
        way(gpt(provider), asked("acme"), config)

    events = events_of(meter)
    assert billed(events) == booked(provider)
    assert [event.data["run_id"] for event in events] == [str(run_id)] * 2
    assert len({event.id for event in events}) == 2
    assert meter.statistics()["ignored_signals"] == {}


def test_a_failed_run_id_that_is_used_again(provider, meter, events_of):
    """A retry by hand with the same run id: the refused call is over, the next one is billed."""
    config = {"callbacks": [MeteringHandler("acme", meter=meter)], "run_id": uuid4()}
    model = gpt(provider, "gpt-x+429once")

    with pytest.raises(openai.RateLimitError):
        model.invoke(asked("acme"), config)
    model.invoke(asked("acme"), config)

    assert billed(events_of(meter)) == booked(provider)


@pytest.mark.filterwarnings("ignore:Provided run_id be used only for the first element")
@pytest.mark.parametrize("is_async", [False, True], ids=["batch", "abatch"])
def test_a_batch_with_a_run_id(is_async, provider, meter, events_of):
    """The first of a batch gets the run id, the others ids of their own: three calls."""
    run_id = uuid4()
    config = {"callbacks": [MeteringHandler("acme", meter=meter)], "run_id": run_id}
    prompts, model = [asked("acme", text) for text in ("a", "b", "c")], gpt(provider)

    if is_async:
        asyncio.run(model.abatch(prompts, config))
    else:
        model.batch(prompts, config)

    events = events_of(meter)
    assert billed(events) == booked(provider)
    run_ids = [event.data["run_id"] for event in events]
    assert len(set(run_ids)) == 3
    assert run_ids.count(str(run_id)) == 1


@both_ways
def test_retries_stay_in_their_scope(way, provider, meter, events_of):
    """Each attempt is on the bill of the scope that the first was made in."""
    chain = (gpt(provider) | RunnableLambda(Picky())).with_retry(wait_exponential_jitter=False)

    with subject("scoped"):
        way(chain, asked("scoped"), {"callbacks": [MeteringHandler(meter=meter)]})

    assert billed(events_of(meter)) == booked(provider)
    assert len(provider.entries) == 2
