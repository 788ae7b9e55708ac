"""`install()`: every call of the process, in every thread, until `uninstall()`."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from langchain_core.callbacks import BaseCallbackHandler, CallbackManager
from langchain_core.runnables import RunnableLambda
from langchain_core.tracers import context

import llm_metering
from llm_metering import Meter, subject
from llm_metering.errors import ConfigurationError, MissingExtraError, SubjectError
from llm_metering.langchain import MeteringHandler
from llm_metering.sinks.memory import MemorySink
from tests.metering import count_of


@pytest.fixture
def subjects(default_meter, events_of):
    """Who paid so far, call by call."""
    return lambda: [event.subject for event in events_of(default_meter)]


def test_nothing_is_metered_before(default_meter, chat, subjects):
    """Importing and configuring meter no call by themselves."""
    chat().invoke("x")

    assert subjects() == []


def test_every_call_is_metered_until_it_is_undone(default_meter, chat, subjects):
    """Also after it was undone and done again."""
    llm = chat()
    llm_metering.install(subject="first")
    llm.invoke("x")
    llm_metering.uninstall()
    llm.invoke("x")
    llm_metering.install(subject="second")
    llm.invoke("x")

    assert subjects() == ["first", "second"]


def test_it_is_idempotent(default_meter, chat, subjects):
    """As often as it is called, a call is one event, and LangChain has one hook of ours."""
    llm_metering.install(subject="acme")
    hooks = len(context._configure_hooks)
    for _ in range(5):
        llm_metering.install()
    chat().invoke("x")
    for _ in range(5):
        llm_metering.uninstall()
    llm_metering.install()

    assert subjects() == ["acme"]
    assert len(context._configure_hooks) == hooks


def test_undoing_what_was_never_done_is_nothing():
    """No error, and no meter is made for it."""
    llm_metering.uninstall()
    llm_metering.uninstall()


def test_bare_threads_are_metered(default_meter, chat, subjects):
    """Threads and pools that copy no context, which a context variable of one's own would miss."""
    llm_metering.install(subject="house")
    llm = chat()

    thread = threading.Thread(target=llm.invoke, args=("x",))
    thread.start()
    thread.join()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(llm.invoke, ["y", "z"]))

    async def in_executor():
        await asyncio.get_running_loop().run_in_executor(None, llm.invoke, "x")

    asyncio.run(in_executor())

    assert subjects() == ["house"] * 4


class Other(BaseCallbackHandler):
    """A handler of somebody else's."""


@pytest.mark.parametrize(
    "callbacks",
    [
        pytest.param(lambda: None, id="none"),
        pytest.param(list, id="an empty list"),
        pytest.param(lambda: [Other()], id="somebody else's"),
        pytest.param(lambda: CallbackManager([]), id="an empty manager"),
        pytest.param(lambda: CallbackManager([Other()]), id="a manager"),
        pytest.param(lambda: CallbackManager([], inheritable_handlers=[Other()]), id="inheritable"),
        pytest.param(lambda: [MeteringHandler("acme")], id="one of ours"),
        pytest.param(lambda: CallbackManager([MeteringHandler("acme")]), id="ours in a manager"),
    ],
)
@pytest.mark.parametrize("nested", [False, True], ids=["alone", "in a chain"])
def test_whatever_callbacks_a_call_has(callbacks, nested, default_meter, chat, subjects):
    """Replacing the callbacks, as LangChain lets any caller do, takes no call out of the bill."""
    llm_metering.install(subject="acme")
    llm = chat()
    if nested:
        chain = RunnableLambda(lambda text: llm.invoke(text, {"callbacks": callbacks()}))
        chain.invoke("x")
    else:
        llm.invoke("x", {"callbacks": callbacks()})

    assert subjects() == ["acme"]


def test_a_stream_in_flight_when_it_is_undone_still_settles(
    default_meter, chat, events_of, model_server
):
    """Its end arrives after `uninstall()` and is exact."""
    llm_metering.install(subject="acme")
    before = model_server.wait_until_idle()
    chunks = chat().stream("x")
    next(chunks)
    llm_metering.uninstall()
    list(chunks)
    counted = model_server.wait_until_idle() - before

    (event,) = events_of(default_meter)
    assert (event.subject, event.data["provenance"]) == ("acme", "reported")
    assert event.data["output_tokens"] == counted.predicted
    assert default_meter.statistics()["open_calls"] == 0


