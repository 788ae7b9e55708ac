"""`MeteringHandler`: every call once, exact, on the right bill, and never the application's problem.

The calls go to a real model server, whose own counters are the second source of truth.
"""

from __future__ import annotations

import asyncio
import copy
import gc
import logging
import os
import pickle
import socket
import subprocess
import sys
import textwrap
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from uuid import uuid4

import httpx
import openai
import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models.fake import FakeListLLM, FakeStreamingListLLM
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult, LLMResult
from langchain_core.runnables import RunnableLambda
from langchain_core.runnables.base import RunnableGenerator

import llm_metering
from llm_metering import Meter, subject
from llm_metering.calls import CallTable
from llm_metering.errors import ConfigurationError, SubjectError
from llm_metering.langchain import MeteringHandler
from llm_metering.sinks.memory import MemorySink
from llm_metering.subjects import attribute
from tests.metering import count_of

PROMPTS = ["one", "two and a bit", "three"]
WAIT = 20.0


def invoke(llm, prompts, config):
    return [llm.invoke(prompt, config) for prompt in prompts]


def ainvoke(llm, prompts, config):
    async def main():
        return await asyncio.gather(*(llm.ainvoke(prompt, config) for prompt in prompts))

    return asyncio.run(main())


def stream(llm, prompts, config):
    return [add(llm.stream(prompt, config)) for prompt in prompts]


def astream(llm, prompts, config):
    async def one(prompt):
        return add([chunk async for chunk in llm.astream(prompt, config)])

    async def main():
        return await asyncio.gather(*(one(prompt) for prompt in prompts))

    return asyncio.run(main())


def batch(llm, prompts, config):
    return llm.batch(prompts, config)


def abatch(llm, prompts, config):
    return asyncio.run(llm.abatch(prompts, config))


WAYS = [invoke, ainvoke, stream, astream, batch, abatch]
every_way = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)


def add(chunks):
    """The chunks of a stream as one message."""
    first, *rest = chunks
    for chunk in rest:
        first += chunk
    return first


def tokens(answers):
    """What the answers themselves say was used: input, output, read from the cache."""
    usages = [answer.usage_metadata for answer in answers]
    return (
        sum(usage["input_tokens"] for usage in usages),
        sum(usage["output_tokens"] for usage in usages),
        sum(usage["input_token_details"]["cache_read"] for usage in usages),
    )


def metered(events):
    """What we say was used, in the same order."""
    names = ("input_tokens", "output_tokens", "cache_read_input_tokens")
    return tuple(sum(event.data[name] for event in events) for name in names)


def summary(event):
    """Who pays, how it ended, where the counts come from."""
    return event.subject, event.data["status"], event.data["provenance"]


@every_way
@pytest.mark.parametrize("source", ["handler", "metadata", "scope", "install", "environment"])
def test_our_counts_are_the_servers(
    way, source, home, sink, chat, model_server, events_of, monkeypatch
):
    """Whichever way a call is made and its payer named: one exact event a call, on their bill."""
    if source == "environment":
        monkeypatch.setenv("LLM_METERING_SUBJECT", "acme")
    meter = llm_metering.configure(home=home, sinks=[sink])
    config = {
        "handler": {"callbacks": [MeteringHandler("acme")]},
        "metadata": {"callbacks": [MeteringHandler()], "metadata": {"subject": "acme"}},
        "scope": {"callbacks": [MeteringHandler()]},
        "install": {},
        "environment": {"callbacks": [MeteringHandler()]},
    }[source]
    if source == "install":
        llm_metering.install(subject="acme")

    try:
        before = model_server.wait_until_idle()
        with subject("acme") if source == "scope" else nullcontext():
            answers = way(chat(), PROMPTS, config)
        counted = model_server.wait_until_idle() - before
        events = events_of(meter)
    finally:
        llm_metering.uninstall()
        llm_metering.close()

    assert metered(events) == (counted.prompt, counted.predicted, counted.prompt_cached)
    assert metered(events) == tokens(answers)
    assert [summary(event) for event in events] == [("acme", "completed", "reported")] * 3
    assert len({event.data["run_id"] for event in events}) == 3
    assert all("flags" not in event.data for event in events)


def test_the_event_of_a_call(meter, chat, events_of):
    """All that is known of a plain call is in its event, and nothing else."""
    handler = MeteringHandler("acme", meter=meter, feature="search")

    answer = chat().invoke("hello", {"callbacks": [handler]})

    (event,) = events_of(meter)
    assert event.data.pop("duration_ms") >= 0
    assert event.data == {
        "model": "tiny",
        "request_model": "tiny",
        "provider": "openai",
        "operation": "chat",
        "total_tokens": answer.usage_metadata["total_tokens"],
        "input_tokens": answer.usage_metadata["input_tokens"],
        "output_tokens": 8,
        "cache_read_input_tokens": answer.usage_metadata["input_token_details"]["cache_read"],
        "prompt_tokens": answer.usage_metadata["input_tokens"],
        "completion_tokens": 8,
        "reported_total_tokens": answer.usage_metadata["total_tokens"],
        "calls": 1,
        "provenance": "reported",
        "status": "completed",
        "framework": "langchain",
        "run_id": event.data["run_id"],
        "response_id": answer.response_metadata["id"],
        "feature": "search",
    }
    assert event.data["run_id"] in answer.id
    assert (event.source, event.type) == ("llm-metering", "llm.usage")


