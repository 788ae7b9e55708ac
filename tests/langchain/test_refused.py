"""`on_missing_subject="raise"`: a call that nobody pays for is refused before it is made.

LangChain swallows what a handler raises unless the handler's `raise_error` says otherwise
(langchain-core 1.7.2, `callbacks/manager.py`, `handle_event` and `_ahandle_event_for_handler`).
"""

from __future__ import annotations

import asyncio
import gc
import logging
import warnings
from contextlib import nullcontext
from uuid import uuid4

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models.fake import FakeListLLM
from langchain_core.runnables import RunnableLambda
from langchain_openai import OpenAI

import llm_metering
from llm_metering import Meter, subject
from llm_metering.errors import MissingSubjectError
from llm_metering.langchain import MeteringHandler
from tests.books import billed, owed, prompt
from tests.langchain.asking import gpt
from tests.langchain.ways import every_way

# LangChain makes the coroutines of all other handlers, and starts none of them once ours refuses.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*is in beta", "ignore:coroutine 'ahandle_event' was never awaited"
)


@pytest.fixture(autouse=True, scope="module")
def no_coroutine_left():
    """Those coroutines are held by the tracebacks; another module would be warned of them."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        gc.collect()


@pytest.fixture
def strict(home, sink):
    """The default meter, which refuses calls that nobody pays for."""
    meter = llm_metering.configure(home=home, sinks=[sink], on_missing_subject="raise")
    yield meter
    llm_metering.uninstall()
    llm_metering.close()


@every_way
@pytest.mark.parametrize("installed", [False, True], ids=["handler", "global"])
def test_a_call_for_nobody_is_not_made(way, installed, strict, provider):
    """The error is ours, the provider is not asked, nothing stays open, and it is counted."""
    llm = gpt(provider)
    config = {}
    if installed:
        llm_metering.install()
    else:
        config["callbacks"] = [MeteringHandler()]

    with pytest.raises(MissingSubjectError, match="nobody is named to pay"):
        way(llm, prompt("nobody"), config)

    assert provider.entries == []
    assert len(strict.calls) == 0
    strict.flush()
    seen = strict.statistics()
    assert (seen["recorded"], seen["open_calls"], seen["failures"]) == (0, 0, 0)
    assert seen["refused_calls"] == 1


@every_way
@pytest.mark.parametrize("source", ["metadata", "scope", "install"])
def test_a_call_for_somebody_is_made(way, source, strict, provider, events_of):
    """Whoever names the payer, and however: it goes through, and is billed exactly."""
    config = {"metadata": {"subject": "acme"}} if source == "metadata" else {}
    llm_metering.install(subject="acme" if source == "install" else None)
    with subject("acme") if source == "scope" else nullcontext():
        way(gpt(provider), prompt("acme"), config)

    assert billed(events_of(strict)) == owed(provider)
    assert {event.subject for event in events_of(strict)} == {"acme"}


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_a_completion_model_is_refused_too(asynchronous, strict):
    """`on_llm_start` is dispatched otherwise than `on_chat_model_start`."""
    llm = FakeListLLM(responses=["x"])
    config = {"callbacks": [MeteringHandler()]}

    with pytest.raises(MissingSubjectError):
        asyncio.run(llm.ainvoke("x", config)) if asynchronous else llm.invoke("x", config)

    assert (len(strict.calls), strict.statistics()["refused_calls"]) == (0, 1)


def test_of_a_batch_only_what_nobody_pays_for(strict, provider, events_of):
    """The others are made, billed, and returned beside the error."""
    handler = MeteringHandler()
    configs = [
        {"callbacks": [handler], "metadata": {"subject": "acme"}},
        {"callbacks": [handler]},
        {"callbacks": [handler], "metadata": {"subject": "other"}},
    ]
    answers = gpt(provider).batch(
        [prompt("acme"), prompt("nobody"), prompt("other")], configs, return_exceptions=True
    )

    assert [isinstance(answer, MissingSubjectError) for answer in answers] == [False, True, False]
    assert billed(events_of(strict)) == owed(provider)
    assert {event.subject for event in events_of(strict)} == {"acme", "other"}
    assert strict.statistics()["refused_calls"] == 1


@pytest.mark.parametrize(
    ("carried", "reason"),
    [
        pytest.param(42, "no text that can be a subject", id="a number"),
        pytest.param(["acme-7"], "no text that can be a subject", id="a list"),
        pytest.param("lms1.acme-7", "it is not signed, or was changed", id="a broken token"),
    ],
)
def test_the_refusal_says_why_a_name_in_the_metadata_did_not_count(carried, reason, strict):
    """A payer who was named and passed over would be sought elsewhere; what was named is not said."""
    config = {"callbacks": [MeteringHandler()], "metadata": {"subject": carried}}

    with pytest.raises(MissingSubjectError, match=reason) as refused:
        FakeListLLM(responses=["yes"]).invoke("Hello", config)

    assert "acme-7" not in str(refused.value)


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("nobody", [0, 1, 2])
def test_prompts_that_are_sent_together_are_refused_together(
    asynchronous, nobody, strict, provider, events_of
):
    """A completion model sends them as one request: it is not made, and none of them stays open."""
    handler = MeteringHandler()
    llm = OpenAI(
        model="gpt-x",
        base_url=provider.openai_url,
        api_key="x",
        default_headers={"Connection": "close"},
    )
    configs = [{"callbacks": [handler], "metadata": {"subject": "acme"}} for _ in range(3)]
    configs[nobody].pop("metadata")
    texts = [prompt("acme")] * 3
    with pytest.raises(MissingSubjectError):
        asyncio.run(llm.abatch(texts, configs)) if asynchronous else llm.batch(texts, configs)

    assert provider.entries == []
    assert len(strict.calls) == 0
    assert strict.statistics()["open_calls"] == 0
    configs[nobody]["metadata"] = {"subject": "acme"}
    asyncio.run(llm.abatch(texts, configs)) if asynchronous else llm.batch(texts, configs)
    assert len(provider.entries) == 1
    assert {event.subject for event in events_of(strict)} == {"acme"}


class Rude(BaseCallbackHandler):
    """A handler of somebody else's that fails, and does not insist."""

    run_inline = True

    def on_chat_model_start(self, *args, **kwargs):
        raise RuntimeError


