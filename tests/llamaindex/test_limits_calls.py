"""Calls of models that are held to balances: who is asked, what is reserved, what is given back."""

from __future__ import annotations

import asyncio
import pickle
import sqlite3
import threading
from contextlib import closing

import httpx
import pytest
from llama_index.core import PromptTemplate, Settings, SummaryIndex
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.callbacks import CallbackManager
from llama_index.core.llms import ChatMessage, ChatResponse, CustomLLM, LLMMetadata
from llama_index.core.schema import Document
from llama_index.core.workflow import StartEvent, StopEvent, Workflow, step

import llm_metering
from llm_metering import BalanceExceeded, Meter
from llm_metering.errors import ConfigurationError, LimitsUnavailable, MissingSubjectError
from llm_metering.limits import gate as gates
from llm_metering.llamaindex import MeteringHandler, bind
from tests.books import prompt
from tests.llamaindex.asking import WAYS, messages
from tests.llamaindex.clients import CLIENTS
from tests.llamaindex.entry_points import TOOL, Answer
from tests.llamaindex.limiting import configured, is_clean, limited, manager, used

__all__ = ["configured", "limited"]

every_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
ASK = messages(prompt("acme"))


def gpt(provider, behaviour="", **options):
    return CLIENTS["openai_like"](provider, behaviour, **options)


@pytest.mark.parametrize(
    ("options", "parameters", "expected"),
    [
        ({}, {}, 1024),
        ({"max_tokens": 300}, {}, 300),
        ({"max_tokens": 300}, {"max_tokens": 70}, 70),
        ({"additional_kwargs": {"max_completion_tokens": 80}}, {}, 80),
        ({"max_tokens": 50, "additional_kwargs": {"n": 2}}, {}, 100),
    ],
)
def test_the_most_that_may_come_out_is_what_the_call_says(
    options, parameters, expected, limited, provider
):
    """The call goes before the model, and the ceiling holds where neither says so."""
    limited.grant("acme", 1)
    llm = gpt(provider, callback_manager=manager("acme"), **options)
    with pytest.raises(BalanceExceeded) as caught:
        llm.chat(messages(""), **parameters)
    assert expected <= caught.value.needed < expected + 20


def test_a_structured_model_needs_what_the_model_inside_needs(limited, provider):
    limited.grant("acme", 1)
    llm = gpt(provider, "tools", max_tokens=60, callback_manager=manager("acme"))
    with pytest.raises(BalanceExceeded) as caught:
        llm.as_structured_llm(Answer).chat(messages(""))
    assert 60 <= caught.value.needed < 200
    assert provider.entries == []
    is_clean(limited, refused=1)


def test_what_is_reserved_during_a_call_is_its_estimate(limited, provider):
    """Nobody else gets it meanwhile."""
    limited.grant("acme", 1_000)
    llm = gpt(provider, max_tokens=200, callback_manager=manager("acme"))
    seen = {limited.limits.balance("acme").reserved for _ in llm.stream_chat(ASK)}
    (reserved,) = seen
    assert 200 < reserved < 230
    is_clean(limited, refused=0)


@every_way
def test_handlers_together_reserve_once(way, limited, provider):
    """A global one and one of the model's own: a balance that covers one call covers it."""
    limited.grant("acme", 100)
    llm_metering.install("acme", enforce=True)
    way(gpt(provider, max_tokens=60, callback_manager=manager("acme")), prompt("acme"))
    assert limited.balance("acme").used == used(provider)
    is_clean(limited, refused=0)


@every_way
@pytest.mark.parametrize("theirs", [2_000, 5], ids=["covered", "not covered"])
def test_who_pays_by_the_inner_handler_is_asked(way, theirs, limited, provider):
    """Not who pays for all else, though that one's handler enforces and this one does not."""
    limited.grant("shared", 2_000)
    limited.grant("acme", theirs)
    llm_metering.install("shared", enforce=True)
    llm = gpt(provider, callback_manager=manager("acme", enforce=False))
    if theirs == 5:
        with pytest.raises(BalanceExceeded, match="acme has 5"):
            way(llm, prompt("acme"))
        assert provider.entries == []
    else:
        way(llm, prompt("acme"))
    is_clean(limited, refused=int(theirs == 5))
    assert limited.balance("shared").used == 0
    assert limited.balance("acme").used == used(provider)