def test_no_content_is_written_anywhere(meter, home, chat, caplog):
    """Neither prompt nor answer nor key is in a file of ours or in our log."""
    caplog.set_level(logging.DEBUG, "llm_metering")
    prompt, key = "the-secret-question", "sk-the-secret-key"
    llm = chat(api_key=key, max_tokens=40)
    handler = MeteringHandler("acme", meter=meter)

    answer = llm.invoke(prompt, {"callbacks": [handler]}).content
    list(llm.stream(prompt, {"callbacks": [handler]}))
    assert meter.flush()

    written = b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())
    assert b"acme" in written
    for secret in (prompt, key, answer):
        assert secret.encode() not in written
        assert secret not in caplog.text


def twice_in_a_list(llm, one, two):
    return llm.invoke("x", {"callbacks": [one, two]})


def with_config_and_call(llm, one, two):
    return llm.with_config(callbacks=[one]).invoke("x", {"callbacks": [two]})


def constructor_and_call(llm, one, two):
    return llm.model_copy(update={"callbacks": [one]}).invoke("x", {"callbacks": [two]})


def chain_and_call(llm, one, two):
    chain = RunnableLambda(lambda x: x) | llm.with_config(callbacks=[one])
    return chain.invoke("x", {"callbacks": [two]})


def stream_twice(llm, one, two):
    return add(llm.stream("x", {"callbacks": [one, two]}))


def async_twice(llm, one, two):
    return asyncio.run(llm.ainvoke("x", {"callbacks": [one, two]}))


def async_stream_twice(llm, one, two):
    return astream(llm, ["x"], {"callbacks": [one, two]})[0]


DOUBLES = [
    twice_in_a_list,
    with_config_and_call,
    constructor_and_call,
    chain_and_call,
    stream_twice,
    async_twice,
    async_stream_twice,
]


@pytest.mark.parametrize("make_call", DOUBLES, ids=lambda make_call: make_call.__name__)
@pytest.mark.parametrize(
    "installed", [None, True, False], ids=["alone", "installed", "uninstalled"]
)
@pytest.mark.parametrize("same", [True, False], ids=["one handler", "two handlers"])
def test_a_call_that_is_seen_twice_is_billed_once(
    make_call, installed, same, default_meter, chat, events_of
):
    """However often LangChain delivers it, a call is one event, and nothing is counted as odd."""
    if installed is not None:
        llm_metering.install()
    if installed is False:
        llm_metering.uninstall()
    handler = MeteringHandler("acme")

    answer = make_call(chat(), handler, handler if same else MeteringHandler("acme"))

    (event,) = events_of(default_meter)
    assert summary(event) == ("acme", "completed", "reported")
    assert metered([event]) == tokens([answer])
    status = default_meter.statistics()
    assert (status["ignored_signals"], status["failures"], status["open_calls"]) == ({}, 0, 0)


@pytest.mark.parametrize("handlers", [1, 2, 3])
@pytest.mark.parametrize(
    "installed", [None, True, False], ids=["alone", "installed", "uninstalled"]
)
def test_pieces_are_counted_once(handlers, installed, default_meter, chat, events_of):
    """A stream that reports no usage is counted from its text, not from who saw it."""
    if installed is not None:
        llm_metering.install()
    if installed is False:
        llm_metering.uninstall()
    config = {"callbacks": [MeteringHandler("acme") for _ in range(handlers)]}

    chunks = list(chat(stream_usage=False).stream("x", config))

    (event,) = events_of(default_meter)
    assert summary(event) == ("acme", "completed", "estimated")
    counted = count_of("x", "".join(chunk.content for chunk in chunks))
    assert event.data["count_method"] == counted.method
    assert event.data["input_tokens"] == counted.input_tokens > 0
    assert event.data["output_tokens"] == counted.output_tokens > 0
    assert event.data["total_tokens"] == counted.input_tokens + counted.output_tokens


def test_two_handlers_that_name_different_payers(meter, chat, events_of):
    """The first is billed, and the contradiction is to be seen."""
    config = {
        "callbacks": [MeteringHandler("one", meter=meter), MeteringHandler("two", meter=meter)]
    }

    chat().invoke("x", config)

    (event,) = events_of(meter)
    assert (event.subject, event.data["flags"]) == ("one", ["subject_conflict"])
    assert meter.statistics()["flags"]["subject_conflict"] == 1


@pytest.mark.parametrize("first", ["own", "nobody's"])
def test_the_local_handlers_payer_wins_over_the_global_one(
    first, default_meter, chat, events_of, monkeypatch
):
    """Whichever handler LangChain tells first, the one that has a subject says who pays."""
    seen = []
    start = CallTable.start
    monkeypatch.setattr(
        CallTable,
        "start",
        lambda self, key, call: seen.append(call.attribution.subject) or start(self, key, call),
    )
    llm_metering.install(subject="house")
    own = MeteringHandler("acme", feature="search")
    if first == "nobody's":
        # The chain's run hands its handlers down, before the model's own.
        chain = RunnableLambda(lambda x: x) | chat(callbacks=[own])
        chain.invoke("x", {"callbacks": [MeteringHandler()]})
    else:
        chat(callbacks=[own]).invoke("x")

    (event,) = events_of(default_meter)
    assert seen == (["house"] if first == "nobody's" else []) + ["acme", "house"]
    assert (event.subject, event.data["feature"]) == ("acme", "search")
    assert "flags" not in event.data


def test_two_meters_each_record_the_call(home, tmp_path, chat):
    """Each has it in its book, under one id and for one subject: it is one call where they meet."""
    one, two = MemorySink(), MemorySink()
    with Meter(home=home, sinks=[one]) as first, Meter(home=tmp_path / "2", sinks=[two]) as second:
        config = {
            "callbacks": [MeteringHandler("a", meter=first), MeteringHandler("b", meter=second)]
        }
        chat().invoke("x", config)

    (here,), (there,) = one.events, two.events
    assert (here.id, here.subject) == (there.id, there.subject)
    assert here.subject == "a"
    assert here.data["flags"] == there.data["flags"] == ["subject_conflict"]
    assert here.data["total_tokens"] == there.data["total_tokens"]


