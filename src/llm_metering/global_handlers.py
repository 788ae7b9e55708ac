"""`install()`: meter every call of whichever framework is installed."""

from __future__ import annotations

import threading
from importlib.util import find_spec
from typing import Any, Final

from .default_meter import limited_meter, set_default_subject
from .errors import MissingExtraError
from .subjects import check_subject

__all__ = ["Installed", "install", "uninstall"]

_lock: Final = threading.Lock()
_asked_for: set[object] = set()
"""Who wants the handlers: the user, by `install`, and each `Installed` that is not over."""
_USER: Final = "install()"


def install(subject: str | None = None, *, enforce: bool = False) -> None:
    """Meter every LLM call of this process, in every thread.

    Idempotent: a notebook cell may run it again. Handlers given to a call as well do no harm;
    a call is billed once.

    Args:
        subject: Who pays where nothing else says so.
        enforce: Whether calls are refused that their payer's balance does not cover. A later
            `install()` leaves it as it is; `uninstall()` ends it.

    Raises:
        ConfigurationError: If calls are to be refused, and a setting switches limits off.
        MissingExtraError: If no framework is installed.
        MeteringError: If the subject or a setting is not usable.
    """
    if subject is not None:
        check_subject(subject)
    handlers = _handlers()
    if not handlers:
        raise MissingExtraError("LangChain or LlamaIndex", "langchain", "llamaindex")
    if enforce:
        limited_meter().require_limits()
    if subject is not None:
        set_default_subject(subject)
    with _lock:
        for handler in handlers:
            handler.install(enforce=enforce)
        _asked_for.add(_USER)


def uninstall() -> None:
    """Undo `install()`: new calls are not metered globally; those in flight settle."""
    with _lock:
        _asked_for.clear()
        for handler in _handlers():
            handler.uninstall()
    set_default_subject(None)


class Installed:
    """The global handlers for a while: they go at its end, unless somebody else wants them as well.

    Without a framework it does nothing.

    Raises:
        MeteringError: If the default meter cannot be made of the settings there are.
    """

    def __init__(self) -> None:
        with _lock:
            for handler in _handlers():
                handler.install()
            _asked_for.add(self)

    def end(self) -> None:
        """It is over; calls in flight settle."""
        with _lock:
            _asked_for.discard(self)
            if not _asked_for:
                for handler in _handlers():
                    handler.uninstall()


def _handlers() -> list[Any]:
    """The global handlers of the frameworks that are installed."""
    found: list[Any] = []
    if find_spec("langchain_core") is not None:
        from .langchain import global_handler as langchain

        found.append(langchain)
    if find_spec("llama_index") is not None and find_spec("llama_index.core") is not None:
        from .llamaindex import global_handler as llamaindex

        found.append(llamaindex)
    return found
