"""How near our own counts come to the providers', on recorded calls.

Each recorded call of real traffic has a request, an answer, and the tokens that the provider
reported. We count both texts as if nothing had been reported, and compare.

Where a provider hides its reasoning, what it reports for it is left out on its side; where it shows
the reasoning, it is counted on both. A recording says little of our counting if a part of what was
counted by the provider is not in it; such calls are set aside and listed, with the reason, and so
are recordings whose numbers were changed by hand.

    LLM_METERING_RESPONSES=/path/to/responses python benchmarks/estimates.py
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import platform
import re
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import mean, median
from typing import Any, Final
from urllib.parse import unquote

from botocore.eventstream import EventStreamBuffer  # type: ignore[import-untyped]

from llm_metering.exchange import Counted, Exchange
from llm_metering.extract import StreamReader, output, read
from llm_metering.tokenizers import Encodings, count, guess
from llm_metering.tokenizers.counting import count_by
from llm_metering.tokenizers.models import rules_of
from llm_metering.tokenizers.text import tokens_in

OPENAI_CHAT: Final = "OpenAI chat"
_PROVIDERS: Final = {"azure-openai": "azure.ai.openai"}
_SMALLEST_CACHE: Final = 16
"""Cached prompts are counted in blocks of this many tokens at least, by whoever caches any."""

# Recordings in which the numbers or the texts are not what was sent, and how one can tell.
_EDITED: Final = {
    "openai/openai-chat-unary-plain-1.json": "dated before its model existed",
    "bedrock/bedrock-invoke-unary-cacheread-1.json": "its system prompt was replaced by a few words",
    "bedrock/bedrock-invoke-unary-cachewrite-1.json": "its system prompt was replaced by a few words",
}
_COMPOSED: Final = ("compound-mini",)
"""Not a model but a service of several, which write prompts for each other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A recorded call beside our count of it."""

    name: str
    family: str
    exchange: Exchange
    reported: Mapping[str, int]
    counted: Counted

    @property
    def input(self) -> tuple[int, int | None]:
        """Reported and counted."""
        return self.reported["input_tokens_total"], self.counted.input_tokens

    @property
    def visible(self) -> tuple[int, int | None]:
        """Reported and counted; with the reasoning, where it is shown."""
        total, counted = self.reported["output_tokens_total"], self.counted.output_tokens
        if self.counted.reasoning_output_tokens and not self.is_summary:
            return total, counted
        hidden = self.reported.get("reasoning_tokens") or 0
        return total - hidden, (counted or 0) - (self.counted.reasoning_output_tokens or 0)

    @property
    def is_summary(self) -> bool:
        """Whether reasoning that is shown is but a summary: OpenAI's own models."""
        return self.family.startswith("OpenAI")

    @property
    def aside(self) -> str:
        """Why this call says nothing of our counting; empty if it does."""
        if self.name in _EDITED:
            return f"changed by hand: {_EDITED[self.name]}"
        cached = (self.reported.get("cache_read_tokens"), self.reported.get("cache_write_tokens"))
        if any(0 < (tokens or 0) < _SMALLEST_CACHE for tokens in cached):
            return "changed by hand: a cache of a few tokens, which no provider keeps"
        if not any(self.reported[f"{side}_tokens_total"] for side in ("input", "output")):
            return "no tokens reported"
        if (self.exchange.model or "").endswith(_COMPOSED):
            return "a service of several models"
        _, _, missing = self.counted.method.partition(";without:")
        # The size of a picture is often a part of its address.
        if missing and not (missing == "image_size" and self.family == OPENAI_CHAT):
            return f"not in the request: {missing.replace('+', ', ')}"
        return ""


def cases(folder: Path, encodings: Encodings) -> Iterator[Case]:
    """All recorded calls whose request is recorded too, each once."""
    seen = set()
    for path in sorted(folder.glob("*/*.json")):
        recording = json.loads(path.read_bytes())
        calls = recording.get("interactions")
        for number, call in enumerate(calls or [recording]):
            request = _request(call)
            reported = call.get("expected")
            if request is None or not reported or "input_tokens_total" not in reported:
                continue
            digest = hashlib.sha256(json.dumps([request, call["response"]["body"]]).encode())
            if digest.digest() in seen:
                continue
            seen.add(digest.digest())
            name = f"{path.parent.name}/{path.name}" + (f"#{number}" if calls else "")
            exchange = _exchange(recording, call, request)
            yield Case(
                name=name,
                family=_family(recording, exchange),
                exchange=exchange,
                reported=reported,
                counted=count(exchange, encodings),
            )


