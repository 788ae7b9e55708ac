"""What the clients send: the number and the id of each event in a request's body.

Read from what these clients send: posthog 7.91.1, segment-analytics-python 2.4.0,
amberflo-metering-python 3.3.1, opentelemetry-exporter-otlp-proto-http 1.45.2, langfuse 5.0.4,
langsmith 0.15.0. The number is the application's own, given to each event; the id is the one
that the client or its application made, by which a server can tell an event that comes again.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Final, NamedTuple

__all__ = ["ANSWERS", "Answer", "Arrival", "answer_to", "arrivals"]


class Arrival(NamedTuple):
    """An event as it came.

    Attributes:
        number: The application's number of it.
        id: What it was called on the wire.
    """

    number: int
    id: str


class Answer(NamedTuple):
    """What a server says.

    Attributes:
        status: HTTP's.
        body: Of the type that the request came in, mostly.
        content_type: Of the body.
    """

    status: int
    body: bytes = b""
    content_type: str = "application/json"


# The real server's answer decides whether the client batches, and how.
_LANGSMITH_INFO: Final = {
    "version": "0.15.0",
    "batch_ingest_config": {
        "use_multipart_endpoint": True,
        "scale_up_qsize_trigger": 1000,
        "scale_up_nthreads_limit": 16,
        "scale_down_nempty_trigger": 4,
        "size_limit": 100,
        "size_limit_bytes": 20_971_520,
    },
    "instance_flags": {"zstd_compression_enabled": True},
}

ANSWERS: Final[Mapping[str, Answer]] = {
    "/api/v1/events": Answer(204),
    "/batch/": Answer(200, b'{"status": "Ok"}'),
    "/v1/batch": Answer(200, b'{"success": true}'),
    "/ingest/": Answer(200, b"Success", "text/plain"),
    "/v1/traces": Answer(200, b"", "application/x-protobuf"),
    "/api/public/otel/v1/traces": Answer(200, b"", "application/x-protobuf"),
    "/runs/multipart": Answer(202, b"{}"),
    "/runs/batch": Answer(202, b"{}"),
}
"""What a server in good health answers to a request that brings events, by path."""


def answer_to(method: str, path: str) -> Answer:
    """What a server in good health answers."""
    if (method, path) == ("GET", "/info"):
        return Answer(200, json.dumps(_LANGSMITH_INFO).encode())
    return ANSWERS.get(path, Answer(404, b"{}")) if method == "POST" else Answer(404, b"{}")


def arrivals(path: str, headers: Mapping[str, str], body: bytes) -> list[Arrival]:
    """The events of a request.

    Args:
        path: One of `ANSWERS`.
        headers: By lower-case name.
        body: As it came.
    """
    return _READERS[path](headers, _decompressed(headers, body))


def _decompressed(headers: Mapping[str, str], body: bytes) -> bytes:
    encoding = headers.get("content-encoding", "identity")
    if encoding == "gzip":
        return gzip.decompress(body)
    if encoding == "zstd":
        # A stream, whose frame does not say how long it is.
        return bytes(import_module("zstandard").ZstdDecompressor().decompressobj().decompress(body))
    if encoding != "identity":
        raise ValueError(f"no client was seen to send {encoding!r}")
    return body


def _cloudevents(headers: Mapping[str, str], body: bytes) -> list[Arrival]:
    return [Arrival(int(event["data"]["number"]), event["id"]) for event in json.loads(body)]


def _posthog(headers: Mapping[str, str], body: bytes) -> list[Arrival]:
    batch = json.loads(body)["batch"]
    return [Arrival(event["properties"]["number"], event["uuid"]) for event in batch]


def _segment(headers: Mapping[str, str], body: bytes) -> list[Arrival]:
    batch = json.loads(body)["batch"]
    return [Arrival(event["properties"]["number"], event["messageId"]) for event in batch]


def _amberflo(headers: Mapping[str, str], body: bytes) -> list[Arrival]:
    events = json.loads(body)
    return [Arrival(int(event["dimensions"]["number"]), event["uniqueId"]) for event in events]


def _otlp(headers: Mapping[str, str], body: bytes) -> list[Arrival]:
    service = import_module("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
    request = service.ExportTraceServiceRequest.FromString(body)
    return [
        Arrival(_number_of(span), f"{span.trace_id.hex()}-{span.span_id.hex()}")
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def _number_of(span: Any) -> int:
    return int(span.name.removeprefix("call "))


def _langsmith_parts(headers: Mapping[str, str], body: bytes) -> list[Arrival]:
    found = re.search(r'boundary="?([^";]+)', headers["content-type"])
    if found is None:
        raise ValueError("a multipart body without a boundary")
    runs = []
    for part in body.split(b"--" + found[1].encode())[1:-1]:
        head, _, content = part.partition(b"\r\n\r\n")
        # A run's inputs and outputs come in parts of their own: post.<id>.inputs.
        if re.search(rb'name="?post\.[0-9a-f-]+"?[;\r]', head):
            runs.append(json.loads(content))
    return [_run(run) for run in runs]


def _langsmith_batch(headers: Mapping[str, str], body: bytes) -> list[Arrival]:
    return [_run(run) for run in json.loads(body)["post"]]


def _run(run: Mapping[str, str]) -> Arrival:
    return Arrival(int(run["name"].removeprefix("call ")), run["id"])


_READERS: Final[Mapping[str, Callable[[Mapping[str, str], bytes], list[Arrival]]]] = {
    "/api/v1/events": _cloudevents,
    "/batch/": _posthog,
    "/v1/batch": _segment,
    "/ingest/": _amberflo,
    "/v1/traces": _otlp,
    "/api/public/otel/v1/traces": _otlp,
    "/runs/multipart": _langsmith_parts,
    "/runs/batch": _langsmith_batch,
}