@pytest.mark.parametrize("own", [None, "acme"], ids=["alone", "beside a handler"])
def test_a_stream_in_flight_when_it_is_installed(own, default_meter, chat, events_of):
    """The global handler meters calls from now on, and counts no piece of an older one twice."""
    llm_metering.install()
    llm_metering.uninstall()
    config = {"callbacks": [MeteringHandler(own)]} if own else {}
    chunks = chat(stream_usage=False).stream("x", config)
    received = [next(chunks), next(chunks)]
    llm_metering.install(subject="house")
    received.extend(chunks)

    events = events_of(default_meter)
    assert default_meter.statistics()["ignored_signals"] == {}
    if own:
        (event,) = events
        counted = count_of("x", "".join(chunk.content for chunk in received))
        assert (event.subject, event.data["output_tokens"]) == ("acme", counted.output_tokens)
    else:
        # LangChain tells it the end of a call whose start it was not told of: it is billed as
        # far as it is known, and says so.
        (event,) = events
        assert (event.subject, event.data["flags"]) == ("house", ["start_missing"])


def test_handlers_given_explicitly_stay(default_meter, chat, subjects):
    """`uninstall()` takes back `install()` and nothing else."""
    llm = chat(callbacks=[MeteringHandler("acme")])
    llm_metering.install()
    llm_metering.uninstall()
    llm.invoke("x")

    assert subjects() == ["acme"]


def test_a_notebook_that_is_run_again(home, chat):
    """Configured, installed and called anew, in one process: each call is one event."""
    for _ in range(3):
        llm_metering.configure(home=home, sinks=())
        llm_metering.install(subject="acme")
        with subject("cell", feature="plot"):
            chat().invoke("x")
        chat().invoke("x")

    try:
        report = llm_metering.usage("calls_total", group_by=["subject"])
        assert {row.subject: row.value for row in report} == {"acme": 3, "cell": 3}
    finally:
        llm_metering.uninstall()
        llm_metering.close()


def test_after_the_end_no_new_meter_is_made(home, chat, tmp_path, monkeypatch):
    """Uninstalled and closed, a call goes by without a home, a file or a log line of ours."""
    llm_metering.configure(home=home, sinks=())
    llm_metering.install(subject="acme")
    list(chat().stream("x"))
    llm_metering.uninstall()
    llm_metering.close()
    monkeypatch.setenv("LLM_METERING_HOME", str(tmp_path / "new"))

    list(chat().stream("x"))

    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", ["", " ", 42, b"acme"])
def test_a_bad_subject_is_refused_and_nothing_is_installed(name, default_meter, chat, subjects):
    """The error comes before anything is changed."""
    with pytest.raises(SubjectError):
        llm_metering.install(subject=name)
    chat().invoke("x")

    assert subjects() == []
    assert default_meter.subject is None


def test_a_bad_setting_is_told_and_nothing_is_installed(monkeypatch, tmp_path, chat):
    """A home that cannot be is an error here, not a log line in each call."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("LLM_METERING_HOME", str(tmp_path / "file" / "home"))

    with pytest.raises(ConfigurationError, match="home"):
        llm_metering.install()
    chat().invoke("x")


def test_without_a_framework_it_says_what_to_install():
    """Instead of an ImportError from somewhere inside."""
    script = """
        import sys
        from importlib.abc import MetaPathFinder
        class NoLangChain(MetaPathFinder):
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] == "langchain_core":
                    raise ModuleNotFoundError(name)
        import importlib.util
        importlib.util.find_spec = lambda name, package=None: None
        sys.meta_path.insert(0, NoLangChain())
        import llm_metering
        llm_metering.uninstall()
        for attempt in (llm_metering.install, lambda: __import__("llm_metering.langchain")):
            try:
                attempt()
            except llm_metering.MeteringError as error:
                print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False
    )

    any_framework = (
        "LangChain or LlamaIndex is not installed; run: pip install 'llm-metering[langchain]'"
        " or pip install 'llm-metering[llamaindex]'\n"
    )
    langchain = "langchain-core is not installed; run: pip install 'llm-metering[langchain]'\n"
    assert (done.stdout, done.stderr) == (any_framework + langchain, "")
    assert issubclass(MissingExtraError, ImportError)


def test_another_meters_handler_is_no_duplicate(default_meter, home, tmp_path, chat, subjects):
    """A handler with a meter of its own records there; the default meter has the same call too."""
    llm_metering.install(subject="house")
    with Meter(home=tmp_path / "other", sinks=["memory:"]) as other:
        chat().invoke("x", {"callbacks": [MeteringHandler("acme", meter=other)]})
        report = other.usage("calls_total", group_by=["subject"])

    assert [(row.subject, row.value) for row in report] == [("acme", 1)]
    assert subjects() == ["acme"]


def test_the_subject_of_install_outlives_configure(home, tmp_path, chat):
    """Who pays for all that nobody is named for does not change with where it is recorded."""
    sink = MemorySink()
    llm_metering.configure(home=home, sinks=())
    try:
        llm_metering.install(subject="house")
        meter = llm_metering.configure(home=tmp_path / "new", sinks=[sink])
        chat().invoke("x")
        meter.flush()
        llm_metering.uninstall()
        assert meter.subject is None
    finally:
        llm_metering.uninstall()
        llm_metering.close()

    assert [event.subject for event in sink.events] == ["house"]
