"""Recorded traffic of real providers, which is no part of the repository."""

from __future__ import annotations

import base64
import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest
from botocore.eventstream import EventStreamBuffer

FOLDER = os.environ.get("LLM_METERING_RESPONSES", "")
ABSENT = "recorded traffic: set LLM_METERING_RESPONSES to the folder that holds it"

NUMBERS = {
    "input_tokens_total": "input_tokens",
    "output_tokens_total": "output_tokens",
    "cache_read_tokens": "cache_read_input_tokens",
    "cache_write_tokens": "cache_creation_input_tokens",
    "reasoning_tokens": "reasoning_output_tokens",
}


TRAFFIC = {1: "ON_DEMAND"}
"""Vertex AI's numbers, where it was asked for numbers."""


@dataclass(frozen=True, kw_only=True)
class Interaction:
    """One request and its answer."""

    name: str
    provider: str
    api: str
    model: str | None
    is_stream: bool
    request: dict
    body: dict
    expected: dict | None
    usage_as_recorded: object

    @property
    def text(self) -> str:
        """The body as text, or for what is not text, its chunks as lines of JSON."""
        if "text" in self.body:
            return self.body["text"]
        return "\n".join(json.dumps(_jsonable(chunk)) for chunk in self.chunks)

    @property
    def chunks(self) -> list[dict]:
        """The decoded chunks of a stream."""
        if "base64" in self.body:
            return list(_aws_events(base64.b64decode(self.body["base64"])))
        return list(_text_events(self.body["text"]))

    @property
    def tier(self) -> str | None:
        """The last tier that the answer names, by a simple reading of all of it; `auto` is none."""
        pieces = self.chunks if self.is_stream else [json.loads(self.body.get("text", "null"))]
        words = [TRAFFIC.get(word, word) for piece in pieces for word in _tiers(piece)]
        named = [word.lower() for word in words if word not in ("", "auto")]
        return named[-1] if named else None


def _aws_events(content: bytes):
    """As botocore decodes `ConverseStream` and `InvokeModelWithResponseStream`."""
    buffer = EventStreamBuffer()
    buffer.add_data(content)
    for event in buffer:
        payload = json.loads(event.payload)
        kind = event.headers[":event-type"]
        if kind == "chunk":
            payload = {"bytes": base64.b64decode(payload["bytes"])}
        yield {kind: payload}


def _text_events(text: str):
    """An independent, simple reading of server-sent events, lines of JSON and JSON arrays."""
    if text.lstrip().startswith("["):
        yield from json.loads(text)
        return
    for line in text.splitlines():
        content = line.removeprefix("data:").strip()
        if content.startswith("{"):
            yield json.loads(content)


def _tiers(value):
    if isinstance(value, list):
        for each in value:
            yield from _tiers(each)
    elif isinstance(value, dict):
        for key, each in value.items():
            if key in ("service_tier", "serviceTier", "trafficType") and each is not None:
                yield each
            else:
                yield from _tiers(each)


def _jsonable(value):
    if isinstance(value, dict):
        return {key: _jsonable(each) for key, each in value.items()}
    return value.decode() if isinstance(value, bytes) else value


def _load():
    if not FOLDER:
        return
    folder = Path(FOLDER)
    for entry in json.loads((folder / "manifest.json").read_text()):
        recorded = json.loads((folder / entry["file"]).read_text())
        for number, each in enumerate(recorded.get("interactions", [recorded])):
            is_sequence = "interactions" in recorded
            yield Interaction(
                name=f"{entry['file'].removesuffix('.json')}{f'-{number}' if is_sequence else ''}",
                provider=entry["provider"],
                api=entry["api"],
                model=entry["model"],
                is_stream=bool(entry["streaming"]),
                request=each["request"],
                body=each["response"]["body"],
                expected=each.get("expected"),
                usage_as_recorded=each.get("usage_as_recorded"),
            )


INTERACTIONS = tuple(_load())
ANSWERS = tuple(each for each in INTERACTIONS if each.api != "error")
ERRORS = tuple(each for each in INTERACTIONS if each.api == "error")


def params(interactions):
    """Test parameters, one for each interaction; a single one that is skipped if there are none."""
    skipped = pytest.param(None, marks=pytest.mark.skip(reason=ABSENT), id="absent")
    return [pytest.param(each, id=each.name) for each in interactions] or [skipped]


def sequences() -> dict[str, tuple[list[Interaction], dict]]:
    """The runs of several calls, with the sum that is expected of each."""
    if not FOLDER:
        return {}
    folder = Path(FOLDER)
    return {
        path.stem: (
            [each for each in INTERACTIONS if each.name.startswith(f"sequences/{path.stem}-")],
            json.loads(path.read_text())["expected_sum"],
        )
        for path in sorted(folder.glob("sequences/*.json"))
    }
