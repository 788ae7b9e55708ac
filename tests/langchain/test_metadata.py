"""Who pays by the metadata of a run, on every way that LangChain hands it down or does not.

Read in langchain-core 1.7.2, `runnables/config.py` (`ensure_config`) and `callbacks/manager.py`
(`_configure`). Each prompt tells the provider whom it is for; its books must be ours.
"""

from __future__ import annotations

import asyncio
import threading

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.runnables import RunnableLambda, RunnableParallel

import llm_metering
from llm_metering import Meter, sign_subject, subject
from llm_metering.langchain import MeteringHandler
from tests.books import billed, owed, prompt
from tests.langchain.asking import gpt

KEY = "k" * 32


@pytest.fixture
def handler(meter):
    """A handler that names nobody itself."""
    return MeteringHandler(meter=meter)


@pytest.fixture
def books_agree(meter, events_of, provider):
    """Check that our bill is the provider's, and return the subjects on it."""

    def books_agree():
        ours = billed(events_of(meter))
        assert ours == owed(provider)
        return set(ours)

    return books_agree


def by(name, handler=None, **more):
    """A configuration that names who pays."""
    config = {"metadata": {"subject": name, **more}}
    return config if handler is None else {**config, "callbacks": [handler]}


def test_metadata_of_the_call(handler, provider, books_agree):
    """What the call itself is configured with."""
    gpt(provider).invoke(prompt("acme"), by("acme", handler))

    assert books_agree() == {"acme"}


def test_metadata_of_a_chain_reaches_the_calls_in_it(handler, provider, books_agree):
    """Over every level, in parallel branches and bound configurations too."""
    llm = gpt(provider)
    inner = RunnableLambda(lambda text: llm.invoke(text)) | RunnableLambda(lambda answer: answer)
    both = RunnableParallel(one=inner, two=llm.with_config(metadata={"feature": "x"}))
    chain = RunnableLambda(lambda text: text) | both

    chain.invoke(prompt("acme"), by("acme", handler))
    chain.with_config(by("bound", handler)).invoke(prompt("bound"))

    assert books_agree() == {"acme", "bound"}


def test_metadata_of_the_model_wins(handler, provider, books_agree):
    """LangChain puts the metadata a model was made with on top of that of the call."""
    llm = gpt(provider, metadata={"subject": "model"})
    llm.invoke(prompt("model"), by("call", handler))
    chain = RunnableLambda(lambda text: text) | llm
    chain.invoke(prompt("model"), by("chain", handler))

    assert books_agree() == {"model"}


def test_the_innermost_metadata_that_names_a_payer_wins(handler, provider, books_agree):
    """A call inside a chain may be for somebody else, and what it says beside that changes nothing."""
    llm = gpt(provider)

    def work(_):
        llm.invoke(prompt("inner"), by("inner"))
        llm.invoke(prompt("outer"), {"metadata": {"feature": "x"}})
        llm.invoke(prompt("outer"), {"metadata": {"subject": None}})

    RunnableLambda(work).invoke("x", by("outer", handler))

    assert books_agree() == {"inner", "outer"}


class Other(BaseCallbackHandler):
    """A handler of somebody else's."""


@pytest.mark.parametrize("installed", [False, True], ids=["own handler", "global"])
@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_a_call_with_callbacks_and_metadata_of_its_own(
    installed, depth, asynchronous, default_meter, provider, events_of
):
    """LangChain drops the outer metadata then, the payer with it, even for a global handler."""
    llm = gpt(provider)
    handler = MeteringHandler()
    if installed:
        llm_metering.install()
    config = {"callbacks": [Other()] if installed else [handler], "metadata": {"feature": "x"}}

    def work(text):
        return llm.invoke(text, config)

    async def awork(text):
        return await llm.ainvoke(text, config)

    chain = RunnableLambda(work, awork)
    for level in range(1, depth):
        chain = RunnableLambda(
            lambda text, inner=chain, level=level: inner.invoke(
                text, {"metadata": {"level": level}}
            )
        )
    outer = by("outer") if installed else by("outer", handler)
    if asynchronous:
        asyncio.run(chain.ainvoke(prompt("outer"), outer))
    else:
        chain.invoke(prompt("outer"), outer)

    assert billed(events_of(default_meter)) == owed(provider)
    assert {event.subject for event in events_of(default_meter)} == {"outer"}


def test_a_payer_that_the_inner_call_names_is_not_overruled(handler, provider, books_agree):
    """What LangChain drops is looked up only where the call itself names nobody."""
    llm = gpt(provider)

    def work(text):
        return llm.invoke(text, by("inner", handler))

    RunnableLambda(work).invoke(prompt("inner"), by("outer", handler))

    assert books_agree() == {"inner"}


def test_a_bare_thread_has_nothing_of_the_run_that_began_it(handler, provider, meter, events_of):
    """It copies no context, so neither metadata nor callbacks reach it: the call is nobody's."""
    llm = gpt(provider)

    def work(text):
        thread = threading.Thread(target=llm.invoke, args=(text, {"callbacks": [handler]}))
        thread.start()
        thread.join()

    RunnableLambda(work).invoke("x", by("outer", handler))

    (event,) = events_of(meter)
    assert (event.subject, event.data["flags"]) == ("unattributed", ["unattributed"])


