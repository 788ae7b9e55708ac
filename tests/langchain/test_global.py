"""`install()`: one hook of LangChain's, for every run, in every thread, however often it is done.

Read in langchain-core 1.7.2, `tracers/context.py` (`register_configure_hook`) and
`callbacks/manager.py` (`_configure`).
"""

from __future__ import annotations

import asyncio
import importlib
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from langchain_core.callbacks import (
    AsyncCallbackManager,
    BaseCallbackHandler,
    BaseCallbackManager,
    CallbackManager,
    UsageMetadataCallbackHandler,
    get_usage_metadata_callback,
)
from langchain_core.runnables import RunnableLambda, RunnableParallel
from langchain_core.tracers import context

import llm_metering
from llm_metering import Meter, subject
from llm_metering.langchain import MeteringHandler, global_handler
from llm_metering.sinks.memory import MemorySink
from tests.books import billed, owed, prompt
from tests.langchain.asking import gpt


@pytest.fixture
def books_agree(default_meter, events_of, provider):
    """Check that our bill is the provider's, and return the subjects on it."""

    def books_agree():
        ours = billed(events_of(default_meter))
        assert ours == owed(provider)
        return set(ours)

    return books_agree


def hooks():
    """How many global handlers LangChain has of ours."""
    return [hook[0].name for hook in context._configure_hooks].count(global_handler._NAME)


def test_there_is_one_hook_however_often_it_is_done(default_meter, provider, books_agree):
    """LangChain never takes a hook back, and asks all of them for each run: none may pile up."""
    for _ in range(50):
        llm_metering.install(subject="acme")
        llm_metering.uninstall()
    threads = [threading.Thread(target=llm_metering.install, args=("acme",)) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gpt(provider).invoke(prompt("acme"))

    assert hooks() == 1
    assert books_agree() == {"acme"}


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize(
    "callbacks", [None, [], CallbackManager([])], ids=["none", "[]", "manager"]
)
def test_every_level_of_a_chain(callbacks, asynchronous, default_meter, provider, books_agree):
    """A call is one event, though each run around it is handed the handler as well."""
    llm_metering.install()
    llm = gpt(provider)
    config = {} if callbacks is None else {"callbacks": callbacks}
    if asynchronous and isinstance(callbacks, CallbackManager):
        config = {"callbacks": AsyncCallbackManager([])}

    def work(text):
        return llm.invoke(text, config)

    async def awork(text):
        return await llm.ainvoke(text, config)

    inner = RunnableLambda(work, awork)
    chain = RunnableLambda(lambda text: text) | RunnableParallel(one=inner, two=inner, three=llm)
    with subject("acme"):
        if asynchronous:
            asyncio.run(chain.ainvoke(prompt("acme")))
        else:
            chain.invoke(prompt("acme"))

    assert books_agree() == {"acme"}
    assert len(provider.entries) == 3


def test_threads_and_tasks_of_all_kinds(default_meter, provider, books_agree):
    """Those that copy a context have its scope, the others the default; all are metered."""
    llm_metering.install(subject="house")
    llm = gpt(provider)

    async def main():
        loop = asyncio.get_running_loop()
        with subject("scope"):
            await asyncio.gather(
                asyncio.create_task(llm.ainvoke(prompt("scope"))),
                asyncio.to_thread(llm.invoke, prompt("scope")),
                loop.run_in_executor(None, llm.invoke, prompt("house")),
            )

    with subject("scope"):
        llm.batch([prompt("scope")] * 3)
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(llm.invoke, [prompt("house")] * 3))
        thread = threading.Thread(target=llm.invoke, args=(prompt("house"),))
        thread.start()
        thread.join()
    asyncio.run(main())

    assert books_agree() == {"house", "scope"}


