"""`MeteringHandler` in a callback manager: it says who pays, and stays where LlamaIndex drops it."""

from __future__ import annotations

import copy
import logging
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from llama_index.core import Document, Settings, SummaryIndex, set_global_handler
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.callbacks import CallbackManager, LlamaDebugHandler
from llama_index.core.query_engine import RetrieverQueryEngine

import llm_metering
from llm_metering import Meter
from llm_metering.errors import MeteringError, SubjectError
from llm_metering.llamaindex import MeteringHandler, bind
from llm_metering.sinks.memory import MemorySink
from tests.books import billed, owed, prompt
from tests.llamaindex.clients import CLIENTS

ASK = [ChatMessage(content=prompt("acme"))]


def manager(*handlers):
    return CallbackManager(list(handlers))


@pytest.fixture
def acme(meter):
    """A handler for acme."""
    return MeteringHandler("acme", meter=meter)


def test_a_model_with_a_handler_is_metered(provider, meter, acme, events_of):
    """One call is one event, of the handler's subject and with the provider's own counts."""
    llm = CLIENTS["openai"](provider, callback_manager=manager(acme))

    llm.chat(ASK)

    (event,) = events_of(meter)
    assert billed([event]) == owed(provider)
    assert event.data["framework"] == "llamaindex"
    assert (event.data["operation"], event.data["provenance"]) == ("chat", "reported")
    assert event.data["request_model"].startswith("ft:gpt-4o-mini")
    assert event.data["response_id"].startswith("chatcmpl-")


def test_a_model_without_a_handler_is_not(provider, meter, acme, events_of):
    """The handler holds for what it was given to, and for nothing else."""
    CLIENTS["openai"](provider, callback_manager=manager(acme))

    CLIENTS["openai"](provider).chat(ASK)

    assert events_of(meter) == []


def test_dimensions_and_the_meter_of_a_handler_hold(provider, home, acme, sink):
    """Another meter records, with the handler's dimensions."""
    other = MemorySink()
    with Meter(home=home.with_name("other"), sinks=[other]) as meter:
        handler = MeteringHandler("beta", meter=meter, feature="search")
        CLIENTS["openai"](provider, callback_manager=manager(handler)).chat(ASK)
        assert meter.flush()

    assert [(each.subject, each.data["feature"]) for each in other.events] == [("beta", "search")]
    assert sink.events == []


def test_the_handler_itself_counts_nothing(provider, meter, acme, events_of):
    """LlamaIndex tells callbacks and instrumentation of the same call: one of them counts."""
    debug = LlamaDebugHandler(print_trace_on_end=False)
    llm = CLIENTS["openai"](provider, callback_manager=manager(acme, debug))

    llm.chat(ASK)

    assert len(debug.get_llm_inputs_outputs()) == 1
    assert len(events_of(meter)) == 1


def test_a_query_engine_that_replaces_the_manager_takes_no_handler(
    provider, meter, acme, events_of
):
    """`BaseSynthesizer` puts its own callback manager into the model, before the first call."""
    llm = CLIENTS["openai"](provider, callback_manager=manager(acme))
    index = SummaryIndex.from_documents([Document(text="Berlin.")])

    index.as_query_engine(llm=llm, callback_manager=CallbackManager([])).query(prompt("acme"))
    llm.chat(ASK)  # it stays detached from it

    assert acme not in llm.callback_manager.handlers
    assert billed(events_of(meter)) == owed(provider)
    assert len(events_of(meter)) == 2


def test_a_model_of_settings_keeps_its_handler(provider, meter, acme, events_of):
    """Reading `Settings.llm` overwrites the manager, once `Settings` has one."""
    Settings.callback_manager = CallbackManager([])
    Settings.llm = CLIENTS["openai"](provider, callback_manager=manager(acme))

    Settings.llm.chat(ASK)

    assert billed(events_of(meter)) == owed(provider)


def test_the_handler_of_settings_holds_for_its_models(provider, meter, acme, events_of):
    """`Settings.callback_manager` is what most people set."""
    Settings.callback_manager = manager(acme)
    Settings.llm = CLIENTS["openai"](provider)

    Settings.llm.chat(ASK)
    SummaryIndex.from_documents([Document(text="Berlin.")]).as_query_engine().query(prompt("acme"))

    assert billed(events_of(meter)) == owed(provider)
    assert len(events_of(meter)) == 2


