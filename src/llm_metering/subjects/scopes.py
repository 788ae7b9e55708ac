"""`subject()`: the scope in which a caller says who pays."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, TypeVar

from .names import check_subject, plain_dimensions
from .watching import CallWatcher, Watchers

__all__ = ["Scope", "current_scope", "enter_scope", "subject", "watched_subject"]

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Scope:
    """What holds inside `with subject(…)`; the dimensions are those of the scopes around it too.

    `opened_in` is the `id` of the stack frame of who opened it, which tells the code inside of a
    generator from that of its reader: both run in one context. A frame ends before the scope does
    only where a helper opened it for somebody else. `watchers` are told of the calls that begin inside.
    """

    opener: object
    outer: Scope | None
    subject: str
    pinned: bool
    dimensions: Mapping[str, str]
    opened_in: int = 0
    watchers: Watchers = ()

    def without(self, opener: object) -> Scope | None:
        """The scopes that stay when `opener` closes the innermost one it opened."""
        if self.opener is opener:
            return self.outer
        return self if self.outer is None else replace(self, outer=self.outer.without(opener))


_scope: ContextVar[Scope | None] = ContextVar("llm_metering_subject", default=None)


def current_scope() -> Scope | None:
    """The innermost scope here and now."""
    return _scope.get()


def enter_scope(scope: Scope | None) -> None:
    """From here on in this context, `scope` holds."""
    _scope.set(scope)


class subject:  # noqa: N801  # reads as a statement: with subject("customer-42")
    """Bill the calls made inside to `name`.

    A context manager, sync code and async alike, and a decorator of functions, coroutines,
    generators and async generators; of the latter two the scope holds only while their own
    code runs, not while the consumer's does. Scopes nest; the inner subject wins, and so
    does an inner dimension of the same name.

    >>> from llm_metering.subjects import attribute
    >>> with subject("customer-42", feature="search"):
    ...     attribute().subject
    'customer-42'

    Args:
        name: Who pays.
        pinned: Nothing a request carries, such as run metadata, overrides it.
        **dimensions: Strings to group usage by.

    Raises:
        SubjectError: If the name or a dimension is not usable.
    """

    _watchers: Watchers = ()

    def __init__(self, name: str, *, pinned: bool = False, **dimensions: str) -> None:
        self._name = check_subject(name)
        self._pinned = pinned
        self._dimensions = plain_dimensions(dimensions)

    def __enter__(self) -> None:
        outer = _scope.get()
        dimensions = {**outer.dimensions, **self._dimensions} if outer else self._dimensions
        here = id(sys._getframe(1))  # noqa: SLF001  # as `logging` does
        watchers = (*outer.watchers, *self._watchers) if outer else self._watchers
        if outer is not None and outer.pinned and not self._pinned:
            scope = Scope(self, outer, outer.subject, True, dimensions, here, watchers)
        else:
            scope = Scope(self, outer, self._name, self._pinned, dimensions, here, watchers)
        _scope.set(scope)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # Not with a token: a generator may be left in another context than it was entered in
        # (web frameworks run each step of a sync stream in a thread with a copy), where a token
        # raises. There is nothing to take back there.
        scope = _scope.get()
        if scope is not None:
            _scope.set(scope.without(self))

    def __call__(self, function: F) -> F:
        """Decorate `function`; each call runs in a scope of its own."""
        return _decorate(function, self._fresh)

    def _fresh(self) -> subject:
        return subject(self._name, pinned=self._pinned, **self._dimensions)


def watched_subject(name: str, watcher: CallWatcher, dimensions: Mapping[str, str]) -> subject:
    """`subject`, with somebody who is told of the calls that begin inside; for a `with` alone."""
    scope = subject(name)
    scope._dimensions = plain_dimensions(dimensions)  # noqa: SLF001  # its own module
    scope._watchers = (watcher,)  # noqa: SLF001  # its own module
    return scope


def _decorate(function: F, scope: Callable[[], subject]) -> F:
    wrapper: Callable[..., Any]
    # Each wrapper is of the kind of what it wraps: frameworks ask `inspect`, and call a
    # generator function otherwise than a function that returns a generator.
    if inspect.isasyncgenfunction(function):

        @functools.wraps(function)
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            inner = function(*args, **kwargs)
            step = inner.__anext__
            while True:
                try:
                    with scope():
                        value = await step()
                except StopAsyncIteration:
                    return
                try:
                    sent = yield value
                except GeneratorExit:
                    with scope():
                        await inner.aclose()
                    raise
                except BaseException as error:
                    step = functools.partial(inner.athrow, error)
                else:
                    step = functools.partial(inner.asend, sent)

    elif inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            inner = function(*args, **kwargs)
            step = inner.__next__
            while True:
                try:
                    with scope():
                        value = step()
                except StopIteration as stop:
                    return stop.value
                try:
                    sent = yield value
                except GeneratorExit:
                    with scope():
                        inner.close()
                    raise
                except BaseException as error:
                    step = functools.partial(inner.throw, error)
                else:
                    step = functools.partial(inner.send, sent)

    elif inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            with scope():
                return await function(*args, **kwargs)

    else:

        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            with scope():
                return function(*args, **kwargs)

    return wrapper  # type: ignore[return-value]  # functools.wraps keeps the signature
