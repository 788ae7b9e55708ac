"""Kafka: the sink, and what `llm-metering ingest` needs to read the topic that it writes."""

from .sink import KafkaSink, from_url

__all__ = ["KafkaSink", "from_url"]
