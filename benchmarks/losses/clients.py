"""The clients, each used as its documentation has it, with its defaults.

Nothing of a client is imported before it is made: this module is read by interpreters that have
few of them. `record` gives an event its number and says what the client calls it.
"""

from __future__ import annotations

import json
import queue
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Final, NamedTuple, Protocol

__all__ = ["CLIENTS", "CONTROL", "OURS", "Client", "Running", "Setup"]

OURS: Final = "llm-metering"
CONTROL: Final = "queue and thread"
SUBJECT: Final = "customer-42"
MODEL: Final = "gpt-5-mini"


class Setup(NamedTuple):
    """What a client is made from.

    Attributes:
        url: The server.
        home: A folder that stays through the next start of the application.
        flush_timeout: Seconds; for those that take one.
    """

    url: str
    home: Path
    flush_timeout: float


class Running(Protocol):
    """A client at work."""

    def record(self, number: int) -> str | None:
        """Record a call of a model; its id, or `None` if the client says that it did not take it."""

    def flush(self) -> None:
        """What the client's documentation asks for before an application ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A row of the table.

    Attributes:
        distribution: What to install; `None` if nothing.
        make: Starts it.
        note: What is not its default.
    """

    distribution: str | None
    make: Callable[[Setup], Running]
    note: str = ""


class _Ours:
    def __init__(self, setup: Setup) -> None:
        self._timeout = setup.flush_timeout
        self._usage = import_module("llm_metering").TokenUsage
        self._meter = import_module("llm_metering").configure(
            home=setup.home, sinks=[f"openmeter+{setup.url}"], source="losses"
        )
        self._meter.start()

    def record(self, number: int) -> str | None:
        event = self._meter.record(
            self._usage(input_tokens=100, output_tokens=20),
            SUBJECT,
            model=MODEL,
            dimensions={"number": str(number)},
        )
        return str(event.id)

    def flush(self) -> None:
        self._meter.flush(self._timeout)