def test_the_environment_names_who_pays(home, sink, provider, events_of, monkeypatch):
    """As `install(subject=…)` does, which wins over it."""
    monkeypatch.setenv("LLM_METERING_SUBJECT", "environment")
    meter = llm_metering.configure(home=home, sinks=[sink])
    try:
        llm_metering.install()
        gpt(provider).invoke(prompt("environment"))
        llm_metering.install(subject="argument")
        gpt(provider).invoke(prompt("argument"))
        llm_metering.uninstall()
        llm_metering.install()
        gpt(provider).invoke(prompt("environment"))

        assert billed(events_of(meter)) == owed(provider)
        assert {event.subject for event in events_of(meter)} == {"environment", "argument"}
    finally:
        llm_metering.uninstall()
        llm_metering.close()


def reload_ours():
    importlib.reload(global_handler)


def reload_langchains():
    importlib.reload(context)


@pytest.mark.parametrize("reload", [reload_ours, reload_langchains], ids=["ours", "LangChain's"])
def test_a_module_that_is_imported_anew(reload, default_meter, provider, events_of, books_agree):
    """As a notebook's cell does: neither is a call lost then, nor billed twice, nor still metered."""
    known = context._configure_hooks
    llm_metering.install(subject="acme")
    chunks = gpt(provider).stream(prompt("acme"))
    next(chunks)
    try:
        reload()
        llm_metering.install()
        llm_metering.install()
        gpt(provider).invoke(prompt("acme"))
        list(chunks)
        assert books_agree() == {"acme"}

        llm_metering.uninstall()
        gpt(provider).invoke(prompt("acme"))
        assert len(provider.entries) == 3
        assert len(events_of(default_meter)) == 2
    finally:
        # The very list that older cores have imported by name; a new one would be theirs no more.
        known[:] = [hook for hook in known if hook[0].name != global_handler._NAME]
        context._configure_hooks = known


def test_a_package_that_is_imported_anew_meters_once(tmp_path):
    """Some tools forget all of a package's modules; the handler of the old one then keeps still."""
    script = """
        import sys, llm_metering
        from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
        from langchain_core.messages import AIMessage
        used = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}
        def run():
            import llm_metering
            from llm_metering.sinks.memory import MemorySink
            sink = MemorySink()
            meter = llm_metering.configure(sinks=[sink], ledger=False)
            llm_metering.install(subject="acme")
            GenericFakeChatModel(
                messages=iter([AIMessage("x", usage_metadata=used)])
            ).invoke("x")
            meter.flush()
            return len(sink.events), meter
        first, old = run()
        for name in [name for name in sys.modules if name.partition(".")[0] == "llm_metering"]:
            del sys.modules[name]
        second, new = run()
        print(first, second, old.statistics()["recorded"])
        old.close(), new.close()
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        check=False,
        env={"LLM_METERING_HOME": str(tmp_path / "home"), "PYTHONPATH": ":".join(sys.path)},
    )

    # Both write into one home, whose status counts both calls: no third event is there.
    assert (done.stdout, done.stderr) == ("1 1 2\n", "")


def test_beside_another_global_handler(default_meter, provider, books_agree):
    """LangChain's own counter, whose hooks pile up, counts as it does, and so do we."""
    llm_metering.install()
    before = list(context._configure_hooks)
    try:
        with get_usage_metadata_callback() as counter, subject("acme"):
            gpt(provider).invoke(prompt("acme"))
        (entry,) = provider.entries
        (counted,) = counter.usage_metadata.values()
        assert (counted["input_tokens"], counted["output_tokens"]) == (entry.input, entry.output)
        assert books_agree() == {"acme"}
    finally:
        context._configure_hooks[:] = before


def test_beside_a_tracer_that_patches_every_manager(
    default_meter, provider, books_agree, monkeypatch
):
    """OpenInference and OpenLLMetry add their tracer in `BaseCallbackManager.__init__`."""
    tracer = UsageMetadataCallbackHandler()
    init = BaseCallbackManager.__init__

    def patched(self, *args, **kwargs):
        init(self, *args, **kwargs)
        if not any(handler is tracer for handler in self.inheritable_handlers):
            self.add_handler(tracer, inherit=True)

    monkeypatch.setattr(BaseCallbackManager, "__init__", patched)
    llm_metering.install()
    llm = gpt(provider)
    chain = RunnableLambda(lambda text: llm.invoke(text)) | RunnableLambda(lambda answer: answer)
    with subject("acme"):
        chain.invoke(prompt("acme"))

    assert books_agree() == {"acme"}
    assert len(tracer.usage_metadata) == 1


