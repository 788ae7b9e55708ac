"""`flush_after`: ship what a function recorded before it returns, where nothing may run afterwards.

AWS Lambda freezes a process as soon as its handler has returned, and may never thaw it.
"""

from __future__ import annotations

import inspect
import logging
import time
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, Final, ParamSpec, TypeVar, cast, overload

from .default_meter import aflush, flush

__all__ = ["FLUSH_AFTER_TIMEOUT", "flush_after"]

logger = logging.getLogger("llm_metering")

P = ParamSpec("P")
R = TypeVar("R")

FLUSH_AFTER_TIMEOUT: Final = 5.0
LOG_EVERY: Final = 60.0

_next_log = 0.0


@overload
def flush_after(function: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def flush_after(
    *, timeout: float = FLUSH_AFTER_TIMEOUT
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
def flush_after(
    function: Callable[P, R] | None = None, /, *, timeout: float = FLUSH_AFTER_TIMEOUT
) -> Callable[P, R] | Callable[[Callable[P, R]], Callable[P, R]]:
    """Flush the default meter whenever a function or a coroutine function ends.

    It does so when the function raises as well, and never raises itself. What could not be
    shipped in time stays on disk; that is logged, once a minute at most.

    Args:
        function: What is decorated.
        timeout: Seconds that the flush takes at most.

    >>> @flush_after
    ... def handler(event: dict[str, str], context: object) -> str:
    ...     return event["name"]
    >>> @flush_after(timeout=2.0)
    ... async def answer(question: str) -> str:
    ...     return question
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        if inspect.iscoroutinefunction(function):
            return cast("Callable[P, R]", _after_coroutine(function, timeout))
        return _after_call(function, timeout)

    return decorate if function is None else decorate(function)


def _after_call(function: Callable[P, R], timeout: float) -> Callable[P, R]:
    @wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        finally:
            try:
                _tell(flush(timeout), timeout)
            except Exception as error:
                _log("the flush failed: %s", type(error).__name__)

    return wrapper


def _after_coroutine(
    function: Callable[P, Coroutine[Any, Any, R]], timeout: float
) -> Callable[P, Coroutine[Any, Any, R]]:
    @wraps(function)
    async def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return await function(*args, **kwargs)
        finally:
            try:
                _tell(await aflush(timeout), timeout)
            except Exception as error:
                _log("the flush failed: %s", type(error).__name__)

    return wrapper


def _tell(done: bool, timeout: float) -> None:
    if not done:
        _log("not all that was recorded could be shipped within %s seconds; it is on disk", timeout)


def _log(message: str, detail: object) -> None:
    global _next_log
    now = time.monotonic()
    if now >= _next_log:
        _next_log = now + LOG_EVERY
        logger.warning(message, detail)
