"""Methods of LlamaIndex's classes, with something of ours around them.

Which texts a provider is asked for is known to the methods that each integration writes and nobody
else: LlamaIndex's own, around them, look into the cache, cut into batches and tell of all of it at
the end (llama-index-core 0.14.25, `base/embeddings/base.py`, `_get_text_embeddings_cached` and
`aget_text_embedding_batch`). So these are watched, in each class, as it is made or as we come.
LlamaIndex does likewise to have a span around some of them (llama-index-instrumentation 0.6.0,
`__init__.py`, `DispatcherSpanMixin`).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import wraps
from typing import Any, Final, Protocol

__all__ = ["Around", "Ask", "Watched", "asker_of", "catch_up", "watch"]

_ASK: Final = "_llm_metering_ask"
_OURS: Final = "__llm_metering_watched__"
_INIT_SUBCLASS: Final = "__init_subclass__"


class Watched(Protocol):
    """A call of a method, from its start to its end; only what admits it raises, to refuse it."""

    def admit(self) -> None: ...
    async def admit_async(self) -> None: ...
    def end(self) -> None: ...
    def fail(self, error: BaseException, /) -> None: ...


class Ask(Protocol):
    """Who is told that a method is called; it raises only to refuse the call."""

    def __call__(
        self, instance: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], /
    ) -> Watched | None: ...


Around = Callable[[type[Any], str, Callable[..., Any]], Callable[..., Any]]
"""Puts something around a method: the class, its name, and itself."""


def watch(
    base: type[Any],
    names: Iterable[str],
    ask: Any,
    *,
    beside: Sequence[type],
    around: Around | None = None,
) -> None:
    """Have it told when a method of a class below `base` is called; idempotent.

    Args:
        base: The class.
        names: The methods. Those that begin with an `a`, or `_a`, are coroutines.
        ask: Is told. What an older copy of this package has put there tells the newer one, too.
        beside: Classes whose own methods call the others.
        around: Puts something around a method that asks otherwise.
    """
    is_new = _ASK not in base.__dict__
    setattr(base, _ASK, staticmethod(ask))
    if not is_new:
        return
    left_out = {base, *beside}

    def wrap(kind: type[Any]) -> None:
        for name in names:
            theirs = kind.__dict__.get(name)
            if callable(theirs) and not _is_left_alone(theirs):
                put = around or (_around_async if name.startswith(("a", "_a")) else _around)
                method = put(base, name, theirs)
                setattr(method, _OURS, True)
                setattr(kind, name, method)

    for kind in _below(base):
        if kind not in left_out:
            wrap(kind)
    own = base.__dict__.get(_INIT_SUBCLASS)

    def init_subclass(cls: type[Any], /, **kwargs: Any) -> None:
        inherited = super(base, cls).__init_subclass__ if own is None else own.__get__(None, cls)
        inherited(**kwargs)
        wrap(cls)

    setattr(base, _INIT_SUBCLASS, classmethod(init_subclass))


def asker_of(base: type[Any]) -> Any:
    """Who is told of the methods of classes below `base`, by now."""
    return base.__dict__[_ASK].__func__


def catch_up(
    instance: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Watched | None:
    """Tell of a call that was made before its method was watched.

    Args:
        instance: What it is a method of.
        name: The method.
        args: What it was given.
        kwargs: Likewise.

    Returns:
        `None` if the method is none that is watched, or nobody is told.
    """
    kind = type(instance)
    if not hasattr(getattr(kind, name, None), _OURS):
        return None
    base = next(each for each in kind.__mro__ if _ASK in each.__dict__)
    watched: Watched | None = asker_of(base)(instance, name, args, kwargs)
    return watched


def _is_left_alone(method: Any) -> bool:
    return getattr(method, "__isabstractmethod__", False) or hasattr(method, _OURS)


def _below(base: type[Any]) -> Iterator[type[Any]]:
    for kind in base.__subclasses__():
        yield kind
        yield from _below(kind)


def _around(base: type[Any], name: str, theirs: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(theirs)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        watched: Watched | None = asker_of(base)(self, name, args, kwargs)
        if watched is None:
            return theirs(self, *args, **kwargs)
        watched.admit()
        try:
            result = theirs(self, *args, **kwargs)
        except BaseException as error:
            watched.fail(error)
            raise
        watched.end()
        return result

    return method


def _around_async(base: type[Any], name: str, theirs: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(theirs)
    async def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        watched: Watched | None = asker_of(base)(self, name, args, kwargs)
        if watched is None:
            return await theirs(self, *args, **kwargs)
        await watched.admit_async()
        try:
            result = theirs(self, *args, **kwargs)
            if inspect.isawaitable(result):
                result = await result
        except BaseException as error:
            watched.fail(error)
            raise
        watched.end()
        return result

    return method
