"""A thousand calls at once: every one on its own bill, whatever happens to the others.

From threads and from an event loop together, by fifty customers, a third of the calls streamed and
a tenth of them left at a random moment. The provider's books say what each of them cost.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from uuid import UUID, uuid4

import pytest
from langchain_core.messages import HumanMessage
from langchain_openai import ChatOpenAI
from openai import DefaultAsyncHttpxClient, DefaultHttpxClient

from llm_metering import Meter
from llm_metering.events import CloudEvent
from llm_metering.langchain import MeteringHandler
from llm_metering.sinks.memory import MemorySink
from tests.provider.client import Provider
from tests.provider.ledger import Entry

CALLS = 1_000
SUBJECTS = 50
THREADS = 100
PIECES = 8
LONGEST_WAIT = 3.0
PROVENANCES = {"reported", "partial", "estimated", "missing"}


@dataclass
class Call:
    """One of the calls, and what became of it."""

    number: int
    subject: str
    streamed: bool
    leaves_after: float | None
    """A share of the pieces in a thread, of the longest wait in a task; `None` to stay."""
    run_id: UUID = field(default_factory=uuid4)
    finished: bool = False

    @property
    def messages(self) -> list[HumanMessage]:
        return [HumanMessage(f"[call:{self.number}] [subject:{self.subject}] How are you?")]

    def config(self, handler: MeteringHandler) -> dict:
        return {
            "callbacks": [handler],
            "metadata": {"subject": self.subject},
            "run_id": self.run_id,
        }


def make_calls(chance: random.Random) -> list[Call]:
    return [
        Call(
            number=number,
            subject=f"customer-{chance.randrange(SUBJECTS)}",
            streamed=chance.random() < 1 / 3,
            leaves_after=chance.random() if chance.random() < 1 / 10 else None,
        )
        for number in range(CALLS)
    ]


def run_in_thread(model: ChatOpenAI, call: Call, handler: MeteringHandler) -> None:
    """A thread cannot be cancelled: of these only streams are left."""
    if not call.streamed:
        model.invoke(call.messages, call.config(handler))
        call.finished = True
        return
    stream = model.stream(call.messages, call.config(handler))
    pieces = None if call.leaves_after is None else int(call.leaves_after * PIECES)
    for number, _ in enumerate(stream):
        if number == pieces:
            stream.close()
            return
    call.finished = True


async def run_in_loop(model: ChatOpenAI, call: Call, handler: MeteringHandler) -> None:
    async def ask() -> None:
        if call.streamed:
            async for _ in model.astream(call.messages, call.config(handler)):
                pass
        else:
            await model.ainvoke(call.messages, call.config(handler))
        call.finished = True

    task = asyncio.create_task(ask())
    if call.leaves_after is not None:
        await asyncio.sleep(call.leaves_after * LONGEST_WAIT)
        task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    if not task.cancelled():
        task.result()


def run_all(provider: Provider, calls: list[Call], handler: MeteringHandler) -> None:
    def model(**clients: object) -> ChatOpenAI:
        return ChatOpenAI(
            model=f"gpt-x+pieces{PIECES}+slow20",
            base_url=provider.openai_url,
            api_key="none",
            stream_usage=True,
            max_retries=0,
            timeout=60,
            **clients,
        )

    async def in_loop() -> None:
        # LangChain's own client outlives the loop, and its connections with it.
        async with DefaultAsyncHttpxClient() as client:
            shared = model(http_async_client=client)
            await asyncio.gather(*(run_in_loop(shared, call, handler) for call in calls[::2]))

    loop = threading.Thread(target=asyncio.run, args=(in_loop(),))
    loop.start()
    with DefaultHttpxClient() as client, ThreadPoolExecutor(THREADS) as pool:
        shared = model(http_client=client)
        done = [pool.submit(run_in_thread, shared, call, handler) for call in calls[1::2]]
        for each in done:
            each.result()
    loop.join()


def of_each_call(calls: list[Call], events: list[CloudEvent]) -> dict[int, list[CloudEvent]]:
    numbers = {str(call.run_id): call.number for call in calls}
    found = defaultdict(list)
    for event in events:
        found[numbers[event.data["run_id"]]].append(event)
    return found


KINDS = {
    "input_tokens": "input",
    "output_tokens": "output",
    "cache_read_input_tokens": "cached",
    "reasoning_output_tokens": "reasoning",
}


def tokens_of(entry: Entry) -> Counter:
    return Counter({kind: getattr(entry, name) for kind, name in KINDS.items()})


def metered(event: CloudEvent) -> Counter:
    return Counter({kind: event.data[kind] for kind in KINDS})


@pytest.mark.timeout(300)
def test_a_thousand_calls_at_once(provider: Provider, meter: Meter, sink: MemorySink) -> None:
    """The sums of each customer are the provider's, and who left has one event that says so."""
    calls = make_calls(random.Random(20_261_122))
    run_all(provider, calls, MeteringHandler(meter=meter))
    entries = {int(entry.call): entry for entry in provider.entries if entry.call}
    assert meter.flush(60)
    events = of_each_call(calls, sink.events)

    left = [call for call in calls if not call.finished]
    assert len(left) > CALLS / 25, "nobody left in time: the test tests nothing"
    assert sum(call.streamed for call in calls) > CALLS / 4

    booked: dict[str, Counter] = defaultdict(Counter)
    billed: dict[str, Counter] = defaultdict(Counter)
    for call in calls:
        if call.finished:
            (event,) = events[call.number]
            assert (event.data["status"], event.data["provenance"]) == ("completed", "reported")
            assert event.subject == call.subject
            booked[call.subject] += tokens_of(entries[call.number])
            billed[event.subject] += metered(event)
    assert billed == booked

    for call in left:
        if call.number not in entries and not events[call.number]:
            continue  # it left before it had begun
        (event,) = events[call.number]
        assert event.subject == call.subject
        # Some leave when all of the answer is there, and only they do not know it yet.
        assert event.data["status"] == "aborted" or event.data["provenance"] == "reported"
        assert event.data["provenance"] in PROVENANCES
        if event.data["provenance"] == "reported":
            assert metered(event) == tokens_of(entries[call.number])
    assert len(meter.calls) == 0
    ids = [event.id for events_of_call in events.values() for event in events_of_call]
    assert len(ids) == len(set(ids))
