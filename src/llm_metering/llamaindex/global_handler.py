"""Metering every LlamaIndex call of the process, once `install()` was called."""

from __future__ import annotations

import sys

from .. import taps
from ..default_meter import get_meter
from ..installed import ENFORCED, INSTALLED

__all__ = ["install", "uninstall"]


def install(*, enforce: bool = False) -> None:
    """Meter every LlamaIndex call of this process from now on; idempotent.

    Args:
        enforce: Whether calls are refused that the payer's balance does not cover.

    Raises:
        MeteringError: If the default meter cannot be made of the settings there are.
    """
    meter = get_meter()
    meter.start()
    INSTALLED.add("llamaindex")
    if enforce:
        ENFORCED.add("llamaindex")
    if enforce or meter.settings.enforce:
        # Not when LlamaIndex is used: the first call would be heard of when it is too late to refuse it.
        from .dispatchers import put
        from .model_gates import watch_models

        put()
        watch_models()
    elif "llama_index.core" in sys.modules:
        from .dispatchers import put

        put()
    else:
        from .waiting import wait

        wait()


def uninstall() -> None:
    """Meter new calls no longer; calls in flight and objects with a handler of their own go on."""
    # The handlers stay where they are, for those: where nothing holds for a call they do nothing.
    INSTALLED.discard("llamaindex")
    ENFORCED.discard("llamaindex")
    taps.remove()
