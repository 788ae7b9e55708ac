"""What the tests of the providers' native shapes share."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from llm_metering.extract.views import as_mapping
from tests.extract.recorded import ANSWERS, NUMBERS, params

FOLDER = Path(__file__).with_name("bodies")


def _any(_each):
    return True


def cases(*names, streamed=None, where=_any):
    """The bodies we wrote for these providers, as test parameters."""
    return [
        pytest.param(case, id=f"{name}-{case['name']}")
        for name in names
        for case in json.loads((FOLDER / f"{name}.json").read_text())["cases"]
        if streamed in {None, "chunks" in case} and where(case)
    ]


def body_of(name, case_name):
    """One of the bodies we wrote, or its chunks."""
    for param in cases(name):
        (case,) = param.values
        if case["name"] == case_name:
            return case.get("body", case.get("chunks"))
    raise KeyError(case_name)


def recorded(*apis, streamed, where=_any):
    """The recorded answers of these APIs that carry a usage, as test parameters."""
    return params(
        each
        for each in ANSWERS
        if each.api in apis and each.is_stream == streamed and each.expected and where(each)
    )


def chunks_of(interaction):
    """The chunks of a recorded stream; that of Vertex AI may be one JSON array."""
    text = interaction.body.get("text", "")
    return json.loads(text) if text.startswith("[") else interaction.chunks


def numbers_of(usage):
    """The numbers that are expected of each recording; an absent part counts as none."""
    return {key: getattr(usage, field, None) or 0 for key, field in NUMBERS.items()}


def expected_of(interaction):
    return {key: interaction.expected[key] for key in NUMBERS}


def fed(module, chunks):
    """A module's stream, fed with dicts or objects of an SDK."""
    stream = module.Stream()
    for chunk in chunks:
        fields = as_mapping(chunk)
        if module.matches_chunk(fields):
            stream.feed(fields)
    return stream


def reading_of(module, chunks):
    """What a module says of a whole stream."""
    stream = fed(module, chunks)
    return replace(module.read(stream.body()), is_final=stream.is_final)


def counts_of(reading):
    """The counts a body gives, in the form the files of bodies have them."""
    counts = {} if reading.usage is None else reading.usage.counts()
    total = None if reading.usage is None else reading.usage.reported_total_tokens
    return counts if total is None else {**counts, "reported_total_tokens": total}


def counts_in(case):
    """The counts a case expects, without what stands beside them."""
    beside = {"measures", "provider", "model", "operation"}
    return {name: count for name, count in case["expected"].items() if name not in beside}
