"""A look at this machine, the home and the configuration: what would lose or stop usage."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from ..limits import LimitsSink
from ..meters import MeterDefinition
from ..settings import Settings
from ..sinks.asking import NETWORK_LIMIT
from ..sinks.base import Sink
from ..sinks.cloudevents import CloudEventsSink
from ..sinks.jsonl import JSONLinesSink
from ..sinks.kafka import KafkaSink
from ..sinks.lago import LagoSink
from ..sinks.openmeter import OpenMeterSink
from ..sinks.stripe import StripeSink
from ..transport.spool import debt_of
from .billing import check_lago, check_stripe
from .cloudevents import check_cloudevents
from .configuration import check_settings, configured_sinks
from .finding import Finding, Level, failure, ok, warning, worst
from .home import check_home
from .journal import check_journal
from .jsonl import check_jsonl
from .kafka import check_kafka, unreachable
from .ledger import CHECK_LIMIT, check_ledger
from .limits import check_limits
from .machine import check_machine
from .openmeter import check_openmeter
from .running import Task, run_side_by_side

__all__ = ["WAIT", "Finding", "Level", "examine", "worst"]

WAIT: Final = 20.0
"""Seconds to wait for what was sent to be listed."""
DISK_LIMIT: Final = 60.0
"""Seconds for all that reads the home."""
_SETTLE: Final = 5.0
_LIST_LIMIT: Final = 6 * NETWORK_LIMIT
"""Seconds for a list in many pages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Looking:
    """How sinks are looked at: see `examine`."""

    source: str
    meters: tuple[MeterDefinition, ...]
    send: bool
    wait: float


def examine(settings: Settings, *, send: bool = False, wait: float = WAIT) -> list[Finding]:
    """Look at everything, side by side; nothing is changed but for a probe file that is removed.

    Args:
        settings: What holds.
        send: Whether two events may be sent to each OpenMeter server, and a batch of none to
            each `cloudevents` sink.
        wait: Seconds to wait for these to be listed.
    """
    sinks, findings = configured_sinks(settings)
    findings += check_settings(settings, sinks)
    findings += check_machine()
    findings += run_side_by_side([*_disk(settings, sinks), *_network(settings, sinks, send, wait)])
    for sink in sinks:
        try:
            sink.close()
        except Exception as error:  # of a foreign one
            findings.append(_unclosed(sink, error))
    return findings


def _unclosed(sink: Sink, error: Exception) -> Finding:
    return warning(
        "sink.closes",
        f"closing it failed: {type(error).__name__}",
        means="its connections may stay open until the process ends; no event is lost by that",
        advice="tell who wrote the sink",
        sink=sink.name,
    )


def _disk(settings: Settings, sinks: list[Sink]) -> Iterator[Task]:
    home = settings.home
    debts = [debt_of(sink) for sink in sinks]
    yield Task(name="home", run=lambda: check_home(home), limit=DISK_LIMIT, late=_late_disk("home"))
    yield Task(
        name="journal",
        run=lambda: check_journal(home, source=settings.source, debts=debts),
        limit=DISK_LIMIT,
        late=_late_disk("journal"),
    )
    yield Task(
        name="ledger",
        run=lambda: check_ledger(home, is_on=settings.ledger, keys=settings.ledger_keys),
        limit=DISK_LIMIT + CHECK_LIMIT,
        late=_late_disk("ledger"),
    )


def _late_disk(name: str) -> Finding:
    return failure(
        f"{name}.in_time",
        f"looking at the {name} was not through after {DISK_LIMIT:g} s",
        means="the disk stalls, and applications may wait for it; or the home holds very much",
        advice="look at the disk (dmesg, iostat), and at a mount whose server is away",
    )


def _network(settings: Settings, sinks: list[Sink], send: bool, wait: float) -> Iterator[Task]:
    looking = _Looking(source=settings.source, meters=settings.own_meters, send=send, wait=wait)
    for sink in sinks:
        makers = (make for kind, make in _TASKS.items() if isinstance(sink, kind))
        make = next(makers, _unasked)
        if sink.url != "ledger:":
            yield make(sink, looking)


def _openmeter(sink: OpenMeterSink, looking: _Looking) -> Task:
    send, wait = looking.send, looking.wait
    return Task(
        name="sink",
        run=lambda: check_openmeter(
            sink, source=looking.source, meters=looking.meters, send=send, wait=wait
        ),
        # One request, or the two that send, and then looks until the time is up.
        limit=NETWORK_LIMIT + (3 * NETWORK_LIMIT + wait + _SETTLE if send else 1.0),
        late=_no_answer(sink),
        sink=sink.name,
    )


def _kafka(sink: KafkaSink, _: _Looking) -> Task:
    return Task(
        name="sink",
        run=lambda: check_kafka(sink),
        limit=3 * NETWORK_LIMIT + 1.0,
        late=unreachable(sink.name, f"no answer within {3 * NETWORK_LIMIT:g} s"),
        sink=sink.name,
    )


def _cloudevents(sink: CloudEventsSink, looking: _Looking) -> Task:
    return Task(
        name="sink",
        run=lambda: check_cloudevents(sink, send=looking.send),
        limit=(2 if looking.send else 1) * NETWORK_LIMIT + 1.0,
        late=_no_answer(sink),
        sink=sink.name,
    )


def _stripe(sink: StripeSink, _: _Looking) -> Task:
    return Task(
        name="sink",
        run=lambda: check_stripe(sink),
        limit=_LIST_LIMIT,
        late=_no_answer(sink),
        sink=sink.name,
    )


def _lago(sink: LagoSink, _: _Looking) -> Task:
    return Task(
        name="sink",
        run=lambda: check_lago(sink),
        limit=_LIST_LIMIT,
        late=_no_answer(sink),
        sink=sink.name,
    )


def _jsonl(sink: JSONLinesSink, _: _Looking) -> Task:
    late = replace(_late_disk("file"), check="sink.in_time", sink=sink.name)
    return Task(
        name="sink", run=lambda: check_jsonl(sink), limit=DISK_LIMIT, late=late, sink=sink.name
    )


def _limits(sink: LimitsSink, _: _Looking) -> Task:
    return Task(
        name="sink",
        run=lambda: check_limits(sink),
        limit=2 * NETWORK_LIMIT,
        late=replace(
            _no_answer(sink), advice="look at the disk, or the database and the way to it"
        ),
        sink=sink.name,
    )


def _no_answer(sink: Sink) -> Finding:
    return failure(
        "sink.reachable",
        f"no answer within {NETWORK_LIMIT:g} s",
        means="nothing is delivered; events wait on disk",
        advice="look at the resolver, the network and the server",
        sink=sink.name,
    )


def _unasked(sink: Sink, _: _Looking) -> Task:
    finding = ok("sink.reachable", "there is no way to ask it without delivering", sink=sink.name)
    return Task(
        name="sink", run=lambda: [finding], limit=NETWORK_LIMIT, late=finding, sink=sink.name
    )


_TASKS: Final[Mapping[type, Callable[[Any, _Looking], Task]]] = {
    CloudEventsSink: _cloudevents,
    JSONLinesSink: _jsonl,
    KafkaSink: _kafka,
    LagoSink: _lago,
    LimitsSink: _limits,
    OpenMeterSink: _openmeter,
    StripeSink: _stripe,
}
"""What is looked at of a sink, by its type."""
