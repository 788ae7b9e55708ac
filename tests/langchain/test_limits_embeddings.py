"""`metered_embeddings(enforce=True)`: texts that a balance does not cover are not embedded."""

from __future__ import annotations

import asyncio
import pickle

import pytest
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_openai import OpenAIEmbeddings
from pydantic import Field

import llm_metering
from llm_metering import BalanceExceeded
from llm_metering.langchain import metered_embeddings
from llm_metering.limits import Gate

TEXTS = ["one", "two and a bit", "three"]


class Counted(DeterministicFakeEmbedding):
    """A model of no provider that we know; it counts how often it is asked."""

    asked: list[str] = Field(default_factory=list)

    def embed_documents(self, texts):
        self.asked.extend(texts)
        return super().embed_documents(texts)

    def embed_query(self, text):
        self.asked.append(text)
        return super().embed_query(text)


@pytest.fixture
def limited(home, sink):
    """The default meter, with balances."""
    yield llm_metering.configure(home=home, sinks=[sink], limits="on", limit_deadline=30)
    llm_metering.close()


@pytest.fixture(params=["tapped", "not tapped"])
def model(request, provider):
    """A model, and what tells how often its provider was asked."""
    if request.param == "not tapped":
        model = Counted(size=4)
        return model, lambda: model.asked
    model = OpenAIEmbeddings(
        model="embed-x",
        base_url=provider.openai_url,
        api_key="x",
        max_retries=0,
        check_embedding_ctx_length=False,
        default_headers={"Connection": "close"},
    )
    return model, lambda: provider.entries


WAYS = {
    "documents": lambda model: model.embed_documents(TEXTS),
    "query": lambda model: model.embed_query("one"),
    "documents, async": lambda model: asyncio.run(model.aembed_documents(TEXTS)),
    "query, async": lambda model: asyncio.run(model.aembed_query("one")),
}
every_way = pytest.mark.parametrize("way", WAYS.values(), ids=list(WAYS))


@every_way
def test_what_is_not_covered_is_not_asked_for(way, model, limited):
    model, asked = model
    embeddings = metered_embeddings(model, "acme", enforce=True)
    limited.grant("other", 1000)
    with pytest.raises(BalanceExceeded, match="acme has no grant"):
        way(embeddings)
    assert not asked()
    limited.flush()
    seen = limited.statistics()
    assert (len(limited.calls), seen["recorded"], seen["failures"]) == (0, 0, 0)
    assert seen["refused_calls"] == 1

    limited.grant("acme", 1000)
    way(embeddings)  # what was refused before is not in the way
    assert asked()


@every_way
def test_what_is_covered_is_burnt(way, model, limited):
    model, _ = model
    limited.grant("acme", 1000)
    way(metered_embeddings(model, "acme", enforce=True))
    balance = limited.balance("acme")
    assert balance.used == limited.usage(subject="acme").rows[0].value > 0
    assert balance.reserved == 0
    limited.gate.close()
    assert limited.limits.reservations() == []


def test_a_fault_of_ours_loses_no_call(model, limited, monkeypatch):
    model, asked = model
    limited.grant("acme", 1000)

    def admit(self, call):
        raise RuntimeError("ours")

    monkeypatch.setattr(Gate, "admit", admit)
    metered_embeddings(model, "acme", enforce=True).embed_documents(TEXTS)
    limited.flush()
    assert asked()
    assert limited.balance("acme").used > 0
    assert limited.statistics()["failures"] == 1


def test_ctrl_c_while_a_call_waits_leaves_nothing(model, limited, monkeypatch):
    model, asked = model
    limited.grant("acme", 1000)

    def interrupted(hold):
        raise KeyboardInterrupt

    monkeypatch.setattr(limited.limits.store, "reserve", interrupted)
    with pytest.raises(KeyboardInterrupt):
        metered_embeddings(model, "acme", enforce=True).embed_documents(TEXTS)
    assert not asked()
    limited.gate.close()
    limited.flush()
    assert (len(limited.calls), limited.statistics()["recorded"]) == (0, 0)


def test_what_is_unpickled_enforces_as_well(limited):
    model = metered_embeddings(Counted(size=4), "acme", enforce=True)
    copy = pickle.loads(pickle.dumps(model))
    with pytest.raises(BalanceExceeded):
        copy.embed_query("one")


def test_many_texts_need_more_than_one(model, limited):
    """What goes in is counted, and nothing comes out."""
    model, asked = model
    limited.grant("acme", 10)
    embeddings = metered_embeddings(model, "acme", enforce=True)
    with pytest.raises(BalanceExceeded) as caught:
        embeddings.embed_documents(["a word or two"] * 50)
    assert 10 < caught.value.needed < 50 * 14
    assert not asked()