def test_the_next_run_has_nothing_of_the_last(handler, provider, books_agree):
    """What was around one call is not around the one after it."""
    llm = gpt(provider)
    RunnableLambda(lambda text: llm.invoke(text)).invoke(prompt("acme"), by("acme", handler))
    llm.invoke(prompt("unattributed"), {"callbacks": [handler], "metadata": {"feature": "x"}})

    assert books_agree() == {"acme", "unattributed"}


@pytest.mark.parametrize("asynchronous", [False, True], ids=["batch", "abatch"])
def test_a_batch_with_a_configuration_each(asynchronous, handler, provider, books_agree):
    """Each input has its own payer, though the calls run side by side."""
    names = [f"customer-{number}" for number in range(6)]
    chain = RunnableLambda(lambda text: text) | gpt(provider)
    texts, configs = [prompt(name) for name in names], [by(name, handler) for name in names]
    if asynchronous:
        asyncio.run(chain.abatch(texts, configs))
    else:
        chain.batch(texts, configs)

    assert books_agree() == set(names)


def test_names_of_langchains_own_are_langchains(handler, provider, meter, events_of):
    """Whatever a user's metadata says under `ls_…`, the model and provider are the real ones."""
    metadata = {"subject": "acme", "ls_model_name": "mine", "ls_provider": "me"}
    gpt(provider).invoke("x", {"callbacks": [handler], "metadata": metadata})

    (event,) = events_of(meter)
    assert (event.data["request_model"], event.data["provider"]) == ("gpt-x", "openai")


@pytest.mark.needs("configurable_gone")
def test_a_subject_in_configurable_is_no_metadata(handler, provider, meter, events_of):
    """Since langchain-core 1.3.0; `configurable` chooses how a chain works, not who pays."""
    config = {"callbacks": [handler], "configurable": {"subject": "acme"}}
    gpt(provider).invoke("x", config)

    (event,) = events_of(meter)
    assert event.subject == "unattributed"


@pytest.mark.needs("configurable_in_metadata")
def test_a_subject_in_configurable_was_metadata(handler, provider, books_agree):
    """Before langchain-core 1.3.0, which copied what is scalar."""
    config = {"callbacks": [handler], "configurable": {"subject": "acme"}}
    gpt(provider).invoke(prompt("acme"), config)

    assert books_agree() == {"acme"}


@pytest.fixture
def make_meter(home, sink):
    """A meter with settings of the test's."""
    meters = []

    def make(**settings):
        meters.append(Meter(home=home, sinks=[sink], **settings))
        return meters[-1]

    yield make
    for meter in meters:
        meter.close()


def test_keys_of_the_applications_own(make_meter, provider, events_of):
    """Such as those that other tools already put there."""
    meter = make_meter(subject_keys=["langfuse_user_id"])
    metadata = {"langfuse_user_id": "acme", "subject": "Re: your letter"}
    gpt(provider).invoke("x", {"callbacks": [MeteringHandler(meter=meter)], "metadata": metadata})

    assert [event.subject for event in events_of(meter)] == ["acme"]


def test_only_signed_subjects_pay(make_meter, provider, events_of, home, caplog):
    """A client names somebody else in vain; its token is in no event, file or log of ours."""
    meter = make_meter(
        subject_from_metadata="signed", subject_token_secrets=KEY, source="shop", subject="house"
    )
    good = sign_subject("acme", KEY, audience="shop")
    values = {
        good: "acme",
        "somebody": "house",
        good[:-2] + "AA": "house",
        sign_subject("acme", "x" * 32, audience="shop"): "house",
        sign_subject("acme", KEY, audience="elsewhere"): "house",
    }
    handler = MeteringHandler(meter=meter)
    for value, payer in values.items():
        gpt(provider).invoke(prompt(payer), by(value, handler))
    with subject("pinned", pinned=True):
        gpt(provider).invoke(prompt("pinned"), by(good, handler))

    events = events_of(meter)
    assert billed(events) == owed(provider)
    flags = [event.data.get("flags", []) for event in events]
    assert flags == [[], *[["invalid_subject_token"]] * 4, []]
    assert meter.statistics()["flags"]["invalid_subject_token"] == 4
    written = b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())
    for value in values:
        if value != "somebody":
            assert value.encode() not in written
            assert value not in caplog.text + str(events)


def test_metadata_that_is_ignored(make_meter, provider, events_of):
    """Under that setting nothing a request carries decides who pays."""
    meter = make_meter(subject_from_metadata="ignore")
    with subject("house"):
        gpt(provider).invoke("x", by("acme", MeteringHandler(meter=meter)))

    (event,) = events_of(meter)
    assert (event.subject, "flags" in event.data) == ("house", False)


def test_dimensions_by_an_allow_list(make_meter, provider, events_of, home):
    """The listed keys and nothing else leave the process; what is no scalar does not either."""
    meter = make_meter(metadata_dimensions=["thread_id", "feature", "documents", "absent"])
    metadata = {
        "thread_id": 17,
        "feature": "search",
        "documents": ["top secret"],
        "password": "hush-hush",
    }
    handler = MeteringHandler(meter=meter)
    gpt(provider).invoke("x", {"callbacks": [handler], "metadata": {"subject": "a", **metadata}})

    (event,) = events_of(meter)
    assert (event.data["thread_id"], event.data["feature"]) == ("17", "search")
    assert event.data["flags"] == ["invalid_dimension"]
    assert not {"documents", "absent", "password"} & set(event.data)
    written = b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())
    assert b"hush" not in written
    assert b"top secret" not in written
