"""Calls that are begun together: one request for all prompts, or one each of which one fails."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import openai
import pytest
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.language_models.llms import BaseLLM
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult, Generation, LLMResult

from llm_metering import subject
from llm_metering.langchain import MeteringHandler
from llm_metering.langchain.batches import _batches
from tests.langchain.scripted import usage
from tests.langchain.test_errors import REFUSAL, http
from tests.langchain.test_streams import counts_of, summary

PROMPTS = ["one", "two", "three"]
USED = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}


class Completions(BaseLLM):
    """A completion model that sends all prompts in one request, or one by one.

    Attributes:
        used: The usage of the request; without one each generation has its own.
        error: What it raises.
    """

    used: Any = USED
    error: Any = None

    @property
    def _llm_type(self):
        return "completions"

    def _generate(self, prompts, stop=None, run_manager=None, **kwargs):
        if self.error is not None:
            raise self.error
        if self.used is None:
            info = {"usage_metadata": usage(100, 20)}
            generations = [[Generation(text=each, generation_info=info)] for each in prompts]
            return LLMResult(generations=generations)
        output = {"token_usage": self.used, "model_name": "served"}
        generations = [[Generation(text=each)] for each in prompts]
        return LLMResult(generations=generations, llm_output=output)


def generate(llm, config):
    return llm.generate(PROMPTS, callbacks=config["callbacks"])


def agenerate(llm, config):
    return asyncio.run(llm.agenerate(PROMPTS, callbacks=config["callbacks"]))


def batch(llm, config):
    return llm.batch(PROMPTS, config)


def abatch(llm, config):
    return asyncio.run(llm.abatch(PROMPTS, config))


every_way = pytest.mark.parametrize(
    "way", [generate, agenerate, batch, abatch], ids=lambda way: way.__name__
)


@every_way
@pytest.mark.parametrize("handlers", [1, 2])
def test_one_request_is_one_event(way, handlers, meter, events_of):
    """LangChain makes a run of each prompt and gives the usage to the first; nothing is estimated."""
    config = {"callbacks": [MeteringHandler("acme", meter=meter) for _ in range(handlers)]}

    way(Completions(), config)

    (event,) = events_of(meter)
    assert counts_of(event) == (100, 20)
    assert summary(event) == ("completed", "reported", [])
    assert (event.data["batch_size"], event.data["calls"]) == (3, 1)
    assert meter.statistics()["ignored_signals"] == {"in_one_request": 2}
    assert meter.statistics()["open_calls"] == 0


def test_a_batch_in_several_requests_is_several_events(meter, events_of):
    """`max_concurrency` makes batches of a batch, each a request."""
    config = {"callbacks": [MeteringHandler("acme", meter=meter)], "max_concurrency": 2}

    Completions().batch(PROMPTS, config)

    events = events_of(meter)
    assert [counts_of(event) for event in events] == [(100, 20)] * 2
    assert [event.data.get("batch_size") for event in events] == [2, None]


def test_the_first_subject_pays_for_a_shared_request(meter, events_of):
    """One request, one usage, two customers: it cannot be divided, so the event says so."""
    handler = MeteringHandler(meter=meter)
    configs = [{"callbacks": [handler], "metadata": {"subject": name}} for name in ("a", "b", "a")]

    Completions().batch(PROMPTS, configs)

    (event,) = events_of(meter)
    assert event.subject == "a"
    assert summary(event) == ("completed", "reported", ["shared_request"])
    assert event.data["batch_size"] == 3


def test_a_batch_of_which_we_are_told_in_part(meter, events_of):
    """Runs that another handler sees alone may be another one's to pay."""
    ours = {"callbacks": [MeteringHandler("acme", meter=meter)]}

    Completions().batch(PROMPTS, [ours, {}, {}])

    (event,) = events_of(meter)
    assert counts_of(event) == (100, 20)
    assert event.data["flags"] == ["shared_request"]


def test_the_run_with_the_usage_is_not_told_of(meter, events_of):
    """We see no usage of ours, and count: nothing is left out because another run would have it."""
    ours = {"callbacks": [MeteringHandler("acme", meter=meter)]}

    Completions().batch(PROMPTS, [{}, ours, ours])

    events = events_of(meter)
    assert [event.data["provenance"] for event in events] == ["estimated"] * 2


@every_way
def test_a_request_each_is_an_event_each(way, meter, events_of):
    """Models of Google and Ollama send prompts one by one, and each generation has its usage."""
    way(Completions(used=None), {"callbacks": [MeteringHandler("acme", meter=meter)]})

    events = events_of(meter)
    assert [counts_of(event) for event in events] == [(100, 20)] * 3
    assert not [event for event in events if "batch_size" in event.data]


@every_way
def test_a_request_that_reports_nothing_is_counted(way, meter, events_of):
    """Without a usage each prompt is counted by itself, with its own answer."""
    way(Completions(used={}), {"callbacks": [MeteringHandler("acme", meter=meter)]})

    events = events_of(meter)
    assert [summary(event) for event in events] == [("completed", "estimated", [])] * 3


