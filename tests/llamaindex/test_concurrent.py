"""Five hundred calls at once: every one on its own bill, whatever the others do.

From threads and from an event loop together, by twenty customers, with models of five kinds, at once
and in pieces, directly and through a query engine and an agent. The provider's books say what each
customer owes.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import AsyncIterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import pytest

import llm_metering
from llm_metering import subject
from tests.books import booked, metered
from tests.llamaindex.asking import generated
from tests.llamaindex.clients import CLIENTS
from tests.llamaindex.entry_points import ENTRY_POINTS

CALLS = 500
SUBJECTS = 20
THREADS = 50
READER = "customer-of-nobody"
"""Streams are read for somebody else, which is not who pays."""
MODELS = ("openai", "openai_like", "responses", "ollama", "custom")
IN_THREADS = (
    *(("chat", "sync"), ("chat", "stream"), ("complete", "sync"), ("complete", "stream")),
    *(("query engine", "sync"), ("query engine", "stream"), ("predict", "stream")),
)
IN_LOOP = (
    *(("chat", "async"), ("chat", "async stream"), ("complete", "async")),
    *(("complete", "async stream"), ("query engine", "async"), ("query engine", "async stream")),
    ("FunctionAgent", "async stream"),
)


class Call(NamedTuple):
    """One of the calls: for whom, and how."""

    subject: str
    model: str
    entry: str
    way: str

    @property
    def asked(self) -> str:
        return f"Work for [subject:{self.subject}]."

    def enter(self, models: dict[str, Any]) -> Any:
        return ENTRY_POINTS[self.entry][self.way](models[self.model], self.asked)


def make_calls(chance: random.Random, ways: tuple[tuple[str, str], ...]) -> list[Call]:
    calls = []
    for _ in range(CALLS // 2):
        entry, way = chance.choice(ways)
        # A model that is no `FunctionCallingLLM` takes no tools.
        models = MODELS[:-1] if entry == "FunctionAgent" else MODELS
        name = f"customer-{chance.randrange(SUBJECTS)}"
        calls.append(Call(name, chance.choice(models), entry, way))
    return calls


def run_in_thread(models: dict[str, Any], call: Call) -> None:
    with subject(call.subject):
        answer = call.enter(models)
    with subject(READER):
        assert call.way != "stream" or list(answer)


async def run_in_loop(models: dict[str, Any], call: Call) -> None:
    with subject(call.subject):
        answer = await call.enter(models)
        if hasattr(answer, "async_response_gen"):
            answer = answer.async_response_gen()
    with subject(READER):
        assert not isinstance(answer, AsyncIterable) or [piece async for piece in answer]


def run_all(provider: Any, in_threads: list[Call], in_loop: list[Call]) -> None:
    # One model of each kind for all customers, as an application has it.
    models = {name: CLIENTS[name](provider, "tools+slow5") for name in MODELS}

    async def main() -> None:
        await asyncio.gather(*(run_in_loop(models, call) for call in in_loop))

    with ThreadPoolExecutor(THREADS + 1) as pool:
        begun = [pool.submit(asyncio.run, main())]
        begun += [pool.submit(run_in_thread, models, call) for call in in_threads]
        for each in begun:
            each.result()


@pytest.mark.timeout(300)
def test_five_hundred_calls_at_once(provider, streams_ask, events_of):
    """Each customer's events are, count for count, what the provider booked for that customer."""
    chance = random.Random(20_261_122)
    in_threads, in_loop = make_calls(chance, IN_THREADS), make_calls(chance, IN_LOOP)
    llm_metering.install()
    run_all(provider, in_threads, in_loop)

    owed, billed = defaultdict(Counter), defaultdict(Counter)
    for entry in provider.entries:
        owed[entry.subject][booked(entry)] += 1
    events = generated(events_of(streams_ask))
    for event in events:
        billed[event.subject][metered(event)] += 1
    assert len(owed) == SUBJECTS
    assert sum(map(Counter.total, owed.values())) >= CALLS
    assert billed == owed
    assert {(each.data["status"], each.data["provenance"]) for each in events} == {
        ("completed", "reported")
    }
    assert len(streams_ask.calls) == 0
    assert len({event.id for event in events}) == len(events)