def test_the_handler_of_an_engine_holds_inside_of_it(provider, meter, acme, events_of):
    """Two engines of two customers share one model, and each pays for its own calls."""
    llm = CLIENTS["openai"](provider)
    index = SummaryIndex.from_documents([Document(text="Berlin.")])
    engines = {}
    for subject in ("acme", "beta"):
        handler = MeteringHandler(subject, meter=meter)
        engines[subject] = RetrieverQueryEngine.from_args(
            index.as_retriever(), llm=llm, callback_manager=manager(handler)
        )
        engines[subject].callback_manager = manager(handler)

    for subject in ("acme", "beta", "acme"):
        engines[subject].query(prompt(subject))

    assert billed(events_of(meter)) == owed(provider)
    assert {event.subject for event in events_of(meter)} == {"acme", "beta"}


def test_handlers_that_contradict_each_other_are_flagged(provider, meter, acme, events_of):
    """The first of one manager pays, and a model's own before that of the engine around it."""
    beta = MeteringHandler("beta", meter=meter)
    CLIENTS["openai"](provider, callback_manager=manager(acme, beta)).chat(ASK)
    llm = CLIENTS["openai"](provider, callback_manager=manager(acme))
    engine = SummaryIndex.from_documents([Document(text="Berlin.")]).as_query_engine(llm=llm)
    engine.callback_manager = manager(beta)
    engine.query(prompt("acme"))
    llm.chat(ASK)

    assert billed(events_of(meter)) == owed(provider)
    assert [event.data.get("flags") for event in events_of(meter)] == [
        ["subject_conflict"],
        ["subject_conflict"],
        None,
    ]


def test_the_users_own_word_is_the_last(provider, meter, acme, events_of):
    """A manager that the application assigns replaces the handler that was there before."""
    llm = CLIENTS["openai"](provider, callback_manager=manager(acme))

    llm.callback_manager = manager(MeteringHandler("beta", meter=meter))
    llm.chat([ChatMessage(content=prompt("beta"))])
    llm.callback_manager = CallbackManager([])
    llm.chat(ASK)

    assert {event.subject for event in events_of(meter)} == {"beta"}


COPIES = [
    pytest.param(copy.deepcopy, id="deepcopy"),
    pytest.param(copy.copy, id="copy"),
    pytest.param(lambda llm: llm.model_copy(), id="model_copy"),
    pytest.param(lambda llm: llm.model_copy(deep=True), id="model_copy deep"),
]
PICKLED = pytest.param(lambda llm: pickle.loads(pickle.dumps(llm)), id="pickle")


@pytest.mark.parametrize("copied", [*COPIES, PICKLED])
def test_a_copy_of_a_model_has_the_handler_itself(provider, meter, acme, events_of, copied, caplog):
    """LlamaIndex drops what it cannot pickle from the live object, and copies what it can."""
    llm = CLIENTS["openai_like"](provider, callback_manager=manager(acme))

    other = copied(llm)
    other.chat(ASK)
    llm.chat(ASK)

    assert acme in other.callback_manager.handlers
    assert acme in llm.callback_manager.handlers
    assert not [each for each in caplog.records if "callback_manager" in each.message]
    assert billed(events_of(meter)) == owed(provider)
    assert len(events_of(meter)) == 2


@pytest.mark.parametrize("copied", COPIES)
@pytest.mark.parametrize("by", ["bind", "engine"])
def test_a_copy_is_paid_by_who_pays_for_the_model(provider, meter, acme, events_of, copied, by):
    """What holds for a model beside its callback manager, pydantic knows nothing of."""
    llm = CLIENTS["openai_like"](provider, callback_manager=manager(*([acme] * (by == "engine"))))
    plain = llm.model_dump_json()
    if by == "bind":
        bind(llm, "acme", meter=meter)
    else:
        SummaryIndex([]).as_query_engine(llm=llm)
        assert acme not in llm.callback_manager.handlers

    copied(llm).chat(ASK)
    copied(copied(llm)).chat(ASK)

    assert billed(events_of(meter)) == owed(provider)
    assert llm.model_dump_json() == plain


def test_the_users_own_word_is_the_last_for_a_copy_as_well(provider, meter, acme, events_of):
    """A copy that is given another callback manager has no more of the first."""
    llm = bind(CLIENTS["openai_like"](provider), "beta", meter=meter).model_copy()

    llm.callback_manager = manager(acme)
    llm.chat(ASK)

    assert billed(events_of(meter)) == owed(provider)