class _Control:
    """The least that does not block its caller: a queue, a thread, and tries without end."""

    def __init__(self, setup: Setup) -> None:
        self._url = f"{setup.url}/v1/batch"
        self._queue: queue.Queue[dict[str, object]] = queue.Queue()
        threading.Thread(target=self._run, daemon=True).start()

    def record(self, number: int) -> str | None:
        name = str(uuid.uuid4())
        self._queue.put({"messageId": name, "properties": {"number": number}})
        return name

    def flush(self) -> None:
        self._queue.join()

    def _run(self) -> None:
        while True:
            batch = [self._queue.get()]
            while len(batch) < 100 and not self._queue.empty():
                batch.append(self._queue.get())
            while not self._sent(json.dumps({"batch": batch}).encode()):
                time.sleep(0.5)
            for _ in batch:
                self._queue.task_done()

    def _sent(self, body: bytes) -> bool:
        request = urllib.request.Request(self._url, body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


class _PostHog:
    def __init__(self, setup: Setup) -> None:
        self._client = import_module("posthog").Posthog("phc_losses", host=setup.url)

    def record(self, number: int) -> str | None:
        properties = {"$ai_model": MODEL, "$ai_input_tokens": 100, "number": number}
        name = self._client.capture("$ai_generation", distinct_id=SUBJECT, properties=properties)
        return None if name is None else str(name)

    def flush(self) -> None:
        self._client.shutdown()


class _Segment:
    def __init__(self, setup: Setup) -> None:
        client = import_module("segment.analytics.client")
        self._client = client.Client("losses", host=setup.url)

    def record(self, number: int) -> str | None:
        properties = {"model": MODEL, "input_tokens": 100, "number": number}
        taken, message = self._client.track(SUBJECT, "LLM call", properties)
        return str(message["messageId"]) if taken else None

    def flush(self) -> None:
        self._client.shutdown()


class _Amberflo:
    def __init__(self, setup: Setup) -> None:
        # There is no option for it.
        import_module("metering.session").IngestSession.root_url = setup.url
        self._client = import_module("metering.ingest").create_ingest_client(api_key="losses")

    def record(self, number: int) -> str | None:
        name = str(uuid.uuid4())
        taken = self._client.meter(
            meter_api_name="tokens",
            meter_value=120,
            meter_time_in_millis=time.time_ns() // 1_000_000,
            customer_id=SUBJECT,
            dimensions={"model": MODEL, "number": str(number)},
            unique_id=name,
        )
        return name if taken else None

    def flush(self) -> None:
        self._client.shutdown()


class _OpenTelemetry:
    def __init__(self, setup: Setup, **queue_size: int) -> None:
        trace = import_module("opentelemetry.sdk.trace")
        export = import_module("opentelemetry.sdk.trace.export")
        otlp = import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
        exporter = otlp.OTLPSpanExporter(endpoint=f"{setup.url}/v1/traces")
        self._provider = trace.TracerProvider()
        self._provider.add_span_processor(export.BatchSpanProcessor(exporter, **queue_size))
        self._tracer = self._provider.get_tracer("losses")

    def record(self, number: int) -> str | None:
        attributes = {"gen_ai.request.model": MODEL, "gen_ai.usage.input_tokens": 100}
        span = self._tracer.start_span(f"call {number}", attributes=attributes)
        span.end()
        context = span.get_span_context()
        return f"{context.trace_id:032x}-{context.span_id:016x}"

    def flush(self) -> None:
        self._provider.shutdown()


def _opentelemetry_50k(setup: Setup) -> Running:
    return _OpenTelemetry(setup, max_queue_size=50_000)


class _Langfuse:
    def __init__(self, setup: Setup) -> None:
        self._client = import_module("langfuse").Langfuse(
            public_key="pk-lf-losses", secret_key="sk-lf-losses", base_url=setup.url
        )

    def record(self, number: int) -> str | None:
        generation = self._client.start_observation(
            name=f"call {number}",
            as_type="generation",
            model=MODEL,
            usage_details={"input": 100, "output": 20},
        )
        generation.end()
        return f"{generation.trace_id}-{generation.id}"

    def flush(self) -> None:
        self._client.shutdown()


class _LangSmith:
    def __init__(self, setup: Setup) -> None:
        self._client = import_module("langsmith").Client(api_url=setup.url, api_key="losses")
        self._new_id = import_module("langsmith").uuid7

    def record(self, number: int) -> str | None:
        run_id, now = self._new_id(), datetime.now(UTC)
        self._client.create_run(
            f"call {number}",
            {"tokens": 100},
            "llm",
            id=run_id,
            # Without these two, the run is not batched but sent on the calling thread.
            trace_id=run_id,
            dotted_order=f"{now:%Y%m%dT%H%M%S%f}Z{run_id}",
            start_time=now,
            end_time=now,
            outputs={"tokens": 20},
            project_name="losses",
        )
        return str(run_id)

    def flush(self) -> None:
        self._client.close()


CLIENTS: Final[Mapping[str, Client]] = {
    OURS: Client(distribution="llm-metering", make=_Ours),
    CONTROL: Client(distribution=None, make=_Control),
    "posthog": Client(distribution="posthog", make=_PostHog),
    "segment": Client(distribution="segment-analytics-python", make=_Segment),
    "amberflo": Client(distribution="amberflo-metering-python", make=_Amberflo),
    "opentelemetry": Client(
        distribution="opentelemetry-exporter-otlp-proto-http", make=_OpenTelemetry
    ),
    "opentelemetry, 50k": Client(
        distribution="opentelemetry-exporter-otlp-proto-http",
        make=_opentelemetry_50k,
        note="max_queue_size=50000",
    ),
    "langfuse": Client(distribution="langfuse", make=_Langfuse),
    "langsmith": Client(distribution="langsmith", make=_LangSmith),
}
"""Every row, in the order of the table."""
