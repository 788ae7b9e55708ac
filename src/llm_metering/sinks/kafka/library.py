"""confluent-kafka: its import, its log, and the life of a producer.

A producer cannot be used in a forked child. Dropping the last reference to it destroys it, as the
interpreter of a child does at its end, and that waits for threads which the child does not have. So it is
held on to until the process that made it lets it go.
"""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Iterable
from typing import Any, Final

from ... import system
from ...errors import MissingExtraError
from ...handoff import DaemonThread
from ..reasons import shorten

__all__ = ["Log", "confluent_kafka", "destroy", "hold_on"]

logger = logging.getLogger("llm_metering")

DESTROY_WAIT: Final = 1.0
"""Seconds; what takes longer goes on by itself."""


def confluent_kafka() -> Any:
    """The package.

    Raises:
        MissingExtraError: If it is not installed.
    """
    try:
        # Importing takes a lock that a child would inherit locked.
        with system.undisturbed():
            import confluent_kafka as package
    except ImportError as error:
        raise MissingExtraError("confluent-kafka", "kafka") from error
    return package


def hold_on(producer: Any) -> None:
    """Keep a producer from being destroyed but by `destroy`."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(producer))


def destroy(last: list[Any]) -> None:
    """Let go of the producer that `last` has the last reference to but for that of `hold_on`."""

    def work() -> None:
        with system.undisturbed():
            ctypes.pythonapi.Py_DecRef(ctypes.py_object(last[0]))
            last.clear()

    # It waits for librdkafka's threads, and one of those may wait for the resolver.
    thread = DaemonThread(work, name="llm-metering-kafka-end")
    try:
        thread.start()
    except RuntimeError:
        return  # the interpreter ends, and so does the producer
    thread.join(DESTROY_WAIT)


class Log:
    """Takes what librdkafka would write to stderr.

    Args:
        secrets: What it must not show.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets = secrets

    def log(self, _level: int, text: str, *values: object) -> None:
        # Outages are told by the transport, once a minute; this is for who looks for more.
        if logger.isEnabledFor(logging.DEBUG):
            logger.debug("librdkafka: %s", shorten(text % values, self._secrets))