def _request(call: Mapping[str, Any]) -> dict[str, Any] | None:
    body = call["request"].get("body")
    if isinstance(body, str):
        try:
            body = json.loads(body)
        except ValueError:
            return None
    return body if isinstance(body, dict) and "_omitted" not in body else None


def _exchange(
    recording: Mapping[str, Any], call: Mapping[str, Any], request: dict[str, Any]
) -> Exchange:
    body = call["response"]["body"]
    provider = recording["provider"]
    if "base64" in body:
        reader = StreamReader()
        for chunk in _event_stream(body["base64"]):
            reader.feed(chunk)
        answer, model = reader.output(), reader.reading().model
    else:
        answer, model = output(body["text"]), read(body["text"]).model
    address = re.search(r"models?/([^/:]+(?:%3A\d+)?)", call["request"]["uri"])
    return Exchange(
        model=model or request.get("model") or (unquote(address[1]) if address else None),
        provider=_PROVIDERS.get(provider, provider),
        request=request,
        output=answer,
    )


def _event_stream(encoded: str) -> Iterator[dict[str, Any]]:
    buffer = EventStreamBuffer()
    buffer.add_data(base64.b64decode(encoded))
    for event in buffer:
        payload = json.loads(event.payload or b"{}")
        if "bytes" in payload:
            yield json.loads(base64.b64decode(payload["bytes"]))
        else:
            yield {event.headers[":event-type"]: payload}


def _family(recording: Mapping[str, Any], exchange: Exchange) -> str:
    rules = rules_of(exchange.model, exchange.provider)
    if rules.framing == "family":
        return rules.family.name
    if rules.model.startswith("gpt-oss"):
        return "gpt-oss"
    if recording["provider"] in ("openai", "azure-openai"):
        apis = {"openai.chat": OPENAI_CHAT, "openai.responses": "OpenAI responses"}
        return apis.get(recording["api"], "OpenAI text")
    return "OpenAI elsewhere"


def errors(pairs: list[tuple[int, int | None]]) -> tuple[float, float] | None:
    """The mean of the absolute errors of each, and that of all together, in percent.

    What was reported as none is left out, and answers of which nothing arrived.
    """
    known = [(reported, counted) for reported, counted in pairs if reported > 0 and counted]
    if not known:
        return None
    each = [abs(counted - reported) / reported for reported, counted in known]
    total = sum(reported for reported, _ in known)
    return 100 * mean(each), 100 * abs(sum(counted for _, counted in known) - total) / total


def _row(name: str, chosen: list[Case]) -> str:
    inputs, outputs = errors([c.input for c in chosen]), errors([c.visible for c in chosen])
    guessed = errors([(c.input[0], guess(c.exchange).input_tokens) for c in chosen])

    def show(found: tuple[float, float] | None) -> str:
        return f"{found[0]:7.1f} {found[1]:7.1f}" if found else f"{'-':>7} {'-':>7}"

    return f"{name:18} {len(chosen):4} {show(inputs)}  {show(outputs)}  {show(guessed)[:7]}"


def _worst(chosen: list[Case], limit: int = 3) -> Iterator[str]:
    found = []
    for case in chosen:
        for what, (reported, counted) in (("in", case.input), ("out", case.visible)):
            if reported > 0 and counted:
                error = 100 * (counted - reported) / reported
                found.append((abs(error), f"{case.name} {what} {reported}, counted {counted}"))
    found.sort(reverse=True)
    yield from (f"      {error:5.1f} % {text}" for error, text in found[:limit] if error >= 5)


# --- is the calibration an overfit?


def held_out(chosen: list[Case], encodings: Encodings) -> tuple[list[float], float, float] | None:
    """Fit a family's ratio anew to one half of its calls, and count the other half; both ways.

    Returns:
        The two factors by which the ratio would change, and the mean errors of the input and the
        visible output on calls that were not fitted to.
    """
    if len(chosen) < 8:
        return None
    mixed = sorted(chosen, key=lambda case: hashlib.sha256(case.name.encode()).digest())
    halves = mixed[::2], mixed[1::2]
    factors, inputs, outputs = [], [], []
    for fitted, other in (halves, halves[::-1]):
        best = min((x / 100 for x in range(80, 126)), key=lambda x: _error(fitted, x, encodings))
        factors.append(best)
        recounted = [_with_ratio(case, best, encodings) for case in other]
        inputs += [case.input for case in recounted]
        outputs += [case.visible for case in recounted]
    of_input, of_output = errors(inputs), errors(outputs)
    assert of_input is not None
    assert of_output is not None
    return factors, of_input[0], of_output[0]


