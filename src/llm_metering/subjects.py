"""Who pays for a call: the scope a caller opens, and the one order of precedence."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, replace
from enum import IntEnum
from types import TracebackType
from typing import Any, Final, TypeVar

import msgspec

from .errors import SubjectError
from .events import UNATTRIBUTED, check_dimensions, is_unicode

__all__ = [
    "MAX_LENGTH",
    "METADATA_KEYS",
    "Attribution",
    "Rank",
    "attribute",
    "check_subject",
    "subject",
]

METADATA_KEYS: Final = ("llm_metering_subject", "subject")
"""Keys of run metadata that name the subject, first found wins."""

MAX_LENGTH: Final = 1000
"""Characters of a subject. A longer one is no name, and a request that carries it in its metadata
could fill the disk and the sinks."""

F = TypeVar("F", bound=Callable[..., Any])


class Rank(IntEnum):
    """Where a subject came from; the lower rank wins."""

    HANDLER = 0
    PINNED_SCOPE = 1
    METADATA = 2
    SCOPE = 3
    DEFAULT = 4
    NOBODY = 5


class Attribution(msgspec.Struct, frozen=True, kw_only=True):
    """Whom a call is billed to, frozen when it starts.

    Attributes:
        subject: Who pays.
        rank: Why.
        dimensions: The strings to group by.
        flags: What was odd: `unattributed`, `invalid_subject`.
    """

    subject: str
    rank: Rank
    dimensions: Mapping[str, str] = msgspec.field(default_factory=dict)
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Scope:
    opener: object
    outer: _Scope | None
    subject: str
    pinned: bool
    dimensions: Mapping[str, str]

    def without(self, opener: object) -> _Scope | None:
        """The scopes that stay when `opener` closes the innermost one it opened."""
        if self.opener is opener:
            return self.outer
        return self if self.outer is None else replace(self, outer=self.outer.without(opener))


_scope: ContextVar[_Scope | None] = ContextVar("llm_metering_subject", default=None)


def check_subject(name: object) -> str:
    """Return `name` if it can be a subject.

    Raises:
        SubjectError: If it is not a non-empty string, longer than `MAX_LENGTH`, or holds half a
            character (a lone surrogate).
    """
    if type(name) is str and len(name) <= MAX_LENGTH and name.isascii() and name.strip():
        return name  # nearly all of them
    if not isinstance(name, str) or not name.strip():
        raise SubjectError(f"a subject is a non-empty string, got {name!r}")
    if not _is_usable(name):
        raise SubjectError(
            f"a subject has at most {MAX_LENGTH} characters and no lone surrogates,"
            f" got {name[:50]!r}… of {len(name)}"
        )
    return name


def _is_usable(name: str) -> bool:
    return len(name) <= MAX_LENGTH and bool(name.strip()) and is_unicode(name)


class subject:  # noqa: N801  # reads as a statement: with subject("customer-42")
    """Bill the calls made inside to `name`.

    A context manager, sync code and async alike, and a decorator of functions, coroutines,
    generators and async generators; of the latter two the scope holds only while their own
    code runs, not while the consumer's does. Scopes nest; the inner subject wins, and so
    does an inner dimension of the same name.

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

    def __init__(self, name: str, *, pinned: bool = False, **dimensions: str) -> None:
        check_subject(name)
        check_dimensions(dimensions)
        self._name = name
        self._pinned = pinned
        self._dimensions = dimensions

    def __enter__(self) -> None:
        outer = _scope.get()
        dimensions = {**outer.dimensions, **self._dimensions} if outer else self._dimensions
        if outer is not None and outer.pinned and not self._pinned:
            scope = _Scope(self, outer, outer.subject, True, dimensions)
        else:
            scope = _Scope(self, outer, self._name, self._pinned, dimensions)
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


def attribute(
    *,
    handler: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    default: str | None = None,
    dimensions: Mapping[str, str] | None = None,
) -> Attribution:
    """Say who pays for a call that starts here and now.

    The order is fixed: the handler's own subject, a pinned scope, run metadata, a scope, the
    default, and at last nobody, which is kept and flagged. A value in the metadata that is no
    non-empty string is flagged and passed over.

    Args:
        handler: The subject the handler was built with.
        metadata: The run's metadata, as the framework hands it over.
        default: The process's subject, from `install()` or the environment.
        dimensions: The handler's own, which win over those of the scope.
    """
    scope = _scope.get()
    flags: tuple[str, ...] = ()
    if handler is not None:
        name, rank = handler, Rank.HANDLER
    elif scope is not None and scope.pinned:
        name, rank = scope.subject, Rank.PINNED_SCOPE
    else:
        carried, flags = _subject_in(metadata)
        if carried is not None:
            name, rank = carried, Rank.METADATA
        elif scope is not None:
            name, rank = scope.subject, Rank.SCOPE
        elif default is not None:
            name, rank = default, Rank.DEFAULT
        else:
            name, rank, flags = UNATTRIBUTED, Rank.NOBODY, (*flags, "unattributed")
    merged = {**dimensions} if dimensions else {}
    if scope is not None:
        merged = {**scope.dimensions, **merged}
    return Attribution(subject=name, rank=rank, dimensions=merged, flags=flags)


def _subject_in(metadata: Mapping[str, Any] | None) -> tuple[str | None, tuple[str, ...]]:
    if not metadata:
        return None, ()
    flags: tuple[str, ...] = ()
    for key in METADATA_KEYS:
        value = metadata.get(key)
        if isinstance(value, str) and _is_usable(value):
            return value, flags
        if value is not None:
            flags = ("invalid_subject",)
    return None, flags
