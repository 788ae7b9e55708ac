"""How the public API looks to a type checker; nothing here runs.

mypy reads this file in strict mode: it fails when a name loses its type, or when what a user
writes no longer checks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, assert_type

import pandas
import polars
import pyarrow
from langchain_core.embeddings import Embeddings

import llm_metering
from llm_metering import Meter, MeteringError, TokenUsage, UsageEvent, UsageReport, subject
from llm_metering.langchain import MeteringHandler, metered_embeddings
from llm_metering.meters import MeterDefinition
from llm_metering.sinks.base import Delivery, Envelope, Sink, SinkLimits


def configuring() -> None:
    """A meter comes typed from wherever it is made."""
    assert_type(llm_metering.configure(home="/var/lib/usage", sinks=""), Meter)
    assert_type(llm_metering.get_meter(), Meter)
    assert_type(Meter(home=Path("usage"), sinks=["openmeter+https://openmeter.cloud"]), Meter)
    with Meter(subject="customer-42") as meter:
        assert_type(meter, Meter)
        assert_type(meter.statistics(), dict[str, Any])
    assert_type(llm_metering.__version__, str)


def embedding(embeddings: Embeddings, meter: Meter) -> None:
    """What is metered is used in place of what it was made of."""
    metered = metered_embeddings(embeddings, "customer-42", meter=meter, feature="search")
    assert_type(metered, Embeddings)


async def configuring_async() -> None:
    """The same in async code."""
    async with Meter() as meter:
        assert_type(meter, Meter)
        assert_type(await meter.aflush(timeout=1.0), bool)
    assert_type(await llm_metering.aflush(), bool)


@llm_metering.flush_after
def handler(event: dict[str, str], context: object) -> int:
    """A decorated function keeps its type."""
    return len(event)


@llm_metering.flush_after(timeout=2.0)
async def answer(question: str) -> bytes:
    """So does a coroutine function."""
    return question.encode()


async def decorated() -> None:
    """What is decorated is called as before."""
    assert_type(handler({}, None), int)
    assert_type(await answer("why?"), bytes)


def signing() -> None:
    """A signed subject is a string, whatever its end is given in."""
    key = "k" * 32
    assert_type(llm_metering.sign_subject("customer-42", key, audience="shop", expires=60), str)
    assert_type(llm_metering.sign_subject("customer-42", key.encode(), expires=timedelta(1)), str)
    assert_type(llm_metering.sign_subject("customer-42", key, expires=datetime.now(UTC)), str)


def waiting() -> None:
    """Waiting says whether everything arrived."""
    assert_type(llm_metering.flush(timeout=1.0), bool)
    assert_type(llm_metering.close(), bool)


def attributing() -> None:
    """A scope is a context manager, and a decorator that keeps the signature."""
    with subject("customer-42", pinned=True, feature="search"):
        pass

    @subject("customer-42")
    def add(left: int, right: int) -> int:
        return left + right

    assert_type(add(1, 2), int)

    @subject("customer-42")
    def count(to: int) -> Iterator[int]:
        yield from range(to)

    assert_type(count(3), Iterator[int])

    @subject("customer-42")
    async def name() -> str:
        return "customer-42"

    async def use() -> None:
        assert_type(await name(), str)

    llm_metering.install("customer-42")
    llm_metering.uninstall()
    assert_type(MeteringHandler("customer-42", feature="search"), MeteringHandler)


def asking() -> None:
    """A report is typed down to its rows."""
    report = llm_metering.usage(
        "tokens_total",
        subject=["customer-42"],
        window="HOUR",
        start=datetime(2026, 11, 21, tzinfo=UTC),
        end="2026-11-22T00:00:00Z",
        group_by=["model"],
    )
    assert_type(report, UsageReport)
    for row in report:
        assert_type(row.value, int | float | Decimal)
        assert_type(row.subject, str | None)
        assert_type(row.window_start, datetime)


def tabulating(report: UsageReport) -> None:
    """A report becomes what its reader's library has."""
    assert_type(report.to_pandas(), pandas.DataFrame)
    assert_type(report.to_polars(), polars.DataFrame)
    assert_type(report.to_arrow(), pyarrow.Table)
    assert_type(report.to_csv(), str)
    assert_type(report.to_json(indent=2), str)
    assert_type(report.to_dict(), dict[str, Any])


def defining() -> None:
    """Meters of one's own are asked for by their slug, or as they are."""
    images = MeterDefinition(
        slug="images", value_property="$.quantity", group_by={"unit": "$.unit"}
    )
    with Meter(meters=[images]) as meter:
        assert_type(meter.usage("images", group_by="unit"), UsageReport)
        assert_type(meter.usage(images), UsageReport)
        assert_type(meter.settings.meters, Mapping[str, MeterDefinition])
    assert_type(llm_metering.usage(images, filters={"unit": "images"}), UsageReport)


def reading(event: UsageEvent) -> None:
    """A count is a number or unknown, never silently zero."""
    assert_type(event.usage, TokenUsage | None)
    assert_type(TokenUsage(input_tokens=1).total_tokens, int | None)


def failing(error: MeteringError) -> Exception:
    """Every error of ours is an exception."""
    return error


class OwnSink:
    """Any class of this shape is a sink; it needs no base class."""

    name = "own"
    url = "own:"
    account = ""
    limits = SinkLimits(max_events=10)

    def deliver(self, batch: Sequence[Envelope], /) -> Delivery:
        """Take everything."""
        return Delivery.all_accepted(batch)

    def close(self) -> None:
        """Nothing to let go."""


def plugging_in() -> None:
    """A sink of one's own can be handed to a meter."""
    own: Sink = OwnSink()
    Meter(sinks=[own, "memory:"])