def test_a_meter_of_its_own_beside_everybodys(limited, provider, tmp_path):
    """Both hold the call to the balance that is in their store, and both settle it."""
    with Meter(tmp_path / "own", (), limits="on", request_stream_usage=True) as own:
        limited.grant("acme", 5)
        own.grant("acme", 10_000)
        llm_metering.install("acme", enforce=True)
        llm = gpt(provider, callback_manager=manager("acme", meter=own))
        with pytest.raises(BalanceExceeded, match="acme has 5"):
            llm.chat(ASK)
        assert provider.entries == []
        own.gate.close()  # the last one that gives back closes the note of the call
        is_clean(limited, refused=1)
        is_clean(own, refused=1)
        limited.grant("acme", 10_000)
        llm.chat(ASK)
        assert own.balance("acme").used == limited.balance("acme").used == used(provider)
        is_clean(limited, refused=1)
        is_clean(own, refused=1)


class Wordless(CustomLLM):
    """A model of the user's own of whose calls LlamaIndex tells nothing but their spans."""

    url: str

    @property
    def metadata(self):
        return LLMMetadata(context_window=10_000, model_name="gpt-x")

    def complete(self, prompt, formatted=False, **kwargs):
        raise NotImplementedError

    def stream_complete(self, prompt, formatted=False, **kwargs):
        raise NotImplementedError

    def chat(self, messages, **kwargs):
        return self._ask(messages)

    async def achat(self, messages, **kwargs):
        return await asyncio.to_thread(self._ask, messages)

    def _ask(self, messages):
        body = {"model": "gpt-x", "messages": [{"role": "user", "content": messages[0].content}]}
        raw = httpx.post(f"{self.url}/chat/completions", json=body, trust_env=False).json()
        text = raw["choices"][0]["message"]["content"]
        return ChatResponse(message=ChatMessage(role="assistant", content=text), raw=raw)


@pytest.mark.parametrize("way", ["chat", "achat"])
def test_a_call_of_which_nothing_is_told_is_held_as_well(way, limited, provider, events_of):
    """The first one too, when nobody knows yet that nothing will be told."""
    llm = bind(Wordless(url=provider.openai_url), "acme", enforce=True)
    for _ in range(2):
        with pytest.raises(BalanceExceeded):
            WAYS[way](llm, prompt("acme"))
    assert provider.entries == []
    limited.grant("acme", 1_100)
    WAYS[way](llm, prompt("acme"))
    (event,) = events_of(limited)
    assert event.data["reservation_id"]
    assert limited.balance("acme").used == used(provider)
    is_clean(limited, refused=2)


def test_a_class_that_is_made_later_is_held_as_well(limited, provider):
    """What it writes itself is watched, too."""
    llm_metering.install("acme", enforce=True)

    class Later(Wordless):
        def chat(self, messages, **kwargs):
            return self._ask(messages)

    with pytest.raises(BalanceExceeded):
        Later(url=provider.openai_url).chat(ASK)
    limited.grant("acme", 1_100)
    Later(url=provider.openai_url).chat(ASK)
    assert limited.balance("acme").used == used(provider) > 0
    is_clean(limited, refused=1)


def test_a_stream_that_is_left_is_settled(limited, provider):
    limited.grant("acme", 10_000)
    stream = gpt(provider, callback_manager=manager("acme")).stream_chat(ASK)
    next(stream)
    stream.close()
    limited.flush()
    balance = limited.balance("acme")
    assert (balance.reserved, balance.used > 0) == (0, True)
    is_clean(limited, refused=0)


@pytest.mark.parametrize("name", ["stream_chat", "stream_complete"])
def test_a_stream_that_is_never_read_is_given_back(name, limited, provider):
    """OpenAI is asked at the first step."""
    limited.grant("acme", 10_000)
    asked = ASK if name == "stream_chat" else "?"
    getattr(gpt(provider, callback_manager=manager("acme")), name)(asked)
    assert provider.entries == []
    is_clean(limited, refused=0)
    assert limited.balance("acme").available == 10_000


@every_way
def test_what_the_provider_refused_is_given_back(way, limited, provider):
    limited.grant("acme", 10_000)
    with pytest.raises(Exception, match="429"):
        way(gpt(provider, "refuse429", callback_manager=manager("acme")), prompt("acme"))
    is_clean(limited, refused=1)
    assert limited.balance("acme").available == 10_000