def test_two_meters_on_one_home_bill_a_call_once(home, default_meter, chat):
    """A handler with a meter of its own beside `install()`, both on one ledger: one call."""
    llm_metering.install()
    with Meter(home=default_meter.settings.home, sinks=()) as own:
        chat().invoke("x", {"callbacks": [MeteringHandler("acme", meter=own)]})
        list(chat().stream("x", {"callbacks": [MeteringHandler("acme", meter=own)]}))
        default_meter.flush()
        report = own.usage("calls_total", group_by=["subject"])

    assert [(row.subject, row.value) for row in report] == [("acme", 2)]


def test_the_subject_is_that_of_the_start(meter, chat, events_of):
    """A stream is billed to whoever opened it, whoever consumes it; so are its dimensions."""
    handler = MeteringHandler(meter=meter)
    with subject("opener", feature="search"):
        chunks = chat().stream("x", {"callbacks": [handler]})
        next(chunks)
    with subject("consumer"):
        list(chunks)

    (event,) = events_of(meter)
    assert (event.subject, event.data["feature"]) == ("opener", "search")


def test_a_decorated_generator_pays_for_its_own_calls(meter, chat, events_of):
    """In a chain, too, which runs it step by step; the calls of its consumer are the consumer's."""
    config = {"callbacks": [MeteringHandler(meter=meter)]}
    llm = chat()

    @subject("producer")
    def produce(items):
        for item in items:
            yield llm.invoke(item, config).content

    with subject("consumer"):
        for _ in RunnableGenerator(produce).stream("x"):
            llm.invoke("y", config)

    assert Counter(event.subject for event in events_of(meter)) == {"producer": 1, "consumer": 1}


@pytest.mark.parametrize(
    ("metadata", "expected", "flags"),
    [
        pytest.param({"subject": ""}, "house", ["invalid_subject"], id="empty"),
        pytest.param({"subject": 42}, "house", ["invalid_subject"], id="number"),
        pytest.param({"subject": {"a": 1}}, "house", ["invalid_subject"], id="object"),
        pytest.param({"subject": "\ud800"}, "house", ["invalid_subject"], id="half a character"),
        pytest.param({"subject": "a" * 1001}, "house", ["invalid_subject"], id="too long"),
        pytest.param({"subject": "a\0"}, "house", ["invalid_subject"], id="NUL"),
        pytest.param({"subject": "a" * 1000}, "a" * 1000, None, id="just short enough"),
        pytest.param({"subject": None}, "house", None, id="null"),
        pytest.param({"subject": "ünï\n\x01"}, "ünï\n\x01", None, id="odd, but a string"),
        pytest.param(
            {"subject": type("Name", (str,), {})("acme")}, "acme", None, id="a kind of str"
        ),
    ],
)
def test_bad_metadata_makes_no_call_free(metadata, expected, flags, default_meter, chat, events_of):
    """A request cannot get out of its bill by naming nobody: the default pays, and it is flagged."""
    default_meter.subject = "house"

    chat().invoke("x", {"callbacks": [MeteringHandler()], "metadata": metadata})

    (event,) = events_of(default_meter)
    assert (event.subject, event.data.get("flags")) == (expected, flags)
    assert event.data["provenance"] == "reported"
    assert default_meter.statistics()["failures"] == 0


def test_nobody_pays(meter, chat, events_of):
    """The call is kept under a subject of its own, and counted in the status."""
    chat().invoke("x", {"callbacks": [MeteringHandler(meter=meter)]})

    (event,) = events_of(meter)
    assert (event.subject, event.data["flags"]) == ("unattributed", ["unattributed"])
    assert meter.statistics()["flags"]["unattributed"] == 1


def test_a_stream_that_is_closed_early(meter, chat, events_of):
    """One event, aborted, with the text that came and the prompt that went in."""
    chunks = chat(max_tokens=200).stream("x", {"callbacks": [MeteringHandler("acme", meter=meter)]})
    received = [next(chunks).content for _ in range(4)]
    chunks.close()

    (event,) = events_of(meter)
    assert summary(event) == ("acme", "aborted", "estimated")
    counted = count_of("x", "".join(received))
    assert event.data["output_tokens"] == counted.output_tokens > 0
    assert event.data["input_tokens"] == counted.input_tokens > 0
    assert event.data["time_to_first_token_ms"] <= event.data["duration_ms"]


def test_a_stream_that_is_closed_after_its_usage_came(meter, chat, events_of, model_server):
    """The consumer left, but nothing is unknown: aborted, and reported in full."""
    before = model_server.wait_until_idle()
    chunks = chat().stream("x", {"callbacks": [MeteringHandler("acme", meter=meter)]})
    while next(chunks).usage_metadata is None:
        pass
    chunks.close()
    counted = model_server.wait_until_idle() - before

    (event,) = events_of(meter)
    assert summary(event) == ("acme", "aborted", "reported")
    assert metered([event]) == (counted.prompt, counted.predicted, counted.prompt_cached)


def test_a_stream_that_is_dropped(meter, chat, events_of):
    """Nobody closes it but the garbage collector, inside whatever allocation comes along."""
    chunks = chat(max_tokens=200).stream("x", {"callbacks": [MeteringHandler("acme", meter=meter)]})
    next(chunks)
    next(chunks)
    del chunks
    gc.collect()

    (event,) = events_of(meter)
    assert summary(event) == ("acme", "aborted", "estimated")
    assert meter.statistics()["open_calls"] == 0


