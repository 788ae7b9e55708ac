"""The handler that every call of the process goes through, once `install()` was called.

Read in langchain-core 1.7.2, `tracers/context.py` (`register_configure_hook`) and
`callbacks/manager.py` (`_configure`).
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any, Final

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.tracers import context

from .. import taps
from ..default_meter import get_meter
from ..installed import ENFORCED, INSTALLED
from .default_meters import calls_in_flight
from .handler import MeteringHandler

__all__ = ["install", "uninstall"]

_NAME: Final = "llm_metering_global_handler"


class _GlobalHandler(MeteringHandler):
    """The handler of `install()`; switched off it lets calls in flight end."""

    def __init__(self) -> None:
        # Not MeteringHandler's: that one makes the default meter, and this runs on import.
        BaseCallbackHandler.__init__(self)
        self._introduce("global")
        self.enabled = False

    @property
    def _is_enforcing(self) -> bool:
        """Whether `install` said so, or the settings do."""
        return "langchain" in ENFORCED or super()._is_enforcing

    @property
    def _accepts_calls(self) -> bool:  # type: ignore[override]  # nobody writes it
        return self.enabled

    @property
    def run_inline(self) -> bool:  # type: ignore[override]  # LangChain only reads it
        """Switched off, only as long as calls are in flight, whose ends would be lost otherwise."""
        # An inline handler keeps the start of an async completion model from the user's others:
        # https://github.com/langchain-ai/langchain/issues/39633
        return self.enabled or calls_in_flight()

    @property
    def ignore_chat_model(self) -> bool:  # type: ignore[override]  # LangChain only reads it
        """Switched off, it is told of no start."""
        return not self.enabled

    @property
    def ignore_llm(self) -> bool:  # type: ignore[override]  # LangChain only reads it
        """Switched off, it is told of ends as long as calls are in flight."""
        return not (self.enabled or calls_in_flight())

    ignore_chain = ignore_agent = ignore_retriever = ignore_llm


_global_handler: Final = _GlobalHandler()
# A context variable with a default is seen in every thread and context, those that copy no
# context included.
_global_variable: Final[ContextVar[BaseCallbackHandler | None]] = ContextVar(
    _NAME, default=_global_handler
)
_registration: Final = threading.Lock()


def install(*, enforce: bool = False) -> None:
    """Meter every LangChain call of this process from now on; idempotent.

    Args:
        enforce: Whether calls are refused that the payer's balance does not cover.

    Raises:
        MeteringError: If the default meter cannot be made of the settings there are.
    """
    get_meter().start()
    with _registration:
        hooks = [hook[0] for hook in _hooks()]
        if _global_variable not in hooks:
            # Not inheritable: then LangChain adds it to each run anew and behind the handlers of
            # the call and of the model, so that it knows who pays by them before it speaks.
            # For good, since LangChain has no way to take a hook back: the handler itself is
            # switched on and off.
            context.register_configure_hook(_global_variable, inheritable=False)
        _switch_off(*(each for each in hooks if each is not _global_variable))
        _global_handler.enabled = True
        INSTALLED.add("langchain")
        if enforce:
            ENFORCED.add("langchain")


def uninstall() -> None:
    """Meter new calls no longer; calls in flight and handlers given explicitly go on."""
    with _registration:
        _switch_off(*(hook[0] for hook in _hooks()))
        _global_handler.enabled = False
        INSTALLED.discard("langchain")
        ENFORCED.discard("langchain")
    # A call with a handler of its own puts them back.
    taps.remove()


def _hooks() -> Sequence[tuple[ContextVar[Any], Any, Any, Any]]:
    # What is registered is asked where it is kept: a module of LangChain's that is imported anew
    # has forgotten us. Should the name go, we are registered twice, which LangChain notices.
    return getattr(context, "_configure_hooks", ())


def _switch_off(*variables: ContextVar[Any]) -> None:
    # Ours, of this module before it was imported anew, as in a notebook. If all of the package
    # was, the call table of the one before knows nothing of ours: each call would be billed twice.
    for variable in variables:
        if variable.name == _NAME:
            variable.get().enabled = False