def test_many_at_once_never_reserve_more_than_there_is(limited, provider):
    """Of ten calls that begin together, three fit in."""
    limited.grant("acme", 350)
    llm = gpt(provider, "slow100", max_tokens=80, callback_manager=manager("acme"))

    async def main():
        return await asyncio.gather(*[llm.achat(ASK) for _ in range(10)], return_exceptions=True)

    refused = [each for each in asyncio.run(main()) if isinstance(each, BalanceExceeded)]
    assert (len(refused), len(provider.entries)) == (7, 3)
    assert limited.balance("acme").used == used(provider)
    is_clean(limited, refused=7)


def test_an_engine_holds_the_calls_inside_of_it(limited, provider):
    limited.grant("acme", 5)
    engine = SummaryIndex.from_documents([Document(text="Berlin.")]).as_query_engine(
        llm=gpt(provider)
    )
    engine.callback_manager.add_handler(MeteringHandler("acme", enforce=True))
    with pytest.raises(BalanceExceeded):
        engine.query("?")
    assert provider.entries == []
    is_clean(limited, refused=1)


def test_a_workflow_fails_where_the_balance_ends(limited, provider):
    limited.grant("acme", 200)
    llm = gpt(provider, max_tokens=100, callback_manager=manager("acme"))

    class Twice(Workflow):
        @step
        async def ask(self, event: StartEvent) -> StopEvent:
            for _ in range(20):
                await llm.achat(ASK)
            return StopEvent()

    async def main():
        await Twice().run()

    with pytest.raises(BalanceExceeded):
        asyncio.run(main())
    assert 0 < len(provider.entries) < 20
    assert limited.balance("acme").used == used(provider)
    is_clean(limited, refused=1)


@every_way
def test_an_async_call_does_not_ask_the_store_on_its_loop(way, limited, provider, monkeypatch):
    """Whoever asks is a thread of ours, and the loop waits for none."""
    limited.grant("acme", 10_000)
    asked, waited = [], []
    admit, reserve = gates.Gate.admit, limited.limits.store.reserve

    def waiting(self, call):
        waited.append(call)
        return admit(self, call)

    def reserving(hold):
        asked.append(threading.current_thread().name)
        return reserve(hold)

    monkeypatch.setattr(gates.Gate, "admit", waiting)
    monkeypatch.setattr(limited.limits.store, "reserve", reserving)
    way(gpt(provider, callback_manager=manager("acme")), prompt("acme"))
    (thread,) = asked
    is_async = way.__name__.startswith("a")
    assert thread.startswith("llm-metering-limits") is is_async
    assert len(waited) == int(not is_async)


def test_an_agent_does_not_ask_the_store_on_its_loop(limited, provider, monkeypatch):
    limited.grant("acme", 100_000)
    waited = []
    admit = gates.Gate.admit
    monkeypatch.setattr(
        gates.Gate, "admit", lambda self, call: waited.append(call) or admit(self, call)
    )
    llm = gpt(provider, "tools", callback_manager=manager("acme"))

    async def main():
        await FunctionAgent(llm=llm, tools=[TOOL]).run(user_msg=prompt("acme"))

    asyncio.run(main())
    assert waited == []
    assert limited.balance("acme").used == used(provider) > 0