@pytest.mark.parametrize("leave", ["aclose", "break"])
def test_an_async_stream_that_is_left(leave, meter, chat, events_of):
    """Closed at once, or by the loop when it ends: one event, aborted."""
    handler = MeteringHandler("acme", meter=meter)

    received = ""

    async def main():
        chunks = chat(max_tokens=200).astream("x", {"callbacks": [handler]})
        nonlocal received
        async for chunk in chunks:
            received += chunk.content
            if received:
                break
        if leave == "aclose":
            await chunks.aclose()

    asyncio.run(main())

    (event,) = events_of(meter)
    assert summary(event) == ("acme", "aborted", "estimated")
    assert event.data["output_tokens"] == count_of("x", received).output_tokens > 0


def test_a_task_that_is_cancelled_while_it_waits_for_a_piece(meter, chat, unruly, events_of):
    """What had come until then is its event."""
    handler = MeteringHandler("acme", meter=meter)

    async def consume():
        llm = chat(base_url=unruly.url("stall"))
        return [chunk async for chunk in llm.astream("x", {"callbacks": [handler]})]

    async def main():
        task = asyncio.create_task(consume())
        assert await asyncio.to_thread(unruly.arrived.wait, WAIT)
        while len(unruly.pieces) > pieces_of(meter):
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())

    (event,) = events_of(meter)
    assert summary(event) == ("acme", "aborted", "estimated")
    assert event.data["output_tokens"] == count_of("x", "".join(unruly.pieces)).output_tokens


def pieces_of(meter):
    """Pieces with output that the only call in flight has received."""
    (call,) = meter.calls._open.values()
    return len(call.pieces)


@every_way
@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422, 429])
def test_a_refused_call_is_counted_and_not_billed(way, status, meter, chat, unruly, events_of):
    """The application gets its error; nobody gets a bill."""
    llm = chat(base_url=unruly.url(str(status)))

    with pytest.raises(openai.APIStatusError) as raised:
        way(llm, ["x"], {"callbacks": [MeteringHandler("acme", meter=meter)]})

    assert raised.value.status_code == status
    assert events_of(meter) == []
    found = meter.statistics()
    assert (found["refused_calls"], found["open_calls"], found["failures"]) == (1, 0, 0)


@every_way
@pytest.mark.parametrize("trouble", ["408", "500", "503", "silent", "unreachable"])
def test_a_failed_call_may_have_cost_something(way, trouble, meter, chat, unruly, events_of):
    """Whether a call whose answer never came was worked on nobody knows: an event says so."""
    llm = chat(base_url=unruly.url(trouble), timeout=0.2)
    if trouble == "unreachable":
        with UnreachablePort() as url:
            llm = chat(base_url=url)
            with pytest.raises(openai.APIConnectionError):
                way(llm, ["x"], {"callbacks": [MeteringHandler("acme", meter=meter)]})
    else:
        with pytest.raises(openai.APIError):
            way(llm, ["x"], {"callbacks": [MeteringHandler("acme", meter=meter)]})

    (event,) = events_of(meter)
    assert summary(event) == ("acme", "failed", "missing")
    assert "total_tokens" not in event.data
    assert meter.statistics()["refused_calls"] == 0


class UnreachablePort:
    """A port that nobody listens on, and that nobody else is given."""

    def __enter__(self):
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}/v1"

    def __exit__(self, *error):
        self._socket.close()


@pytest.mark.parametrize("way", [stream, astream], ids=lambda way: way.__name__)
def test_a_server_that_dies_in_mid_stream(way, meter, chat, unruly, events_of):
    """The pieces that came are its event, failed and estimated."""
    llm = chat(base_url=unruly.url("die"))

    # Which one it is depends on the version of OpenAI's SDK.
    with pytest.raises((openai.APIConnectionError, httpx.RemoteProtocolError)):
        way(llm, ["x"], {"callbacks": [MeteringHandler("acme", meter=meter)]})

    (event,) = events_of(meter)
    assert summary(event) == ("acme", "failed", "estimated")
    assert event.data["output_tokens"] == count_of("x", "".join(unruly.pieces)).output_tokens


def test_a_fallback_is_another_call(meter, chat, unruly, events_of):
    """The refused one is counted, the one that answered is billed."""
    llm = chat(base_url=unruly.url("429")).with_fallbacks([chat()])

    answer = llm.invoke("x", {"callbacks": [MeteringHandler("acme", meter=meter)]})

    (event,) = events_of(meter)
    assert metered([event]) == tokens([answer])
    assert meter.statistics()["refused_calls"] == 1


@pytest.mark.parametrize("way", [invoke, ainvoke, batch], ids=lambda way: way.__name__)
def test_an_answer_of_langchains_cache_costs_nothing(way, meter, chat, events_of, model_server):
    """It is an event of zero tokens, and the call that filled the cache stays right."""
    llm = chat(cache=InMemoryCache())
    config = {"callbacks": [MeteringHandler("acme", meter=meter)]}

    before = model_server.wait_until_idle()
    for _ in range(3):
        way(llm, ["x"], config)
    counted = model_server.wait_until_idle() - before

    first, *others = events_of(meter)
    assert summary(first) == ("acme", "completed", "reported")
    assert metered([first]) == (counted.prompt, counted.predicted, counted.prompt_cached)
    for event in others:
        assert summary(event) == ("acme", "cached", "reported")
        assert (event.data["input_tokens"], event.data["output_tokens"]) == (0, 0)
        assert event.data["total_tokens"] == 0
    assert len(others) == 2