class Watcher(BaseCallbackHandler):
    """A handler that sees who else is there."""

    run_inline = True


def test_it_comes_behind_the_handlers_of_the_call(default_meter, provider):
    """And is not passed on to inner runs as one of theirs; LangChain hands it to each anew."""
    llm_metering.install(subject="acme")
    own = Watcher()
    manager = CallbackManager.configure([own], [Watcher()])
    inherited = manager.on_chain_start({}, {}).get_child()
    child = CallbackManager.configure(inherited, [Watcher()])

    for each in (manager, child):
        assert each.handlers[-1] is global_handler._global_handler
        assert each.handlers.count(global_handler._global_handler) == 1
    assert child.inheritable_handlers == [own]


def test_two_meters_two_books(default_meter, tmp_path, provider, events_of):
    """A handler with a meter of its own beside the global one: both books are the provider's."""
    llm_metering.install(subject="acme")
    sink = MemorySink()
    with Meter(home=tmp_path / "other", sinks=[sink]) as other:
        handler = MeteringHandler(meter=other)
        other.subject = "acme"
        gpt(provider).invoke(prompt("acme"), {"callbacks": [handler]})
        list(gpt(provider).stream(prompt("acme"), {"callbacks": [handler]}))
        assert other.flush()

        assert billed(sink.events) == billed(events_of(default_meter)) == owed(provider)
        ids = [{event.id for event in events} for events in (sink.events, events_of(default_meter))]
        assert ids[0] == ids[1]


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_calls_in_flight_when_it_is_undone(asynchronous, default_meter, provider, books_agree):
    """They settle exactly, those that were begun in between are nobody's business of ours."""
    llm_metering.install(subject="acme")
    llm = gpt(provider, "gpt-x+slow5")

    async def main():
        stream = llm.astream(prompt("acme"))
        await anext(stream)
        llm_metering.uninstall()
        return [chunk async for chunk in stream]

    if asynchronous:
        asyncio.run(main())
    else:
        chunks = llm.stream(prompt("acme"))
        next(chunks)
        llm_metering.uninstall()
        list(chunks)

    assert books_agree() == {"acme"}
    assert len(default_meter.calls) == 0


def test_the_end_of_a_call_in_flight_is_told_on_the_loop(default_meter, provider, monkeypatch):
    """In the executor it would be lost where the loop ends with the stream."""
    threads = []
    theirs = MeteringHandler.on_llm_end

    def on_llm_end(self, *args, **kwargs):
        threads.append(threading.get_ident())
        return theirs(self, *args, **kwargs)

    monkeypatch.setattr(MeteringHandler, "on_llm_end", on_llm_end)
    llm_metering.install(subject="acme")

    async def main():
        stream = gpt(provider).astream(prompt("acme"))
        await anext(stream)
        llm_metering.uninstall()
        return [chunk async for chunk in stream]

    asyncio.run(main())

    assert threads == [threading.get_ident()]


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_switched_off_it_is_called_no_more(asynchronous, default_meter, provider, monkeypatch):
    """It stays registered; LangChain would call it in a thread for each hook of an async run."""
    llm_metering.install()
    llm_metering.uninstall()
    called = []
    for name in dir(BaseCallbackHandler):
        if name.startswith("on_") and name != "on_text":
            monkeypatch.setattr(
                global_handler._GlobalHandler,
                name,
                lambda *args, name=name, **kwargs: called.append(name),
            )
    chain = RunnableLambda(lambda text: text) | gpt(provider)
    if asynchronous:
        asyncio.run(chain.ainvoke("x"))
    else:
        chain.invoke("x")

    assert called == []