def test_a_task_that_is_cancelled_while_it_waits_reserves_nothing(limited, provider, monkeypatch):
    """Nobody asked the provider, and what the thread reserves by then is given back."""
    limited.grant("acme", 10_000)
    asked, go_on = threading.Event(), threading.Event()
    reserve = limited.limits.store.reserve

    def slow(hold):
        asked.set()
        go_on.wait()
        return reserve(hold)

    monkeypatch.setattr(limited.limits.store, "reserve", slow)
    llm = gpt(provider, callback_manager=manager("acme"))

    async def main():
        task = asyncio.create_task(llm.achat(ASK))
        await asyncio.to_thread(asked.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go_on.set()

    asyncio.run(main())
    assert provider.entries == []
    is_clean(limited, refused=0)


@pytest.mark.parametrize("policy", ["allow", "refuse"])
@pytest.mark.parametrize("way", ["chat", "achat", "stream_complete"])
def test_a_store_that_is_broken(policy, way, configured, home, provider):
    """By default calls go on, and are counted once; a setting refuses them."""
    meter = configured(on_limit_store_error=policy)
    meter.grant("acme", 10_000)
    llm = gpt(provider, callback_manager=manager("acme"))
    with closing(sqlite3.connect(home / "limits.db")) as database:
        database.execute("ALTER TABLE reservations RENAME TO gone")
    if policy == "refuse":
        with pytest.raises(LimitsUnavailable):
            WAYS[way](llm, prompt("acme"))
        assert provider.entries == []
    else:
        WAYS[way](llm, prompt("acme"))
        assert len(provider.entries) == 1
        assert meter.statistics()["unchecked_calls"] == 1
    with closing(sqlite3.connect(home / "limits.db")) as database:
        database.execute("ALTER TABLE gone RENAME TO reservations")
    assert meter.balance("acme").used == used(provider)


def test_without_enforce_nothing_is_refused_and_all_is_burnt(limited, provider):
    limited.grant("acme", 5)
    gpt(provider, callback_manager=manager("acme", enforce=False)).chat(ASK)
    balance = limited.balance("acme")
    assert (balance.used, balance.overage) == (used(provider), used(provider) - 5)


def test_uninstall_ends_it(limited, provider):
    limited.grant("acme", 5)
    llm_metering.install("acme", enforce=True)
    llm_metering.uninstall()
    llm_metering.install("acme")
    gpt(provider).chat(ASK)
    assert limited.balance("acme").used == used(provider)


def test_the_setting_enforces_everywhere(configured, provider):
    configured(enforce=True).grant("acme", 5)
    with pytest.raises(BalanceExceeded):
        gpt(provider, callback_manager=manager("acme", enforce=False)).chat(ASK)
    assert provider.entries == []


@every_way
def test_a_setting_that_comes_later_holds_as_well(way, configured, provider):
    """The handler was made before anybody thought of limits."""
    configured(limits="off")
    llm = gpt(provider, callback_manager=manager("acme", enforce=False))
    meter = configured(enforce=True)
    for _ in range(2):
        with pytest.raises(BalanceExceeded):
            way(llm, prompt("acme"))
    assert provider.entries == []
    meter.grant("acme", 1_100)
    way(llm, prompt("acme"))
    assert meter.balance("acme").used == used(provider)
    is_clean(meter, refused=2)


def test_nobody_is_refused_for_the_reason_that_is_first(configured, provider):
    meter = configured(on_missing_subject="raise")
    llm = gpt(provider, callback_manager=manager(None))
    with pytest.raises(MissingSubjectError):
        llm.chat(ASK)
    is_clean(meter, refused=1)


def test_a_handler_that_enforces_makes_the_default_meter_anew(home, provider, monkeypatch):
    """No setting says anything of limits, and one argument is enough."""
    monkeypatch.setenv("LLM_METERING_HOME", str(home))
    try:
        llm = gpt(provider, callback_manager=manager("acme"))
        llm_metering.grant("acme", 5)
        with pytest.raises(BalanceExceeded):
            llm.chat(ASK)
        assert llm_metering.balance("acme").available == 5
    finally:
        llm_metering.close()


def test_a_meter_without_limits_enforces_nothing(home, provider):
    with Meter(home, ()) as meter:
        with pytest.raises(ConfigurationError, match="limits='on'"):
            MeteringHandler("acme", meter=meter, enforce=True)
        with pytest.raises(ConfigurationError, match="limits='on'"):
            bind(gpt(provider), "acme", meter=meter, enforce=True)


def test_a_handler_is_pickled_with_its_strictness(limited, provider):
    limited.grant("acme", 5)
    handler = MeteringHandler("acme", enforce=True)
    dumped = pickle.dumps(handler)
    del handler
    copy = pickle.loads(dumped)
    with pytest.raises(BalanceExceeded):
        gpt(provider, callback_manager=CallbackManager([copy])).chat(ASK)


def test_a_model_of_everybodys_is_held_by_who_pays(limited, provider):
    """`subject()` names who pays, and each has a balance of its own."""
    limited.grant("acme", 2_000)
    limited.grant("globex", 5)
    llm_metering.install(enforce=True)
    Settings.llm = gpt(provider)
    with llm_metering.subject("acme"):
        Settings.llm.predict(PromptTemplate("{asked}"), asked=prompt("acme"))
    with llm_metering.subject("globex"), pytest.raises(BalanceExceeded, match="globex"):
        Settings.llm.predict(PromptTemplate("{asked}"), asked=prompt("globex"))
    with pytest.raises(BalanceExceeded, match="unattributed"):
        Settings.llm.chat(ASK)
    assert len(provider.entries) == 1
    is_clean(limited, refused=2)
