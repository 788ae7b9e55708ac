"""Where it is counted that metering failed: LlamaIndex itself swallows it."""

from __future__ import annotations

import logging

from ..default_meter import current_meter

__all__ = ["note_failure"]

logger = logging.getLogger("llm_metering")


def note_failure(where: str, error: Exception) -> None:
    """Count a failure of ours; nothing here raises."""
    meter = current_meter()
    if meter is None:
        logger.error("metering failed in %s: %s", where, type(error).__name__)
    else:
        meter.note_failure(where, error)