def _error(chosen: list[Case], ratio: float, encodings: Encodings) -> float:
    recounted = [_with_ratio(case, ratio, encodings) for case in chosen]
    found = [errors([c.input for c in recounted]), errors([c.visible for c in recounted])]
    return sum(each[0] for each in found if each)


def _with_ratio(case: Case, factor: float, encodings: Encodings) -> Case:
    """The call, counted with the ratio of its family changed by this factor."""
    rules = rules_of(case.exchange.model, case.exchange.provider)
    encoding = encodings.get(rules.encoding)
    assert encoding is not None
    rules = replace(rules, family=replace(rules.family, ratio=rules.family.ratio * factor))
    counted = count_by(
        rules, partial(tokens_in, encoding), case.exchange, method=case.counted.method
    )
    return replace(case, counted=counted)


# --- the classic mistake


def pieces_of(folder: Path) -> Iterator[list[str]]:
    """The pieces in which recorded streams brought their text."""
    for path in sorted(folder.glob("*/*stream*.json")):
        recording = json.loads(path.read_bytes())
        if "interactions" in recording or "text" not in recording["response"]["body"]:
            continue
        reader, pieces, length = StreamReader(), [], 0
        for line in recording["response"]["body"]["text"].splitlines(keepends=True):
            reader.feed(line)
            text = "".join(reader.output().texts)
            if len(text) > length:
                pieces.append(text[length:])
                length = len(text)
        if len(pieces) > 1:
            yield pieces


def _by_piece(folder: Path, encodings: Encodings) -> Iterator[str]:
    encoding = encodings.get("o200k_base")
    if encoding is None:
        return
    streams = list(pieces_of(folder))
    times = []
    for _ in range(20):
        started = time.perf_counter()
        by_piece = [sum(len(encoding.encode_ordinary(p)) for p in pieces) for pieces in streams]
        between = time.perf_counter()
        at_once = [len(encoding.encode_ordinary("".join(pieces))) for pieces in streams]
        times.append((between - started) / (time.perf_counter() - between))
    pairs = list(zip(at_once, by_piece, strict=True))
    found = errors([(whole, split) for whole, split in pairs])
    assert found is not None
    yield f"{len(streams)} recorded streams, {sum(map(len, streams))} pieces, o200k_base"
    yield f"  error of counting each piece: mean {found[0]:.1f} %, in all {found[1]:.1f} %"
    worst = max(pairs, key=lambda pair: (pair[1] - pair[0]) / max(pair[0], 1))
    yield f"  at worst {worst[1]} tokens where there are {worst[0]}"
    yield f"  time: {median(times):.1f} times that of encoding once, on the thread that streams"


def main() -> None:
    folder = os.environ.get("LLM_METERING_RESPONSES")
    if not folder:
        sys.exit("set LLM_METERING_RESPONSES to the folder of recorded traffic")
    encodings = Encodings()
    started = time.perf_counter()
    encodings.get("o200k_base")
    loaded = time.perf_counter() - started
    families: defaultdict[str, list[Case]] = defaultdict(list)
    aside = []
    for case in cases(Path(folder), encodings):
        if case.aside:
            aside.append(case)
        else:
            families[case.family].append(case)
    print(f"{_processor()}, {os.cpu_count()} cores, Python {platform.python_version()}, ", end="")
    print(f"tiktoken {version('tiktoken')}; o200k_base loaded in {loaded * 1000:.0f} ms")
    print()
    print("Errors in percent: the mean over calls, and of all calls together.")
    print(f"{'':18} {'n':>4} {'input':^15}  {'visible output':^15}  {'guess':>7}")
    for name in sorted(families, key=lambda name: (name != OPENAI_CHAT, name.lower())):
        print(_row(name, families[name]))
        for line in _worst(families[name]):
            print(line)
    print()
    print("The ratio of a family fitted to one half of its calls, errors on the other; both ways:")
    for name, chosen in sorted(families.items()):
        rules = rules_of(chosen[0].exchange.model, chosen[0].exchange.provider)
        found = held_out(chosen, encodings) if rules.framing == "family" else None
        if found:
            (one, other), inputs, outputs = found
            change = f"ours times {one:.2f} and {other:.2f}"
            print(f"  {name:10} {change}: input {inputs:.1f}, visible output {outputs:.1f}")
    print()
    print("Set aside:")
    for case in aside:
        (stated, ours), (stated_out, ours_out) = case.input, case.visible
        numbers = f"in {stated}, counted {ours}; out {stated_out}, counted {ours_out}"
        print(f"  {case.name}: {case.aside} ({numbers})")
    print()
    print("Counting each piece of a stream, the classic mistake:")
    for line in _by_piece(Path(folder), encodings):
        print(f"  {line}")


def _processor() -> str:
    try:
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