class Rude(BaseCallbackHandler):
    """A handler of somebody else's that fails in every hook."""

    run_inline = True

    def __init__(self, raise_error):
        self.raise_error = raise_error

    def _fail(self, *args, **kwargs):
        raise RuntimeError("not ours")

    on_chat_model_start = on_llm_new_token = on_llm_end = on_llm_error = _fail


@every_way
def test_a_rude_handler_before_ours_changes_nothing(way, meter, chat, events_of):
    """LangChain logs its failure and goes on to ours."""
    config = {"callbacks": [Rude(raise_error=False), MeteringHandler("acme", meter=meter)]}

    answers = way(chat(), ["x"], config)

    (event,) = events_of(meter)
    assert summary(event) == ("acme", "completed", "reported")
    assert metered([event]) == tokens(answers)


def test_a_rude_handler_that_insists_makes_no_call_vanish(meter, sink, chat):
    """It keeps the end from us: the call is open, and an event when the meter closes.

    What it cost is known all the same, from its answer.
    """

    class RudeAtTheEnd(BaseCallbackHandler):
        raise_error = True

        def on_llm_end(self, response, **kwargs):
            raise RuntimeError("not ours")

    config = {"callbacks": [RudeAtTheEnd(), MeteringHandler("acme", meter=meter)]}
    with pytest.raises(RuntimeError, match="not ours"):
        chat().invoke("x", config)
    assert meter.close()

    (event,) = sink.events
    assert (summary(event), event.data["flags"]) == (
        ("acme", "aborted", "reported"),
        ["open_at_exit"],
    )


def fake(usage, **fields):
    """A model whose answer carries that usage, which no server here can be made to send."""
    message = AIMessage("answer", **fields)
    message.usage_metadata = usage
    return GenericFakeChatModel(messages=iter([message]))


PLAIN = {"input_tokens": 100, "output_tokens": 20, "total_tokens": 120}


@pytest.mark.parametrize(
    ("usage", "flag"),
    [
        pytest.param({**PLAIN, "output_tokens": -20}, "invalid_usage", id="negative"),
        pytest.param({**PLAIN, "input_tokens": 1.5}, "invalid_usage", id="half a token"),
        pytest.param({**PLAIN, "input_tokens": 10**30}, "invalid_usage", id="beyond any call"),
        pytest.param({"tokens": 7}, "unknown_usage:tokens", id="unknown shape"),
        pytest.param("120", "unknown_usage", id="no object"),
        pytest.param([100, 20], "unknown_usage", id="a list"),
        pytest.param(
            {"input_tokens": None, "output_tokens": None},
            "unknown_usage:input_tokens,output_tokens",
            id="nulls",
        ),
    ],
)
def test_usage_that_cannot_be_true_is_flagged(usage, flag, meter, events_of):
    """The event says that nothing is known; the application sees its answer as it is."""
    answer = fake(usage).invoke("x", {"callbacks": [MeteringHandler("acme", meter=meter)]})

    (event,) = events_of(meter)
    assert (answer.content, answer.usage_metadata) == ("answer", usage)
    assert summary(event) == ("acme", "completed", "missing")
    assert event.data["flags"] == [flag]
    assert not [name for name in event.data if name.endswith("_tokens")]
    assert meter.statistics()["failures"] == 0
    assert meter.statistics()["flags"][flag.partition(":")[0]] == 1


def test_no_usage_is_no_zero(meter, events_of):
    """An answer without usage is counted by us, and says so."""
    fake(None).invoke("x", {"callbacks": [MeteringHandler("acme", meter=meter)]})

    (event,) = events_of(meter)
    assert summary(event) == ("acme", "completed", "estimated")
    assert event.data["count_method"]
    assert event.data["input_tokens"] > 0
    assert event.data["output_tokens"] > 0


def test_counts_that_contradict_each_other_are_kept(meter, events_of):
    """More read from the cache than was put in: the numbers are the provider's, and flagged."""
    usage = {**PLAIN, "input_token_details": {"cache_read": 101}}
    fake(usage).invoke("x", {"callbacks": [MeteringHandler("acme", meter=meter)]})

    (event,) = events_of(meter)
    assert summary(event) == ("acme", "completed", "reported")
    assert (event.data["total_tokens"], event.data["cache_read_input_tokens"]) == (120, 101)
    assert event.data["flags"] == ["usage_inconsistent"]


def test_an_explicit_zero_is_a_count(meter, events_of):
    """A server that says 0 of an empty answer is believed."""
    usage = {"input_tokens": 100, "output_tokens": 0, "total_tokens": 100}
    llm = GenericFakeChatModel(messages=iter([AIMessage("", usage_metadata=usage)]))
    llm.invoke("x", {"callbacks": [MeteringHandler("acme", meter=meter)]})

    (event,) = events_of(meter)
    assert summary(event) == ("acme", "completed", "reported")
    assert (event.data["output_tokens"], event.data["total_tokens"]) == (0, 100)


def test_the_providers_own_total_is_kept(meter, events_of):
    """Where it is not input plus output, both are in the event, and it is flagged."""
    fake({**PLAIN, "total_tokens": 137}).invoke(
        "x", {"callbacks": [MeteringHandler("acme", meter=meter)]}
    )

    (event,) = events_of(meter)
    assert (event.data["total_tokens"], event.data["reported_total_tokens"]) == (120, 137)
    assert event.data["flags"] == ["usage_inconsistent"]