@every_way
def test_one_request_that_is_refused_is_one_refusal(way, meter, events_of):
    """All runs get the same error."""
    error = openai.RateLimitError("no", response=http(429, REFUSAL), body=REFUSAL)

    with pytest.raises(openai.RateLimitError):
        way(Completions(error=error), {"callbacks": [MeteringHandler("acme", meter=meter)]})

    assert events_of(meter) == []
    assert meter.statistics()["refused_calls"] == 1
    assert meter.statistics()["open_calls"] == 0


@every_way
def test_one_request_that_fails_is_one_event(way, meter, events_of):
    """Whether it cost something nobody knows, and it did so once at most."""
    with pytest.raises(ConnectionError):
        way(
            Completions(error=ConnectionError()),
            {"callbacks": [MeteringHandler("acme", meter=meter)]},
        )

    (event,) = events_of(meter)
    assert summary(event) == ("failed", "missing", [])
    assert event.data["batch_size"] == 3


def test_a_batch_is_forgotten_with_its_calls(meter):
    """What the runs of a batch have in common is kept until the next sweep at most."""
    Completions().batch(PROMPTS, {"callbacks": [MeteringHandler("acme", meter=meter)]})
    meter.calls.sweep()

    assert not _batches


class Answers(BaseChatModel):
    """A chat model that answers each prompt, but for those that are exceptions' names."""

    @property
    def _llm_type(self):
        return "answers"

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        text = messages[-1].content
        if text == "bad":
            raise ConnectionError
        if text == "cancelled":
            raise asyncio.CancelledError
        message = AIMessage(text, usage_metadata=usage(100, 20))
        return ChatResult(generations=[ChatGeneration(message=message)])

    async def _agenerate(self, *args, **kwargs):
        return self._generate(*args, **kwargs)


def asked(*texts):
    return [[HumanMessage(text)] for text in texts]


def test_an_answer_that_a_failing_sibling_takes_along(meter, events_of):
    """A sync `generate` tells of the error alone: the answer before it was paid for, the next never asked for."""
    handler = MeteringHandler("acme", meter=meter)

    with pytest.raises(ConnectionError):
        Answers().generate(asked("ok", "bad", "ok2"), callbacks=[handler])

    answered, failed = sorted(events_of(meter), key=lambda event: "flags" not in event.data)
    assert summary(answered) == ("failed", "missing", ["sibling_failed"])
    assert summary(failed) == ("failed", "missing", [])
    assert meter.statistics()["ignored_signals"] == {"never_sent": 1}
    assert meter.statistics()["open_calls"] == 0


def test_answers_beside_a_failing_sibling_of_an_async_generate(meter, events_of):
    """There all are asked for at once, and LangChain tells of those that were answered."""
    handler = MeteringHandler("acme", meter=meter)

    with pytest.raises(ConnectionError):
        asyncio.run(Answers().agenerate(asked("ok", "bad", "ok2"), callbacks=[handler]))

    events = events_of(meter)
    assert sorted(summary(event)[:2] for event in events) == [
        ("completed", "reported"),
        ("completed", "reported"),
        ("failed", "missing"),
    ]


@pytest.mark.filterwarnings("ignore:coroutine 'AsyncCallbackManagerForLLMRun:RuntimeWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_siblings_of_a_cancelled_call(meter, events_of):
    """LangChain stumbles over a child's cancellation, and tells of no answer: none is lost silently."""
    handler = MeteringHandler("acme", meter=meter)

    # `agenerate` takes a CancelledError for a result (langchain-core 1.7.2, `chat_models.py`).
    with pytest.raises((AttributeError, asyncio.CancelledError)):
        asyncio.run(Answers().agenerate(asked("ok", "cancelled", "ok2"), callbacks=[handler]))
    meter.calls.settle_decided()

    # What it never awaited is told of as it is collected: here, and in no other test.
    gc.collect()

    events = events_of(meter)
    assert len(events) == 3
    assert {event.data["provenance"] for event in events} == {"missing"}


def test_a_batch_of_chats_is_several_calls(meter, events_of):
    """Each has its own request, its own payer, and its own end: a failing one takes none along."""
    handler = MeteringHandler(meter=meter)
    names = ["a", "b", "c"]
    configs = [{"callbacks": [handler], "metadata": {"subject": name}} for name in names]

    Answers().batch(["ok", "bad", "ok2"], configs, return_exceptions=True)

    events = {event.subject: summary(event)[:2] for event in events_of(meter)}
    assert events == {
        "a": ("completed", "reported"),
        "b": ("failed", "missing"),
        "c": ("completed", "reported"),
    }


def test_answers_to_several_prompts_are_several_events(meter, events_of):
    """A `generate` that succeeds ends each of its runs, with its own usage."""
    with subject("acme"):
        Answers().generate(asked("one", "two"), callbacks=[MeteringHandler(meter=meter)])

    events = events_of(meter)
    assert [counts_of(event) for event in events] == [(100, 20)] * 2
    assert not [event for event in events if "batch_size" in event.data]
