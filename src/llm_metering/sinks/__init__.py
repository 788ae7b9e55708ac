"""Where usage events go, and how a URL names it."""

from __future__ import annotations

from .base import (
    Dedupe,
    Delivery,
    Envelope,
    Refusal,
    Sink,
    SinkContext,
    SinkFactory,
    SinkLimits,
)
from .registry import ENTRY_POINTS, open_sink

__all__ = [
    "ENTRY_POINTS",
    "Dedupe",
    "Delivery",
    "Envelope",
    "Refusal",
    "Sink",
    "SinkContext",
    "SinkFactory",
    "SinkLimits",
    "open_sink",
]