def test_a_response_that_cannot_be_read_is_still_an_event(meter, events_of):
    """Names that hold half a character, have no end or are no text cost only themselves."""
    for metadata in (
        {"model_name": "m\ud800", "id": ["no text"]},
        {"model_name": "m" * 5000, "id": ""},
    ):
        model = fake(PLAIN, response_metadata=metadata)
        model.invoke("x", {"callbacks": [MeteringHandler("acme", meter=meter)]})

    events = events_of(meter)
    assert [event.data["model"] for event in events] == ["m?", "m" * 1000]
    assert [event.data["total_tokens"] for event in events] == [120, 120]
    assert not [event for event in events if "response_id" in event.data]


def test_answers_of_one_request_are_not_added_up(meter, events_of):
    """With n > 1 each generation repeats the usage of the whole request."""

    class Twice(GenericFakeChatModel):
        def _generate(self, messages, stop=None, run_manager=None, **kwargs):
            generation = ChatGeneration(message=AIMessage("a", usage_metadata=PLAIN))
            return ChatResult(generations=[generation, generation.model_copy()])

    Twice(messages=iter(())).invoke("x", {"callbacks": [MeteringHandler("acme", meter=meter)]})

    (event,) = events_of(meter)
    assert event.data["total_tokens"] == 120


@pytest.mark.parametrize(
    "make_call",
    [
        pytest.param(lambda llm, config: llm.invoke("x", config), id="invoke"),
        pytest.param(lambda llm, config: asyncio.run(llm.ainvoke("x", config)), id="ainvoke"),
        pytest.param(lambda llm, config: list(llm.stream("x", config)), id="stream"),
    ],
)
@pytest.mark.parametrize("model", [FakeListLLM, FakeStreamingListLLM])
def test_a_completion_model_is_metered_too(make_call, model, meter, events_of):
    """One event, however many handlers see it; these fakes report no usage."""
    config = {"callbacks": [MeteringHandler("acme", meter=meter) for _ in range(2)]}

    make_call(model(responses=["answer"]), config)

    (event,) = events_of(meter)
    assert event.data["operation"] == "text_completion"
    assert event.data["provenance"] in ("missing", "estimated")
    assert meter.statistics()["ignored_signals"] == {}


class Inline(BaseCallbackHandler):
    """A handler of somebody else's that runs on the event loop's thread."""

    run_inline = True


def test_an_inline_handler_beside_ours_does_not_keep_the_start_from_it(meter, events_of):
    """For async completion models LangChain tells the start to inline handlers alone."""
    config = {
        "callbacks": [Inline(), MeteringHandler(meter=meter)],
        "metadata": {"subject": "acme"},
    }

    asyncio.run(FakeListLLM(responses=["answer"]).ainvoke("x", config))

    (event,) = events_of(meter)
    assert event.subject == "acme"
    assert "flags" not in event.data


def test_the_error_of_a_stream_carries_what_came_first(meter, events_of):
    """LangChain hands over the pieces received, then what the HTTP error said: the pieces count."""
    handler = MeteringHandler("acme", meter=meter)
    run, error = uuid4(), ConnectionError()
    received = ChatGeneration(message=AIMessage("a", usage_metadata=PLAIN))
    http_error = ChatGeneration(message=AIMessage("", response_metadata={"status_code": 500}))

    handler.on_chat_model_start({}, [[HumanMessage("x")]], run_id=run)
    handler.on_llm_error(
        error, run_id=run, response=LLMResult(generations=[[], [received], [http_error]])
    )

    (event,) = events_of(meter)
    # Why it stopped the provider had not said: these are its counts so far.
    assert summary(event) == ("acme", "failed", "partial")
    assert event.data["input_tokens"] == 100
    assert event.data["output_tokens"] >= 20


def test_ends_without_starts(meter, events_of):
    """LangChain delivers those, too: they are billed once, and the lost start is flagged."""
    handler = MeteringHandler("acme", meter=meter)
    chat_run, llm_run, failed_run = uuid4(), uuid4(), uuid4()
    message = AIMessage("a", usage_metadata=PLAIN)
    answer = LLMResult(generations=[[ChatGeneration(message=message)]])
    completion = LLMResult(generations=[[{"text": "a"}]])

    for _ in range(2):
        handler.on_llm_end(answer, run_id=chat_run)
        handler.on_llm_end(completion, run_id=llm_run)
        handler.on_llm_error(ConnectionError(), run_id=failed_run)

    events = {event.data["run_id"]: event for event in events_of(meter)}
    assert {run: event.data["operation"] for run, event in events.items()} == {
        str(chat_run): "chat",
        str(llm_run): "text_completion",
        str(failed_run): "chat",
    }
    assert events[str(chat_run)].data["total_tokens"] == 120
    assert all(event.data["flags"] == ["start_missing"] for event in events.values())
    assert meter.statistics()["ignored_signals"] == {"completed": 2, "failed": 1}


class OurBugError(Exception):
    """What a bug of ours might raise; its message may quote anything."""


def fail(*args, **kwargs):
    raise OurBugError("the secret prompt")


@every_way
@pytest.mark.parametrize(
    "broken",
    [
        pytest.param((CallTable, "start"), id="start"),
        pytest.param((CallTable, "piece"), id="piece"),
        pytest.param((CallTable, "end"), id="end"),
        pytest.param(("llm_metering.langchain.handler", "attribute"), id="attribution"),
        pytest.param(("llm_metering.langchain.usages", "extract_usage"), id="extraction"),
        pytest.param(("llm_metering.calls.writing", "encode"), id="encoding"),
    ],
)
def test_a_bug_of_ours_never_reaches_the_application(
    way, broken, default_meter, chat, monkeypatch, caplog
):
    """The answer comes as ever; the failure is counted and logged, without what it says."""
    place, name = broken
    monkeypatch.setattr(place if isinstance(place, type) else sys.modules[place], name, fail)
    default_meter.subject = "house"

    answers = way(chat(), ["x"], {"callbacks": [MeteringHandler("acme")]})

    assert [len(answer.content) for answer in answers] == [8]
    if name == "piece" and way not in (stream, astream):
        return
    assert default_meter.statistics()["failures"] > 0
    assert "metering failed in on_llm_" in caplog.text
    assert "secret" not in caplog.text


