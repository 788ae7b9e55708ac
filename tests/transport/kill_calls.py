"""Calls of every kind, and a diary of what became of them."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any, Final

from llm_metering.calls import CallStart, Report
from llm_metering.meter import Meter
from llm_metering.subjects import Attribution, Rank

SUBJECT: Final = "customer-42"


class Diary:
    """What a worker did, one line for each step of a call.

    The steps are `A`, about to begin; `O`, its note is in the journal; `E`, about to end; `R`, all
    was done and came back. Each line holds the ticket of the call, by which its event is found.
    `L` says that the worker was told to leave: it settles what it has begun.
    """

    def __init__(self, folder: str, name: str) -> None:
        path = Path(folder) / f"{name}-{uuid.uuid4().hex}"
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)

    def note(self, *words: object) -> None:
        os.write(self._descriptor, (" ".join(map(str, words)) + "\n").encode())


class Caller:
    """Makes calls of every kind, one after another.

    Args:
        meter: What meters them.
        diary: Where it notes them.
        name: The beginning of its tickets, which no other caller has.
        slowness: How long it pauses.
    """

    def __init__(self, meter: Meter, diary: Diary, name: str, slowness: float) -> None:
        self._meter = meter
        self._diary = diary
        self._name = name
        self._slowness = slowness
        self._chance = Random(name)
        self._calls = 0

    def pause(self) -> float:
        """Seconds to the next step."""
        return self._slowness * self._chance.choice((0.0, 0.002, 0.01, 0.03))

    def call(self) -> Iterator[None]:
        """Make a call; the caller may do something else at each yield."""
        self._calls += 1
        ticket = f"{self._name}.{self._calls}"
        kinds = (self._record, self._keyed, self._stream, self._left, self._counted, self._refused)
        make = self._chance.choices(kinds, (6, 1, 6, 1, 1, 1))[0]
        return make(ticket, self._chance.randrange(1, 9000), self._chance.randrange(1, 900))

    def _record(self, ticket: str, input_: int, output: int) -> Iterator[None]:
        self._diary.note("A", ticket, "completed", input_ + output)
        event = self._meter.record(
            _completion(input_, output), SUBJECT, dimensions={"ticket": ticket}
        )
        assert event is not None
        self._diary.note("R", ticket, event.id)
        yield

    def _keyed(self, ticket: str, input_: int, output: int) -> Iterator[None]:
        self._diary.note("A", ticket, "completed", input_ + output)
        event = self._meter.record(
            _completion(input_, output),
            SUBJECT,
            dimensions={"ticket": ticket},
            idempotency_key=ticket,
        )
        assert event is not None
        self._diary.note("R", ticket, event.id)
        yield

    def _stream(self, ticket: str, input_: int, output: int) -> Iterator[None]:
        yield from self._read(ticket, "completed", input_, output, usage=True)

    def _counted(self, ticket: str, input_: int, output: int) -> Iterator[None]:
        yield from self._read(ticket, "completed", input_, output, usage=False)

    def _left(self, ticket: str, input_: int, output: int) -> Iterator[None]:
        yield from self._read(ticket, "aborted", input_, output, usage=False)

    def _read(
        self, ticket: str, status: str, input_: int, output: int, *, usage: bool
    ) -> Iterator[None]:
        self._diary.note("A", ticket, status, input_ + output if usage else "counted")
        chunks = _chunks(input_, output, usage=usage)
        stream = self._meter.metered_stream(
            iter(chunks), SUBJECT, dimensions={"ticket": ticket}, provider="openai"
        )
        self._diary.note("O", ticket, *self._ids_of_open_call(ticket))
        yield
        for _ in chunks:
            next(stream)
            yield
        self._diary.note("E", ticket)
        if status == "completed":
            assert next(stream, None) is None
        else:
            stream.__exit__(None, None, None)
        self._diary.note("R", ticket)

    def _refused(self, ticket: str, _input: int, _output: int) -> Iterator[None]:
        self._diary.note("A", ticket, "refused", 0)
        payer = Attribution(subject=SUBJECT, rank=Rank.HANDLER, dimensions={"ticket": ticket})
        self._meter.calls.start(ticket, CallStart(attribution=payer, provider="openai"))
        self._diary.note("O", ticket, *self._ids_of_open_call(ticket))
        yield
        self._diary.note("E", ticket)
        self._meter.calls.end(ticket, "refused", Report(reason="429"))
        self._diary.note("R", ticket)

    def _ids_of_open_call(self, ticket: str) -> list[str]:
        # None, if the worker leaves and has settled it already.
        calls = list(self._meter.calls._open.values())
        return [each.event_id for each in calls if each.attribution.dimensions["ticket"] == ticket]


def _completion(input_: int, output: int) -> dict[str, Any]:
    return {
        "object": "chat.completion",
        "model": "gpt-5-mini",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}}],
        "usage": {
            "prompt_tokens": input_,
            "completion_tokens": output,
            "total_tokens": input_ + output,
        },
    }


def _chunks(input_: int, output: int, *, usage: bool) -> list[dict[str, Any]]:
    chunk = {
        "object": "chat.completion.chunk",
        "model": "gpt-5-mini",
        "choices": [{"index": 0, "delta": {"content": "Hello "}}],
    }
    last = {**chunk, "choices": [], "usage": _completion(input_, output)["usage"]}
    return [chunk, chunk, last] if usage else [chunk, chunk]
