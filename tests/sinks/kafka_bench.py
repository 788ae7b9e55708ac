"""Kafka sinks under test, and what their topics hold."""

from __future__ import annotations

from collections import Counter
from contextlib import closing, contextmanager

from llm_metering import TokenUsage
from llm_metering.sinks import open_sink


@contextmanager
def sink_to(brokers, query="", topic="usage", **credentials):
    with closing(open_sink(brokers.url(topic, query), source="tests", **credentials)) as sink:
        yield sink


def ids_in(brokers, topic="usage"):
    """How often each event is there."""
    return Counter(dict(each.headers)["ce_id"].decode() for each in brokers.records(topic))


def ids_of(batch):
    return {envelope.id for envelope in batch}


def record(meter, count, *, first=0):
    for number in range(first, first + count):
        usage = TokenUsage(input_tokens=100, output_tokens=20)
        meter.record(usage, f"customer-{number % 50}", provider="openai", model="gpt-5-mini")


def books(meter):
    """How the one sink of a meter stands."""
    [sink] = [each for each in meter.statistics()["sinks"] if each["url"].startswith("kafka")]
    assert sink["recorded"] == sink["acked"] + sink["pending"] + sink["dead"] + sink["dropped"]
    return sink


def murmur2(data: bytes) -> int:
    """As in Kafka's `Utils.murmur2`, which is Austin Appleby's MurmurHash2 with this seed."""
    m, mask = 0x5BD1E995, 0xFFFFFFFF
    h = 0x9747B28C ^ len(data)
    whole = len(data) // 4 * 4
    for at in range(0, whole, 4):
        k = int.from_bytes(data[at : at + 4], "little") * m & mask
        h = (h * m & mask) ^ ((k ^ k >> 24) * m & mask)
    if rest := data[whole:]:
        h = (h ^ int.from_bytes(rest, "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return h ^ h >> 15