def test_a_setting_that_went_bad_never_reaches_the_application(chat, home, tmp_path, monkeypatch):
    """After `close()` the next call makes a new meter; if it cannot be made, the call goes on."""
    llm_metering.configure(home=home, sinks=())
    handler = MeteringHandler("acme")
    llm_metering.close()
    (tmp_path / "file").touch()
    monkeypatch.setenv("LLM_METERING_HOME", str(tmp_path / "file" / "home"))

    answers = [way(chat(), ["x"], {"callbacks": [handler]}) for way in (invoke, stream, ainvoke)]

    assert [len(answer.content) for (answer,) in answers] == [8, 8, 8]


@pytest.mark.parametrize(
    ("taps", "provenance", "flags"),
    [
        pytest.param(False, "missing", ["unknown_usage"], id="without a tap"),
        pytest.param(True, "reported", None, id="with a tap"),
    ],
)
def test_a_failed_extraction_settles_the_call(
    taps, provenance, flags, home, sink, chat, monkeypatch
):
    """A bug in reading LangChain's usage leaves what a tap has read, or that nothing is known."""
    monkeypatch.setattr("llm_metering.langchain.usages.extract_usage", fail)

    with Meter(home=home, sinks=[sink], taps=taps) as meter:
        chat().invoke("x", {"callbacks": [MeteringHandler("acme", meter=meter)]})
        assert meter.flush()
        assert meter.statistics()["failures"] == 1

    (event,) = sink.events
    assert summary(event) == ("acme", "completed", provenance)
    assert event.data.get("flags") == flags


def test_a_lost_start_costs_the_call_its_metadata_only(default_meter, chat, events_of, monkeypatch):
    """If we fail at the start, the end is billed as far as it is known."""
    monkeypatch.setattr("llm_metering.langchain.handler.attribute", FailOnce())

    answer = chat().invoke("x", {"callbacks": [MeteringHandler("acme")]})

    (event,) = events_of(default_meter)
    assert summary(event) == ("acme", "completed", "reported")
    assert metered([event]) == tokens([answer])
    assert event.data["flags"] == ["start_missing"]
    assert default_meter.statistics()["failures"] == 1


class FailOnce:
    """`attribute`, which fails the first time."""

    def __init__(self):
        self._failed = False

    def __call__(self, **arguments):
        if not self._failed:
            self._failed = True
            raise OurBugError
        return attribute(**arguments)


@pytest.mark.parametrize("change", ["configure", "close"])
def test_a_call_in_flight_while_the_meter_is_replaced(change, home, tmp_path, chat, caplog):
    """The old meter settles it as it goes; its end is no second event in the new one."""
    old, new = MemorySink(), MemorySink()
    llm_metering.configure(home=home, sinks=[old])
    try:
        chunks = chat().stream("x", {"callbacks": [MeteringHandler("acme")]})
        next(chunks)
        next(chunks)
        if change == "close":
            llm_metering.close()
        else:
            llm_metering.configure(home=tmp_path / "new", sinks=[new])
        list(chunks)
        after = llm_metering.configure(home=tmp_path / "new", sinks=[new])
        chat().invoke("x", {"callbacks": [MeteringHandler("acme")]})
        assert after.flush()
    finally:
        llm_metering.close()

    # To configure anew cuts no call; to close is the end of what is in flight.
    ended = "completed" if change == "configure" else "aborted"
    assert [event.data["status"] for event in old.events] == [ended]
    assert [event.data["status"] for event in new.events] == ["completed"]
    with Meter(home=home, sinks=[old]) as reader:
        late = {"completed": 1} if change == "close" else {}
        assert reader.statistics()["ignored_signals"] == late
    # Where there is no tokenizer's data, the call that was cut is counted otherwise, and says so.
    assert all(record.msg.startswith("the encoding") for record in caplog.records)


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param({"subject": ""}, id="empty subject"),
        pytest.param({"subject": "  "}, id="blank subject"),
        pytest.param({"subject": 42}, id="subject is a number"),
        pytest.param({"subject": b"acme"}, id="subject is bytes"),
        pytest.param({"subject": "\ud800"}, id="half a character"),
        pytest.param({"feature": 7}, id="dimension is a number"),
        pytest.param({"model": "x"}, id="dimension of ours"),
    ],
)
def test_a_bad_handler_is_refused_when_it_is_made(arguments, meter):
    """Not swallowed during a call."""
    with pytest.raises(SubjectError):
        MeteringHandler(meter=meter, **arguments)


