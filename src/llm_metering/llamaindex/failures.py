"""Where it is counted that metering failed: LlamaIndex itself swallows it."""

from __future__ import annotations

import logging

from ..default_meter import current_meter
from ..meter import Meter

__all__ = ["note_failure"]

logger = logging.getLogger("llm_metering")


def note_failure(where: str, error: Exception, meter: Meter | None = None) -> None:
    """Count a failure of ours; nothing here raises.

    Args:
        where: What failed.
        error: With what; of it the name of its class is kept.
        meter: Who counts; the process's default meter, if left out and if there is one.
    """
    meter = meter or current_meter()
    if meter is None:
        logger.error("metering failed in %s: %s", where, type(error).__name__)
    else:
        meter.note_failure(where, error)
