"""A producer that knows what it was given: librdkafka writes it some time, or says that it cannot.

librdkafka is told never to give a record up (`message.timeout.ms=0`). What it has not reported yet is
in its queue, and is not given to it again when the transport offers it again: so a broker that is
away makes no duplicates for as long as this process lives.

Facts about confluent-kafka 2.16.1 and librdkafka 2.16.0 that shape this module:

- Callbacks run inside `poll` alone, in its thread; a fatal error is raised by it.
- That all brokers are down is said once, until one of them is up again.
- What a topic's metadata said (no such topic, no right to it) is kept for minutes, and each record is
  refused at once meanwhile. A new producer asks anew.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from functools import partial
from typing import Any, Final

import msgspec

from ... import system
from ...handoff import NAP, threads_are_greenlets
from ..reasons import shorten
from .faults import Fault, LibraryError, fault_of
from .library import Log, confluent_kafka, destroy, hold_on

__all__ = ["Key", "Line", "Record"]

NO_HOPE: Final = 1.0
"""Seconds without good news that are waited for once a broker is known to be away."""
LAST_WAIT: Final = 1.0
"""Seconds that closing waits for answers to what was sent."""
NO_REPORT: Final = "no broker has said yet that it is written"
_SLICE: Final = 0.5
_PURGING: Final = 0.2
_KEPT: Final = 20_000
"""Reports about events that nobody has offered again yet."""

Key = tuple[str, str]
"""An event's source and id."""


class Record(msgspec.Struct, frozen=True, gc=False):
    """What is written to the topic for an event."""

    key: str
    value: bytes
    headers: list[tuple[str, str]]


