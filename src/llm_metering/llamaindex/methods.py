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
from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from typing import Any, Final, Protocol

__all__ = ["Ask", "Watched", "catch_up", "watch"]

_ASK: Final = "_llm_metering_ask"
_OURS: Final = "__llm_metering_watched__"
_INIT_SUBCLASS: Final = "__init_subclass__"


class Watched(Protocol):
    """A call of a method, from its start to its end; nothing here raises."""

    def end(self) -> None: ...
    def fail(self, error: BaseException, /) -> None: ...


class Ask(Protocol):
    """Who is told that a method is called; it raises only to refuse the call."""

    def __call__(
        self, instance: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], /
    ) -> Watched | None: ...


def watch(base: type[Any], names: Sequence[str], ask: Ask, *, beside: Sequence[type]) -> None:
    """Have it told when a method of a class below `base` is called; idempotent.

    Args:
        base: The class.
        names: The methods. Those that begin with an `a`, or `_a`, are coroutines.
        ask: Is told. What an older copy of this package has put there tells the newer one, too.
        beside: Classes whose own methods call the others.
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
                around = _around_async if name.startswith(("a", "_a")) else _around
                setattr(kind, name, around(base, name, theirs))

    for kind in _below(base):
        if kind not in left_out:
            wrap(kind)
    own = base.__dict__.get(_INIT_SUBCLASS)

    def init_subclass(cls: type[Any], /, **kwargs: Any) -> None:
        inherited = super(base, cls).__init_subclass__ if own is None else own.__get__(None, cls)
        inherited(**kwargs)
        wrap(cls)

    setattr(base, _INIT_SUBCLASS, classmethod(init_subclass))


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
    watched: Watched | None = base.__dict__[_ASK].__func__(instance, name, args, kwargs)
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
        watched: Watched | None = base.__dict__[_ASK].__func__(self, name, args, kwargs)
        if watched is None:
            return theirs(self, *args, **kwargs)
        try:
            result = theirs(self, *args, **kwargs)
        except BaseException as error:
            watched.fail(error)
            raise
        watched.end()
        return result

    setattr(method, _OURS, True)
    return method


def _around_async(base: type[Any], name: str, theirs: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(theirs)
    async def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        watched: Watched | None = base.__dict__[_ASK].__func__(self, name, args, kwargs)
        if watched is None:
            return await theirs(self, *args, **kwargs)
        try:
            result = theirs(self, *args, **kwargs)
            if inspect.isawaitable(result):
                result = await result
        except BaseException as error:
            watched.fail(error)
            raise
        watched.end()
        return result

    setattr(method, _OURS, True)
    return method
