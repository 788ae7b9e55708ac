"""A real Chromium, and a home with something to look at."""

from __future__ import annotations

import json
import random
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

from llm_metering.ledger import Ledger
from llm_metering.meter import Meter
from llm_metering.sinks.base import Delivery, Envelope, SinkLimits

__all__ = ["FLAGS", "PLANS", "Choosy", "fill", "find_chromium"]

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

FLAGS = (
    # Tests may run as root, in a container; what is looked at is our own.
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    # It looks for nothing on the network that no page has asked for.
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

PLANS = """
default_plan = "pro"

[[plans]]
name = "pro"
effective_from = 2020-01-01
currency = "USD"
time_zone = "Europe/Berlin"
[[plans.charges]]
name = "Base fee"
fixed = "20"
[[plans.charges]]
name = "Tokens"
meter = "tokens_total"
per = 1000000
price = "8"
group_by = ["model"]

[[subjects]]
subject = "acme"
plan = "pro"
from = 2020-01-01
"""

_MODELS = {
    "gpt-5-mini": "openai",
    "gpt-5": "openai",
    "claude-sonnet-4-5": "anthropic",
    "gemini-2.5-flash": "google",
    "a-model-with-a-very-long-name-that-nobody-has-ever-heard-of-2026-11-21-preview": "mistral",
}
_SUBJECTS = (
    *("acme", "globex", "initech", "<b>umbrella</b>", "a customer with blanks", "ünïcödé-客户"),
    *(f"customer-{n}" for n in range(20)),
)


class Choosy:
    """A sink that refuses calls of some models for good."""

    name = "choosy"
    url = "choosy://"
    account = ""
    limits = SinkLimits()

    def __init__(self, refused):
        self._refused = refused

    def deliver(self, batch, /):
        refused = {
            each.id
            for each in batch
            if json.loads(each.payload)["data"]["request_model"] in self._refused
        }
        return Delivery(
            accepted=frozenset(each.id for each in batch) - refused,
            rejected=frozenset((id, "<b>no such model</b>") for id in refused),
        )

    def close(self):
        pass


def find_chromium(playwright):
    """Where one is: the system's, else Playwright's own; `None` if there is none."""
    for name in _NAMES:
        if found := shutil.which(name):
            return found
    own = Path(playwright.chromium.executable_path)
    return str(own) if own.exists() else None


def fill(home):
    """Usage of forty days, balances, and events that a sink has refused."""
    chance = random.Random(12)
    now = datetime.now(UTC)
    events = []
    for n in range(1200):
        ago = timedelta(minutes=chance.random() * 40 * 24 * 60)
        model = chance.choice(list(_MODELS))
        kind = chance.choices(["reported", "partial", "estimated", "missing"], [90, 4, 4, 2])[0]
        status = chance.choices(["completed", "aborted", "failed", "interrupted"], [92, 4, 2, 2])[0]
        data = {
            "model": model,
            "provider": _MODELS[model],
            "operation": "chat",
            "calls": 1,
            "provenance": kind,
            "status": status,
            "framework": chance.choice(["langchain", "llamaindex"]),
        }
        if kind != "missing":
            into, out = chance.randint(100, 20_000), chance.randint(10, 3000)
            data |= {"input_tokens": into, "output_tokens": out, "total_tokens": into + out}
        if chance.random() < 0.05:
            data["flags"] = ["subject_conflict", "usage_inconsistent"]
        event = {
            "specversion": "1.0",
            "id": f"e{n:05}",
            "source": "app",
            "type": "llm.usage",
            "subject": chance.choices(_SUBJECTS, [30, 15, 10, *[2] * (len(_SUBJECTS) - 3)])[0],
            "time": (now - ago).isoformat(),
            "data": data,
        }
        events.append(Envelope(id=event["id"], payload=json.dumps(event).encode()))
    ledger = Ledger(home / "ledger.db")
    assert len(ledger.deliver(events).accepted) == len(events)
    ledger.close()
    with Meter(home, [Choosy({"bad", "worse"})], source="app", limits="on") as meter:
        for model in ("good", "bad", "worse"):
            meter.record(quantity=1, unit="images", subject="acme", model=model)
        assert meter.flush(30)
        meter.grant("acme", 10_000_000, recurrence="MONTH")
        meter.grant("acme", "25", unit="money", expires_at=now + timedelta(days=20))
        meter.grant("globex", 100)
        meter.grant("initech", 10**12)