def test_the_refusal_is_the_only_error_that_passes(strict, provider, monkeypatch, events_of):
    """A failure of ours is swallowed as ever, also while the application handles a refusal."""
    handler = MeteringHandler()
    llm = gpt(provider)

    def break_down(*args, **kwargs):
        raise ZeroDivisionError

    try:
        llm.invoke("x", {"callbacks": [handler]})
    except MissingSubjectError:
        # Inside guards and outside of them.
        with monkeypatch.context() as patch:
            patch.setattr("llm_metering.langchain.handler.attribute", break_down)
            assert llm.invoke("x", {"callbacks": [Rude(), handler]}).content
        with monkeypatch.context() as patch:
            patch.setattr(MeteringHandler, "_start", break_down)
            patch.setattr(MeteringHandler, "_end", break_down)
            assert llm.invoke("x", {"callbacks": [handler]}).content
            assert asyncio.run(llm.ainvoke("x", {"callbacks": [handler]})).content

    assert len(provider.entries) == 3
    assert handler.raise_error is False


def test_a_refusal_that_cannot_be_counted_is_one_all_the_same(strict, provider, monkeypatch):
    """A failure of ours on the way makes no call free."""

    def break_down(*args, **kwargs):
        raise ZeroDivisionError

    handler = MeteringHandler()
    monkeypatch.setattr(type(strict.calls), "refuse", break_down)
    with pytest.raises(MissingSubjectError):
        gpt(provider).invoke("x", {"callbacks": [handler]})

    assert provider.entries == []
    assert strict.statistics()["failures"] == 1


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_a_handler_of_the_model_pays_though_the_global_one_names_nobody(
    asynchronous, strict, provider, events_of
):
    """In a chain too, where LangChain puts inherited handlers before the model's own."""
    llm_metering.install()
    chain = RunnableLambda(lambda text: text) | gpt(provider, callbacks=[MeteringHandler("acme")])
    if asynchronous:
        asyncio.run(chain.ainvoke(prompt("acme")))
    else:
        chain.invoke(prompt("acme"))

    assert billed(events_of(strict)) == owed(provider)
    assert [event.subject for event in events_of(strict)] == ["acme"]
    assert strict.statistics()["refused_calls"] == 0