class Line:
    """A producer for one topic; it is made when something is to be written.

    Used by one thread at a time.

    Args:
        topic: Where to.
        properties: librdkafka's.
        secrets: What nothing that is told may show.
    """

    def __init__(self, topic: str, properties: Mapping[str, str], secrets: Collection[str]) -> None:
        self._topic = topic
        self._properties = dict(properties)
        self._secrets = secrets
        self.forget()

    def __repr__(self) -> str:
        return f"<Line {self._topic} in_flight={len(self._in_flight)} kept={len(self._reports)}>"

    def forget(self) -> None:
        """Begin with nothing, as a forked child must: what is in flight is its parent's."""
        # A reference too many keeps the parent's producer from being destroyed here.
        self._producer: Any = None
        self._in_flight: set[Key] = set()
        self._reports: dict[Key, Fault | None] = {}
        self._fresh()

    def _fresh(self) -> None:
        self._heard_at: float | None = None
        self._all_down = False
        self._complaint: Fault | None = None
        self._complained_at = 0.0
        self._ended: Fault | None = None

    def write(self, records: Mapping[Key, Record], *, until: float) -> dict[Key, Fault]:
        """Write records, but for those that are being written since an earlier time.

        Args:
            records: By the identity of their events.
            until: When to stop waiting for reports, by the monotonic clock.

        Returns:
            What is not known to be written, with the reason.

        Raises:
            Exception: If there can be no producer. Its text may hold a secret.
        """
        if self._producer is None:
            self._open()
        began = time.monotonic()
        self._serve(0.0)
        faults = self._hand_over(records, until)
        given = records.keys() - faults.keys()
        self._wait(given, began, until)
        held = self._ended or self._complaint
        is_held = held is not None and held.kind == "hold"
        if (
            is_held
            or self._ended is not None
            or any(fault.kind == "hold" for fault in faults.values())
            or any(self._is_held(key) for key in given)
        ):
            self._drop()
        reason = held.reason if held is not None else NO_REPORT
        for key in given:
            if key not in self._reports:
                faults[key] = Fault("unknown", reason)
            elif (report := self._reports.pop(key)) is not None:
                unsent = report.kind == "later" and is_held
                faults[key] = Fault("hold", reason) if unsent else report
        for key in list(self._reports)[: max(len(self._reports) - _KEPT, 0)]:
            del self._reports[key]
        return faults

    def close(self) -> None:
        """Let go of the producer; what it has not sent it never will."""
        if self._producer is None:
            return
        # What waits in the queue must not be written now, since nobody would hear of it and the
        # events are sent again. What was sent already has a little time to be answered.
        self._purge(in_flight=False)
        now = time.monotonic()
        self._wait(self._in_flight, now, now + LAST_WAIT)
        self._drop()

    def _open(self) -> None:
        library = confluent_kafka()
        config = {
            **self._properties,
            "error_cb": self._on_error,
            "logger": Log(self._secrets),
        }
        self._fresh()
        with system.undisturbed():
            self._producer = library.Producer(config)
            hold_on(self._producer)

    def _hand_over(self, records: Mapping[Key, Record], until: float) -> dict[Key, Fault]:
        faults: dict[Key, Fault] = {}
        stop = self._ended
        for key, record in records.items():
            if self._is_to_be_sent(key):
                fault = stop or self._produce(key, record, until)
                if fault is not None:
                    faults[key] = fault
                    stop = None if fault.kind == "too_large" else fault
        return faults

    def _is_to_be_sent(self, key: Key) -> bool:
        if key in self._in_flight:
            return False
        if key not in self._reports:
            return True
        known = self._reports[key]
        if known is None or known.kind not in ("later", "unknown"):
            return False
        del self._reports[key]
        return True

    def _produce(self, key: Key, record: Record, until: float) -> Fault | None:
        while True:
            try:
                self._producer.produce(
                    self._topic,
                    value=record.value,
                    key=record.key,
                    headers=record.headers,
                    on_delivery=partial(self._on_report, key),
                )
            except BufferError:
                if self._ended is not None or time.monotonic() >= until:
                    return self._ended or Fault("later", "the queue of librdkafka is full")
                self._serve(_SLICE)
            except Exception as error:
                return self._explained(error)
            else:
                self._in_flight.add(key)
                return None

    def _explained(self, error: Exception) -> Fault:
        cause: LibraryError | None = error.args[0] if error.args else None
        if not hasattr(cause, "fatal"):
            return Fault("later", type(error).__name__)
        assert cause is not None
        fault = fault_of(cause)
        if cause.fatal() or cause.name() == "_FATAL":
            self._ended = Fault(
                "hold" if fault.kind == "hold" else "unknown", shorten(fault.reason, self._secrets)
            )
            return self._ended
        if fault.kind == "size":
            return Fault("too_large", "larger than message.max.bytes allows")
        return Fault(fault.kind, shorten(fault.reason, self._secrets))

    def _wait(self, keys: Collection[Key], began: float, until: float) -> None:
        while self._ended is None and not self._in_flight.isdisjoint(keys):
            now, limit = time.monotonic(), until
            if self._all_down or self._complained_at >= began:
                limit = min(until, max(began, self._heard_at or began) + NO_HOPE)
            if now >= limit:
                return
            self._serve(min(limit - now, _SLICE))

    def _serve(self, seconds: float) -> None:
        if seconds and threads_are_greenlets():
            time.sleep(min(seconds, NAP))
            seconds = 0.0
        try:
            self._producer.poll(seconds)
        except Exception as error:
            self._explained(error)

    def _on_report(self, key: Key, error: LibraryError | None, _message: object) -> None:
        self._in_flight.discard(key)
        if error is None or error.code() > 0:
            self._heard_at = time.monotonic()
            self._all_down, self._complained_at = False, 0.0
            if error is None:
                self._complaint = None
                self._reports[key] = None
                return
        fault = fault_of(error)
        if not error.name().startswith("_PURGE"):
            self._reports[key] = fault
        elif self._heard_at is None and error.name() == "_PURGE_QUEUE":
            # No broker has ever answered anything of this producer's.
            self._reports[key] = Fault("later", fault.reason)

    def _on_error(self, error: LibraryError) -> None:
        if error.name() == "_ALL_BROKERS_DOWN":
            self._all_down = True
            if self._complaint is not None:
                return  # that says more
        self._complained_at = time.monotonic()
        if self._complaint is None or self._complaint.kind != "hold":
            fault = fault_of(error)
            self._complaint = Fault(fault.kind, shorten(fault.reason, self._secrets))

    def _is_held(self, key: Key) -> bool:
        report = self._reports.get(key)
        return report is not None and report.kind == "hold"

    def _purge(self, *, in_flight: bool) -> None:
        # Not blocking: a thread of librdkafka that waits for the resolver may hold it up for long.
        self._producer.purge(in_queue=True, in_flight=in_flight, blocking=False)

    def _drop(self) -> None:
        self._purge(in_flight=True)
        until = time.monotonic() + _PURGING
        while self._in_flight and time.monotonic() < until:
            self._serve(_PURGING / 4)
        self._in_flight.clear()
        last = [self._producer]
        self._producer = None
        destroy(last)
