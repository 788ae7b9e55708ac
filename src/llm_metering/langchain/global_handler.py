"""The handler that every call of the process goes through, once `install()` was called."""

from __future__ import annotations

import threading
from contextvars import ContextVar
from typing import Final

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.tracers.context import register_configure_hook

from .. import taps
from ..default_meter import get_meter
from .handler import MeteringHandler

__all__ = ["install", "uninstall"]


class _GlobalHandler(MeteringHandler):
    """The handler of `install()`; switched off it lets calls in flight end."""

    def __init__(self) -> None:
        # Not MeteringHandler's: that one makes the default meter, and this runs on import.
        BaseCallbackHandler.__init__(self)
        self._introduce("global")
        self.enabled = False

    @property
    def _accepts_calls(self) -> bool:
        return self.enabled


_global_handler: Final = _GlobalHandler()
# A context variable with a default is seen in every thread and context, those that copy no
# context included.
_global_variable: Final[ContextVar[BaseCallbackHandler | None]] = ContextVar(
    "llm_metering_global_handler", default=_global_handler
)
_registration: Final = threading.Lock()
_registered = False


def install() -> None:
    """Meter every LangChain call of this process from now on; idempotent.

    Raises:
        MeteringError: If the default meter cannot be made of the settings there are.
    """
    global _registered
    get_meter().start()
    with _registration:
        if not _registered:
            # For good: LangChain has no way to take a hook back (`tracers/context.py`), so the
            # handler itself is switched on and off.
            register_configure_hook(_global_variable, inheritable=True)
            _registered = True
    _global_handler.enabled = True


def uninstall() -> None:
    """Meter new calls no longer; calls in flight and handlers given explicitly go on."""
    _global_handler.enabled = False
    # A call with a handler of its own puts them back.
    taps.remove()