def test_a_handler_after_one_that_pays_refuses_nothing(strict, provider, events_of):
    """What another handler of the call has said counts."""
    handlers = [MeteringHandler("acme"), MeteringHandler()]
    gpt(provider).invoke(prompt("acme"), {"callbacks": handlers})

    assert billed(events_of(strict)) == owed(provider)


def test_a_refused_call_is_open_in_no_other_meter(strict, tmp_path, provider):
    """Another meter that was told of the start first will never be told of an end."""
    with Meter(home=tmp_path / "other", sinks=["memory:"]) as other:
        handlers = [MeteringHandler(meter=other), MeteringHandler()]
        with pytest.raises(MissingSubjectError):
            gpt(provider).invoke("x", {"callbacks": handlers})

        assert (len(other.calls), len(strict.calls)) == (0, 0)
        assert other.statistics()["open_calls"] == 0
    assert other.statistics()["recorded"] == 0
    assert provider.entries == []


def test_another_call_under_the_same_run_id_is_not_forgotten(strict, provider, events_of):
    """A run id that the user fixed may name a call under way and one that is refused."""
    handler = MeteringHandler()
    run_id = uuid4()
    chunks = gpt(provider).stream(
        prompt("acme"),
        {"callbacks": [handler], "run_id": run_id, "metadata": {"subject": "acme"}},
    )
    next(chunks)
    with pytest.raises(MissingSubjectError):
        gpt(provider).invoke("x", {"callbacks": [handler], "run_id": run_id})
    list(chunks)

    assert billed(events_of(strict)) == owed(provider)


def test_a_retry_and_a_fallback_are_refused_as_well(strict, provider):
    """Each attempt is a call; the error that comes out is ours."""
    llm = gpt(provider)
    chain = llm.with_retry(stop_after_attempt=2, wait_exponential_jitter=False).with_fallbacks(
        [gpt(provider, "gpt-y")]
    )
    with pytest.raises(MissingSubjectError):
        chain.invoke("x", {"callbacks": [MeteringHandler()]})

    assert provider.entries == []
    assert strict.statistics()["refused_calls"] == 3


def test_a_handler_that_is_not_inline_refuses_too(strict, provider):
    """Then LangChain runs it in the loop's executor, and asks on the loop what may pass."""
    handler = MeteringHandler()
    handler.run_inline = False
    with pytest.raises(MissingSubjectError):
        asyncio.run(gpt(provider).ainvoke("x", {"callbacks": [handler]}))

    assert provider.entries == []


def test_an_end_without_a_start_is_billed_and_not_refused(strict, provider, events_of):
    """The call was made: LangChain tells a handler that was installed in the middle of its end."""
    llm_metering.install()
    llm_metering.uninstall()
    chunks = gpt(provider).stream("x")
    next(chunks)
    llm_metering.install()
    list(chunks)

    (event,) = events_of(strict)
    assert (event.subject, event.data["flags"]) == (
        "unattributed",
        ["unattributed", "start_missing"],
    )


def test_calls_for_nobody_can_be_told_in_the_log(home, sink, provider, caplog, events_of):
    """Under `warn` they are made, and one line a minute says so, without a word of theirs.

    However many handlers are told of a call, it is one.
    """
    with Meter(home=home, sinks=[sink], on_missing_subject="warn") as meter:
        handlers = [MeteringHandler(meter=meter), MeteringHandler(meter=meter)]
        with caplog.at_level(logging.WARNING, "llm_metering"):
            for _ in range(3):
                gpt(provider).invoke("a secret", {"callbacks": handlers})
        assert len(events_of(meter)) == 3
        assert meter.missing_subjects._unsaid == 2

    (record,) = caplog.records
    assert "no subject" in record.getMessage()
    assert "secret" not in caplog.text
