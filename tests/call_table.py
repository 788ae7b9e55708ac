"""What tests of the call table get: a recorder that keeps what it is given, a tokenizer, starts."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime

from llm_metering.calls import CallStart
from llm_metering.exchange import Counted
from llm_metering.subjects import Attribution, Rank
from llm_metering.token_usage import TokenUsage

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
USAGE = TokenUsage(input_tokens=100, output_tokens=20)


class Notebook:
    """A recorder that keeps what it is given."""

    def __init__(self):
        self.opened = {}
        self.events = []
        self.closed = []
        self.counts = Counter()
        self.late = []
        self.on_record = lambda: None

    def record(self, event_id, payload):
        event = json.loads(payload)
        assert event["id"] == event_id
        assert event_id in self.opened, "an event without the note that recovery needs"
        self.events.append(event)
        self.on_record()

    def note_open(self, event_id, payload):
        note = json.loads(payload)
        assert note["id"] == event_id
        self.opened[event_id] = note

    def note_closed(self, event_id):
        assert event_id in self.opened
        self.closed.append(event_id)

    def count(self, name, key="", amount=1):
        self.counts[name, key] += amount

    def note_late(self, usage):
        self.late.append(usage)

    @property
    def data(self):
        """The data of the only event."""
        (event,) = self.events
        return event["data"]


class Words:
    """A tokenizer to which each word is a token; it counts when it is told to."""

    def __init__(self, *, at_once=True):
        self.at_once = at_once
        self.waiting = []

    def count(self, exchange, method="words"):
        asked = exchange.request
        return Counted(
            input_tokens=None if asked is None else len(asked["prompt"].split()),
            output_tokens=len("".join(exchange.output.texts).split()),
            method=method,
        )

    def guess(self, exchange):
        return self.count(exchange, "guess")

    def submit(self, exchange, done):
        self.waiting.append((exchange, done))
        if self.at_once:
            self.work()

    def work(self):
        while self.waiting:
            exchange, done = self.waiting.pop()
            done(self.count(exchange))


def by(name, rank=Rank.HANDLER, flags=(), **dimensions):
    """Somebody pays."""
    return Attribution(subject=name, rank=rank, dimensions=dimensions, flags=flags)


REQUEST = ["the messages"]


def call(attribution=None, request=REQUEST, **details):
    """The start of a call to gpt-5-mini."""
    return CallStart(
        attribution=attribution or by("acme"),
        framework="langchain",
        operation="chat",
        provider="openai",
        request_model="gpt-5-mini",
        request=request,
        **details,
    )


def asked(text="what is it"):
    """Three words of a prompt."""
    return lambda: {"prompt": text}