def test_a_bad_setting_is_told_when_the_handler_is_made(monkeypatch, tmp_path):
    """The default meter is made there and then."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("LLM_METERING_HOME", str(tmp_path / "file" / "home"))

    with pytest.raises(ConfigurationError, match="home"):
        MeteringHandler("acme")


def test_there_is_no_handler_for_everything():
    """The import that one would guess names the two that there are."""
    with pytest.raises(ImportError, match=r"llm_metering\.langchain.*llm_metering\.llamaindex"):
        exec("from llm_metering import MeteringHandler")


def test_a_copy_of_a_handler_is_the_handler(meter):
    """It is hashable and picklable, and copies itself to itself: it has no state to divide."""
    handler = MeteringHandler("acme", meter=meter, feature="search")

    assert {handler: 1}[handler] == 1
    assert copy.copy(handler) is handler
    assert copy.deepcopy([handler])[0] is handler
    assert pickle.loads(pickle.dumps(handler)) is handler


def test_a_handler_of_another_process_is_like_it(default_meter, home):
    """Unpickled elsewhere it names the same payer and dimensions, and uses the meter there."""
    pickled = pickle.dumps(MeteringHandler("acme", feature="search"))
    script = f"""
        import pickle
        handler = pickle.loads({pickled!r})
        assert repr(handler) == "MeteringHandler('acme')"
        assert handler._dimensions == {{"feature": "search"}}
        assert str(handler._meter.settings.home) == {str(home / "other")!r}
        """

    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LLM_METERING_HOME": str(home / "other")},
    )

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "copied",
    [
        pytest.param(lambda llm: copy.copy(llm), id="copy"),
        pytest.param(lambda llm: llm.model_copy(), id="model_copy"),
        pytest.param(lambda llm: llm.with_config(tags=["x"]), id="with_config"),
    ],
)
def test_a_copied_model_is_metered_as_the_original(copied, meter, chat, events_of):
    """Its handler is the same one, and both calls are billed."""
    llm = chat(callbacks=[MeteringHandler("acme", meter=meter)])

    answers = [model.invoke("x") for model in (llm, copied(llm))]

    events = events_of(meter)
    assert [event.subject for event in events] == ["acme", "acme"]
    assert metered(events) == tokens(answers)


def test_a_deeply_copied_model_is_metered_as_the_original(meter, events_of):
    """A fake, since the clients of OpenAI's SDK hold locks that cannot be copied."""
    llm = fake(PLAIN)
    llm.callbacks = [MeteringHandler("acme", meter=meter)]
    llm.messages = []

    copies = [copy.deepcopy(llm), llm.model_copy(deep=True)]

    assert all(each.callbacks[0] is llm.callbacks[0] for each in copies)
    for each in copies:
        each.messages = iter([AIMessage("a", usage_metadata=PLAIN)])
        each.invoke("x")
    assert [event.data["total_tokens"] for event in events_of(meter)] == [120, 120]


def used_by_subject(answers):
    """Tokens by subject, as the answers report them."""
    totals = Counter()
    for name, answer in answers:
        totals[name] += answer.usage_metadata["total_tokens"]
    return totals


def metered_by_subject(events):
    """Tokens by subject, as we recorded them."""
    totals = Counter()
    for event in events:
        totals[event.subject] += event.data["total_tokens"]
    return totals


def test_many_threads_over_many_subjects(meter, chat, events_of, model_server):
    """One handler, fifty threads, ten subjects: each pays exactly what it used."""
    config = {"callbacks": [MeteringHandler(meter=meter)]}
    llm = chat(max_tokens=3)
    barrier = threading.Barrier(50, timeout=WAIT)

    def work(number):
        name = f"customer-{number % 10}"
        barrier.wait()
        with subject(name):
            prompt = "x" * (1 + number)
            if number % 2:
                return name, llm.invoke(prompt, config)
            return name, add(llm.stream(prompt, config))

    before = model_server.wait_until_idle()
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(work, range(50)))
    counted = model_server.wait_until_idle() - before

    events = events_of(meter)
    assert len(events) == 50
    assert metered_by_subject(events) == used_by_subject(answers)
    assert metered(events) == (counted.prompt, counted.predicted, counted.prompt_cached)


def test_many_tasks_over_many_subjects(meter, chat, events_of, model_server):
    """One handler, fifty tasks, ten subjects: each pays exactly what it used."""
    config = {"callbacks": [MeteringHandler(meter=meter)]}
    llm = chat(max_tokens=3)

    async def work(number):
        name = f"customer-{number % 10}"
        prompt = "x" * (1 + number)
        with subject(name):
            if number % 2:
                return name, await llm.ainvoke(prompt, config)
            return name, add([chunk async for chunk in llm.astream(prompt, config)])

    async def main():
        return await asyncio.gather(*(work(number) for number in range(50)))

    before = model_server.wait_until_idle()
    answers = asyncio.run(main())
    counted = model_server.wait_until_idle() - before

    events = events_of(meter)
    assert len(events) == 50
    assert metered_by_subject(events) == used_by_subject(answers)
    assert metered(events) == (counted.prompt, counted.predicted, counted.prompt_cached)


def test_a_batch_with_a_payer_each(meter, chat, events_of):
    """Each item of a batch is a call of its own, on its own bill."""
    handler = MeteringHandler(meter=meter)
    configs = [
        {"callbacks": [handler], "metadata": {"subject": f"customer-{number}"}}
        for number in range(6)
    ]

    answers = chat().batch(["x" * number for number in range(6)], configs)

    names = [config["metadata"]["subject"] for config in configs]
    assert metered_by_subject(events_of(meter)) == used_by_subject(zip(names, answers, strict=True))


def test_a_call_inside_a_chain_is_its_own_event(meter, chat, events_of):
    """Chains, tools and parsers around it make none; metadata of the chain reaches the call."""
    llm = chat()
    chain = RunnableLambda(lambda text: [HumanMessage(text)]) | llm | RunnableLambda(lambda m: m)

    answer = chain.invoke(
        "x",
        {"callbacks": [MeteringHandler(meter=meter)], "metadata": {"llm_metering_subject": "acme"}},
    )

    (event,) = events_of(meter)
    assert event.subject == "acme"
    assert metered([event]) == tokens([answer])
