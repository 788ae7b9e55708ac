"""Embeddings and rerankers are held to balances, too."""

from __future__ import annotations

import asyncio
import threading

import pytest
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.postprocessor import LLMRerank

import llm_metering
from llm_metering import BalanceExceeded, subject
from llm_metering.limits import gate as gates
from llm_metering.llamaindex import bind
from tests.llamaindex.clients import CLIENTS
from tests.llamaindex.embedders import EMBEDDERS, WAYS, every_way
from tests.llamaindex.limiting import configured, is_clean, limited, manager, tokens, used
from tests.llamaindex.test_rerankers import NODES, QUERY, HttpRerank, at_once, in_a_loop

__all__ = ["configured", "limited"]

TEXTS = ["[subject:acme] one", "[subject:acme] two", "[subject:acme] three"]


@every_way
@pytest.mark.parametrize("installed", [False, True], ids=["handler", "global"])
@pytest.mark.parametrize("name", ["openai", "http"])
def test_embeddings_that_are_not_covered(name, way, installed, limited, provider):
    """What is needed is counted from the texts, and the provider is not asked."""
    limited.grant("acme", 2)
    options = {}
    if installed:
        llm_metering.install("acme", enforce=True)
    else:
        options["callback_manager"] = manager("acme")

    with pytest.raises(BalanceExceeded) as caught:
        WAYS[way](EMBEDDERS[name](provider, **options), TEXTS)

    assert provider.entries == []
    assert 2 < caught.value.needed < 100
    seen = limited.statistics()
    is_clean(limited, refused=seen["refused_calls"])
    assert limited.balance("acme").available == 2


@every_way
@pytest.mark.parametrize("name", ["openai", "http"])
def test_embeddings_that_are_covered(name, way, limited, provider, events_of):
    limited.grant("acme", 10_000)

    WAYS[way](EMBEDDERS[name](provider, callback_manager=manager("acme")), TEXTS)

    balance = limited.balance("acme")
    events = events_of(limited)
    assert (balance.used, balance.reserved) == (used(provider), 0)
    assert tokens(events) == used(provider) > 0
    assert len({event.data["reservation_id"] for event in events}) == len(provider.entries)
    is_clean(limited, refused=0)


class Outer(BaseEmbedding):
    """Has another one embed."""

    inner: BaseEmbedding

    def _get_text_embedding(self, text):
        return self.inner._get_text_embedding(text)

    def _get_query_embedding(self, query):
        return self.inner._get_query_embedding(query)

    async def _aget_query_embedding(self, query):
        return await self.inner._aget_query_embedding(query)


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_one_inside_of_another_takes_over_what_is_reserved(
    asynchronous, limited, provider, monkeypatch
):
    """A balance that covers one call is enough, and is asked once."""
    text = TEXTS[0]
    outer = Outer(inner=EMBEDDERS["http"](provider))
    with pytest.raises(BalanceExceeded) as caught:
        bind(outer, "acme", enforce=True).get_query_embedding(text)
    limited.grant("acme", caught.value.needed)
    holds = []
    reserve = limited.limits.store.reserve
    monkeypatch.setattr(
        limited.limits.store, "reserve", lambda hold: holds.append(hold) or reserve(hold)
    )

    if asynchronous:
        asyncio.run(outer.aget_query_embedding(text))
    else:
        outer.get_query_embedding(text)

    assert len(holds) == 1
    assert limited.balance("acme").used == used(provider) > 0
    is_clean(limited, refused=1)


def test_what_one_request_did_not_need_is_there_for_the_next(limited, provider, events_of):
    """An integration that makes a request of each text: all of it is reserved before the first."""
    limited.grant("acme", 10_000)
    embedding = EMBEDDERS["http"](provider, each=True, callback_manager=manager("acme"))
    for _ in range(2):
        embedding.get_text_embedding_batch(TEXTS)
    assert len(events_of(limited)) == 6
    assert limited.balance("acme").used == used(provider)
    is_clean(limited, refused=0)


def test_what_the_provider_refused_is_given_back(limited, provider):
    limited.grant("acme", 10_000)
    embedding = EMBEDDERS["http"](provider, callback_manager=manager("acme"))
    with pytest.raises(Exception, match="400"):
        embedding.get_text_embedding("[subject:acme] bad|refuse400")
    is_clean(limited, refused=1)
    assert limited.balance("acme").available == 10_000


def test_an_event_loop_does_not_wait_for_embeddings(limited, provider, monkeypatch):
    """Whoever asks the store is a thread of ours."""
    limited.grant("acme", 10_000)
    threads = []
    admit = gates.Gate._admit
    monkeypatch.setattr(
        gates.Gate,
        "_admit",
        lambda self, call, *more: (
            threads.append(threading.current_thread().name) or admit(self, call, *more)
        ),
    )
    waits = gates.Gate.admit
    monkeypatch.setattr(
        gates.Gate, "admit", lambda self, call: threads.append("waits") or waits(self, call)
    )
    embedding = EMBEDDERS["openai"](provider, callback_manager=manager("acme"))
    asyncio.run(embedding.aget_query_embedding(TEXTS[0]))
    (thread,) = threads
    assert thread.startswith("llm-metering-limits")


def test_a_task_that_is_cancelled_while_it_waits_embeds_nothing(limited, provider, monkeypatch):
    """What the thread reserves by then is given back."""
    limited.grant("acme", 10_000)
    asked, go_on = threading.Event(), threading.Event()
    reserve = limited.limits.store.reserve

    def slow(hold):
        asked.set()
        go_on.wait()
        return reserve(hold)

    monkeypatch.setattr(limited.limits.store, "reserve", slow)
    embedding = EMBEDDERS["openai"](provider, callback_manager=manager("acme"))

    async def main():
        task = asyncio.create_task(embedding.aget_query_embedding(TEXTS[0]))
        await asyncio.to_thread(asked.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go_on.set()

    asyncio.run(main())
    assert provider.entries == []
    is_clean(limited, refused=0)


@every_way
def test_ctrl_c_while_a_call_waits_leaves_nothing(way, limited, provider, monkeypatch):
    limited.grant("acme", 1000)

    def interrupted(hold):
        raise KeyboardInterrupt

    embedder = EMBEDDERS["openai"](provider, callback_manager=manager("acme"))
    with monkeypatch.context() as patch:
        patch.setattr(limited.limits.store, "reserve", interrupted)
        with pytest.raises(KeyboardInterrupt):
            WAYS[way](embedder, TEXTS)
    assert provider.entries == []
    is_clean(limited, refused=0)


@pytest.mark.parametrize("way", [at_once, in_a_loop])
def test_a_reranker_that_is_not_covered_is_not_asked(way, limited, provider):
    """Without a grant; nobody knows how many tokens it would use, so one is enough."""
    reranker = bind(HttpRerank(url=provider.url), "acme", enforce=True)

    with pytest.raises(BalanceExceeded):
        way(reranker)
    assert provider.entries == []
    is_clean(limited, refused=1)

    limited.grant("acme", 1)
    way(reranker)
    assert len(provider.entries) == 1
    is_clean(limited, refused=1)


def test_a_reranker_that_asks_a_model_is_refused_there(limited, provider):
    limited.grant("acme", 50)
    llm_metering.install(enforce=True)
    reranker = LLMRerank(llm=CLIENTS["openai_like"](provider), top_n=1)
    with subject("acme"), pytest.raises(BalanceExceeded):
        reranker.postprocess_nodes(NODES, query_str=QUERY)
    assert provider.entries == []
    is_clean(limited, refused=1)
    assert limited.balance("acme").available == 50