def test_unpickled_elsewhere_it_records_with_the_meter_there(tmp_path, meter):
    """In another process it is a handler like it, for the same subject."""
    handler = MeteringHandler("acme", meter=meter, feature="search")
    code = (
        "import pickle, sys\n"
        "from llama_index.core.llms import MockLLM\n"
        "from llama_index.core.callbacks import CallbackManager\n"
        "import llm_metering\n"
        "handler = pickle.loads(bytes.fromhex(sys.argv[1]))\n"
        "assert pickle.loads(bytes.fromhex(sys.argv[1])) is handler\n"
        "MockLLM(callback_manager=CallbackManager([handler])).complete('hello')\n"
        "llm_metering.flush()\n"
        "rows = llm_metering.usage(meter='calls_total', group_by=['feature'], subject='acme')\n"
        "print([(row.subject, row.group_by, row.value) for row in rows])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, pickle.dumps(handler).hex()],
        env={"LLM_METERING_HOME": str(tmp_path / "there"), "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stdout.strip() == "[('acme', {'feature': 'search'}, 1)]", done.stderr


def test_threads_without_a_context_pay_for_who_the_model_is_bound_to(provider, meter, events_of):
    """`ThreadPoolExecutor` copies no context; a model that is bound needs none."""
    models = [
        bind(CLIENTS["openai"](provider), f"s{number}", meter=meter, feature="batch")
        for number in range(4)
    ]

    def ask(number):
        models[number % 4].chat([ChatMessage(content=prompt(f"s{number % 4}"))])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(24)))

    assert billed(events_of(meter)) == owed(provider)
    assert {event.data["feature"] for event in events_of(meter)} == {"batch"}


def test_what_is_bound_stays_bound(provider, meter, acme, events_of):
    """`bind` wins over the handler in the manager, and over a manager that LlamaIndex puts there."""
    llm = bind(CLIENTS["openai"](provider, callback_manager=manager(acme)), "beta", meter=meter)
    index = SummaryIndex.from_documents([Document(text="Berlin.")])

    llm.chat([ChatMessage(content=prompt("beta"))])
    index.as_query_engine(llm=llm).query(prompt("beta"))

    assert billed(events_of(meter)) == owed(provider)


def test_with_install_a_call_is_still_one_event(provider, default_meter, events_of):
    """The handler's own subject pays, not the process's."""
    llm_metering.install(subject="nobody in particular")
    llm = CLIENTS["openai"](provider, callback_manager=manager(MeteringHandler("acme")))

    llm.chat(ASK)

    assert billed(events_of(default_meter)) == owed(provider)


def test_two_meters_have_one_event_each_under_one_id(provider, meter, home, sink):
    """The handler's meter and that of `install()` both record the call, as the same one."""
    mine = MemorySink()
    llm_metering.configure(home=home.with_name("default"), sinks=[mine])
    try:
        llm_metering.install()
        handler = MeteringHandler("acme", meter=meter)
        CLIENTS["openai"](provider, callback_manager=manager(handler)).chat(ASK)
        assert meter.flush()
        assert llm_metering.flush()
    finally:
        llm_metering.uninstall()
        llm_metering.close()

    assert [each.id for each in mine.events] == [each.id for each in sink.events]
    assert [each.subject for each in mine.events] == ["acme"]


def test_a_subject_that_is_none_is_refused(meter):
    """At construction, not in the middle of a call where nobody would hear of it."""
    with pytest.raises(SubjectError):
        MeteringHandler("")
    with pytest.raises(MeteringError):
        MeteringHandler("acme", meter=meter, model="a key of the event's own")


def test_llamaindex_has_no_name_for_us():
    """`set_global_handler` knows a fixed list of names; `install()` is the way."""
    with pytest.raises(ValueError, match="not supported"):
        set_global_handler("llm_metering")


def test_a_handler_shows_its_subject_and_nothing_else(acme):
    """A repr ends up in logs."""
    assert repr(acme) == "MeteringHandler('acme')"


def test_calls_that_nobody_pays_for_can_be_refused(provider, home, sink, caplog):
    """With `on_missing_subject="raise"` no request is made; LlamaIndex swallows none of the refusals."""
    caplog.set_level(logging.CRITICAL)
    with Meter(home=Path(home), sinks=[sink], on_missing_subject="raise") as meter:
        llm = CLIENTS["openai"](provider, callback_manager=manager(MeteringHandler(meter=meter)))
        engine = SummaryIndex.from_documents([Document(text="Berlin.")]).as_query_engine(llm=llm)
        for ask in (
            lambda: llm.chat(ASK),
            lambda: list(llm.stream_chat(ASK)),
            lambda: llm.complete("?"),
            lambda: engine.query("?"),
        ):
            with pytest.raises(llm_metering.errors.MissingSubjectError):
                ask()
        assert provider.entries == []
        with llm_metering.subject("acme"):
            llm.chat(ASK)
        assert meter.flush()
        assert billed(sink.events) == owed(provider)
        assert meter.statistics()["refused_calls"] == 4
        assert meter.statistics()["open_calls"] == 0
