"""Whether Kafka's brokers are there, take us, and keep what is written to the topic.

What a topic's settings mean: https://kafka.apache.org/documentation/#topicconfigs
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from ..sinks.kafka import KafkaSink
from ..sinks.kafka.faults import plain
from ..sinks.kafka.library import Log, confluent_kafka
from ..sinks.reasons import shorten
from .finding import Finding, failure, ok, warning

__all__ = ["ANSWER_LIMIT", "check_kafka", "unreachable"]

ANSWER_LIMIT: Final = 5.0
"""Seconds for each question."""

DAY: Final = 86_400_000
"""Milliseconds."""


def check_kafka(sink: KafkaSink, *, limit: float = ANSWER_LIMIT) -> Iterator[Finding]:
    """Ask the brokers of a sink, as the sink would; nothing is written, and no topic is made.

    Args:
        sink: The sink.
        limit: Seconds for each question.
    """
    library = confluent_kafka()
    complaints: dict[str, str] = {}
    admin: Any = importlib.import_module("confluent_kafka.admin")
    config: dict[str, Any] = {
        **sink.properties,
        "error_cb": lambda error: complaints.setdefault(error.name(), plain(error)),
        "logger": Log(sink.topic.secrets),
    }
    client = admin.AdminClient(config)
    try:
        # Of all topics: asking for one by its name would have some brokers make it.
        cluster = client.list_topics(timeout=limit)
    except library.KafkaException as error:
        client.poll(0)
        yield _unreachable(sink, complaints, plain(error.args[0]))
        return
    yield ok("sink.reachable", f"{len(cluster.brokers)} brokers answer", sink=sink.name)
    name = sink.topic.topic
    topic = cluster.topics.get(name)
    if topic is None or topic.error is not None:
        made = _settings(client, "BROKER", str(cluster.controller_id), limit)
        yield _missing(sink, is_made=made.get("auto.create.topics.enable") == "true")
        return
    partitions = list(topic.partitions.values())
    replicas = min(len(each.replicas) for each in partitions)
    yield ok(
        "sink.topic",
        f"{name} has {len(partitions)} partitions of {replicas} replicas",
        sink=sink.name,
    )
    settings = _settings(client, "TOPIC", name, limit)
    yield from _judge_partitions(sink, partitions, settings.get("min.insync.replicas"))
    yield _judge_replicas(sink, replicas, settings.get("min.insync.replicas"))
    if settings:
        yield _judge_cleaning(sink, settings)
    else:
        yield warning(
            "sink.retention",
            f"the settings of {name} are not told to us",
            means="whether the topic is compacted, or forgets within hours, is not known",
            advice="give our user DescribeConfigs on the topic for this check, or look there",
            sink=sink.name,
        )


def unreachable(sink: str, found: str) -> Finding:
    """That no broker answers."""
    return failure(
        "sink.reachable",
        found,
        means="nothing is delivered; events wait on disk",
        advice="look at the brokers, their advertised listeners, the resolver and the network",
        sink=sink,
    )


def _unreachable(sink: KafkaSink, complaints: Mapping[str, str], otherwise: str) -> Finding:
    secrets = sink.topic.secrets
    if (refused := complaints.get("_AUTHENTICATION")) is not None:
        return failure(
            "sink.reachable",
            shorten(f"the brokers refuse us: {refused}", secrets),
            means="the sink pauses; events wait on disk",
            advice="look at LLM_METERING_KAFKA_USERNAME and LLM_METERING_KAFKA_PASSWORD, and at"
            " sasl.mechanism and security.protocol",
            sink=sink.name,
        )
    told = complaints.get("_SSL") or complaints.get("_RESOLVE") or complaints.get("_TRANSPORT")
    return unreachable(sink.name, shorten(told or otherwise, secrets))


def _missing(sink: KafkaSink, *, is_made: bool) -> Finding:
    name = sink.topic.topic
    if is_made:
        return warning(
            "sink.topic",
            f"there is no topic {name}; the brokers make one when it is written to",
            means="it gets the brokers' defaults: often one partition, one replica, seven days",
            advice="make it yourself, with three replicas and min.insync.replicas=2",
            sink=sink.name,
        )
    return failure(
        "sink.topic",
        f"there is no topic {name}, or our user may not see it",
        means="the sink pauses; events wait on disk",
        advice="make the topic, and give our user Write and Describe on it",
        sink=sink.name,
    )


def _judge_partitions(
    sink: KafkaSink, partitions: Sequence[Any], least: str | None
) -> Iterator[Finding]:
    """What takes nothing at this moment; of partitions that take events nothing is said."""
    means = "the events of some subjects are not taken; they wait on disk"
    of_all = f"of {len(partitions)} partitions"
    if headless := sum(each.leader < 0 for each in partitions):
        yield failure(
            "sink.partitions",
            f"{headless} {of_all} have no leader",
            means=means,
            advice="look at the brokers: all that have these partitions are away",
            sink=sink.name,
        )
    wanted = 0 if least is None else int(least)
    if short := sum(len(each.isrs) < wanted <= len(each.replicas) for each in partitions):
        yield failure(
            "sink.partitions",
            f"{short} {of_all} have fewer replicas in sync than min.insync.replicas, {wanted}",
            means=means,
            advice="look at the brokers: some are away, or fall behind",
            sink=sink.name,
        )


def _judge_replicas(sink: KafkaSink, replicas: int, least: str | None) -> Finding:
    check = "sink.replicas"
    if least is not None and int(least) > replicas:
        return failure(
            check,
            f"min.insync.replicas is {least}, and there are {replicas}",
            means="the brokers take nothing; events wait on disk",
            advice="set min.insync.replicas to one less than the replicas",
            sink=sink.name,
        )
    if replicas == 1:
        return warning(
            check,
            "a partition has one replica",
            means="what a broker has acknowledged is lost with its disk",
            advice="give the topic three replicas and min.insync.replicas=2",
            sink=sink.name,
        )
    if least is None:
        return ok(
            check,
            f"{replicas} replicas; the least that must have a record is not told",
            sink=sink.name,
        )
    if int(least) == 1:
        return warning(
            check,
            f"min.insync.replicas is 1, of {replicas} replicas",
            means="a record may be acknowledged that one disk alone has",
            advice="set min.insync.replicas=2",
            sink=sink.name,
        )
    if int(least) == replicas:
        return warning(
            check,
            f"min.insync.replicas is {least}, of {replicas} replicas",
            means="while one broker is away nothing is taken; events wait on disk",
            advice="set min.insync.replicas to one less than the replicas",
            sink=sink.name,
        )
    return ok(check, f"a record is on {least} of {replicas} replicas at least", sink=sink.name)


def _judge_cleaning(sink: KafkaSink, settings: Mapping[str, str]) -> Finding:
    check = "sink.retention"
    if "compact" in settings.get("cleanup.policy", ""):
        return failure(
            check,
            f"the topic is compacted (cleanup.policy={settings['cleanup.policy']})",
            means="the brokers delete all usage of a subject but the newest record",
            advice="set cleanup.policy=delete",
            sink=sink.name,
        )
    kept = int(settings.get("retention.ms", "-1"))
    if 0 <= kept < DAY:
        return warning(
            check,
            f"records are deleted after {kept / 3_600_000:.3g} hours",
            means="what no reader took by then is not counted",
            advice="set retention.ms to more days than a reader may ever be away",
            sink=sink.name,
        )
    size = int(settings.get("retention.bytes", "-1"))
    if size >= 0:
        return warning(
            check,
            f"a partition keeps {size} bytes (retention.bytes)",
            means="the more is used, the sooner records are deleted, read or not",
            advice="set retention.bytes=-1, and bound what is kept by retention.ms",
            sink=sink.name,
        )
    told = "for ever" if kept < 0 else f"for {kept / DAY:.3g} days"
    return ok(check, f"records are kept {told}", sink=sink.name)


def _settings(client: Any, kind: str, name: str, limit: float) -> dict[str, str]:
    admin: Any = importlib.import_module("confluent_kafka.admin")
    resource = admin.ConfigResource(getattr(admin.ResourceType, kind), name)
    try:
        [asked] = client.describe_configs([resource], request_timeout=limit).values()
        entries = asked.result(limit + 1.0)
    except Exception:
        # Not every broker tells, and not everybody: it is said where it matters.
        return {}
    return {each.name: each.value for each in entries.values() if each.value is not None}
