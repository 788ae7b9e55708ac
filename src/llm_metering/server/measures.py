"""`Measures`: what Prometheus is told of a server, and of the home behind it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from starlette.types import Scope

__all__ = ["CONTENT_TYPE", "SHARED_FOLDER", "Measures"]

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST

SHARED_FOLDER: Final = "PROMETHEUS_MULTIPROC_DIR"
"""The variable by which several processes of one server count together (prometheus_client, since 0.9)."""

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_OUTCOMES: Final = ("recorded", "acked", "pending", "dead", "dropped")
_STATES: Final = ("ok", "backoff", "paused")


class Measures:
    """Counts what a server does.

    Args:
        statistics: What became of all events of the home, as `llm-metering status` shows it.
    """

    def __init__(self, statistics: Callable[[], Mapping[str, Any]]) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "llm_metering_http_requests",
            "Requests that were answered.",
            ["method", "route", "status"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "llm_metering_http_request_duration_seconds",
            "Seconds from the head of a request to the end of its answer.",
            ["route"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._events = Counter(
            "llm_metering_ingested_events",
            "Events that came in.",
            ["outcome"],
            registry=self._registry,
        )
        self._home = _Home(statistics)

    def answered(self, scope: Scope, status: int, seconds: float) -> None:
        """A request was answered."""
        # The path of the route, never that of the request: a name in it would be a series of its own.
        route = getattr(scope.get("route"), "path", "none")
        method = scope["method"] if scope["method"] in ("GET", "POST", "PUT", "DELETE") else "other"
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def ingested(self, *, recorded: int, duplicates: int) -> None:
        """Events came in."""
        self._events.labels("recorded").inc(recorded)
        self._events.labels("duplicate").inc(duplicates)

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        registry = self._registry
        if os.environ.get(SHARED_FOLDER):
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        home = CollectorRegistry()
        home.register(self._home)
        return generate_latest(registry) + generate_latest(home)


class _Home(Collector):
    """What became of the events of the home; the same whichever process is asked."""

    def __init__(self, statistics: Callable[[], Mapping[str, Any]]) -> None:
        self._statistics = statistics

    def collect(self) -> Iterable[Metric]:
        sinks = self._statistics()["sinks"]
        events = GaugeMetricFamily(
            "llm_metering_events",
            "Events of the home, by sink and by what became of them.",
            labels=["sink", "account", "outcome"],
        )
        oldest = GaugeMetricFamily(
            "llm_metering_oldest_pending_seconds",
            "How long the oldest event that is still to be delivered has been waiting.",
            labels=["sink", "account"],
        )
        state = GaugeMetricFamily(
            "llm_metering_sink_state",
            "1 for the state that a sink is in.",
            labels=["sink", "account", "state"],
        )
        for sink in sinks:
            names = [sink["name"], sink["account"]]
            for outcome in _OUTCOMES:
                events.add_metric([*names, outcome], sink[outcome])
            oldest.add_metric(names, sink["oldest_pending_seconds"] or 0)
            for each in _STATES:
                state.add_metric([*names, each], float(sink["state"] == each))
        return [events, oldest, state]
