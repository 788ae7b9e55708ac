"""A copy of an `Embeddings` object whose clients are tapped.

LangChain's classes throw away what the provider reported, but the clients they ask hand it out.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from operator import attrgetter
from typing import Any, Protocol

from ..extract.reading import Reading, name_of
from .embedding_apis import APIS, Api

__all__ = ["Request", "Watch", "tapped"]


class Request(Protocol):
    """One request to a provider, from its start to its end; nothing here raises."""

    def end(self, answer: object, read: Callable[[Any], Reading]) -> None: ...
    def fail(self, error: BaseException) -> None: ...


class Watch(Protocol):
    """Who is told that a request begins; it may look away, and raises only to refuse the call."""

    def __call__(
        self, provider: str | None, model: str | None, inputs: Callable[[], list[Any] | None], /
    ) -> Request | None: ...


def tapped(embeddings: Any, watch: Watch) -> Any | None:
    """A copy of `embeddings` whose clients tell `watch` of each request.

    The object itself stays as it is, and so does its client. `None` if it holds no client that we
    know, or cannot be copied.
    """
    stand_ins = [
        (place, name, stand_in)
        for place in ("__dict__", "__pydantic_private__")
        for name, value in (getattr(embeddings, place, None) or {}).items()
        if (stand_in := _stand_in_for(value, embeddings, watch)) is not None
    ]
    if not stand_ins:
        return None
    try:
        copied = copy.copy(embeddings)
    except Exception:
        return None
    if copied is embeddings:
        return None
    for place, name, stand_in in stand_ins:
        # Not with setattr: a model of pydantic's may be frozen, or validate what it is given.
        getattr(copied, place)[name] = stand_in
    return copied


class _StandIn:
    """A client, with some of its methods tapped."""

    __slots__ = ("_metered_client", "_metered_methods")

    def __init__(self, client: Any, methods: Mapping[str, Any]) -> None:
        object.__setattr__(self, "_metered_client", client)
        object.__setattr__(self, "_metered_methods", methods)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_metered_"):
            raise AttributeError(name)  # a copy is being made
        tap = self._metered_methods.get(name)
        return getattr(self._metered_client, name) if tap is None else tap

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self._metered_client, name, value)

    def __repr__(self) -> str:
        return repr(self._metered_client)

    def __enter__(self) -> Any:
        entered = self._metered_client.__enter__()
        return self if entered is self._metered_client else entered

    def __exit__(self, *error: object) -> Any:
        return self._metered_client.__exit__(*error)

    async def __aenter__(self) -> Any:
        entered = await self._metered_client.__aenter__()
        return self if entered is self._metered_client else entered

    async def __aexit__(self, *error: object) -> Any:
        return await self._metered_client.__aexit__(*error)

    # Copied and pickled it is the client itself: who asks for that taps the copy again.
    def __copy__(self) -> Any:
        return copy.copy(self._metered_client)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return copy.deepcopy(self._metered_client, memo)

    def __reduce__(self) -> tuple[Any, ...]:
        return _itself, (self._metered_client,)


def _itself(client: Any) -> Any:
    return client


class _Tap:
    """A method of a client that tells of each request."""

    __slots__ = ("_api", "_method", "_provider", "_watch")

    def __init__(
        self, method: Callable[..., Any], api: Api, provider: str | None, watch: Watch
    ) -> None:
        self._method = method
        self._api = api
        self._provider = provider
        self._watch = watch

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        request = self._begin(args, kwargs)
        if request is None:
            return self._method(*args, **kwargs)
        try:
            answer = self._method(*args, **kwargs)
            if inspect.isawaitable(answer):
                return self._awaited(answer, request)
            if self._api.complete is not None:
                self._api.complete(answer)
        except BaseException as error:
            request.fail(error)
            raise
        request.end(answer, self._api.read)
        return answer

    async def _awaited(self, answer: Awaitable[Any], request: Request) -> Any:
        try:
            value = await answer
        except BaseException as error:
            request.fail(error)
            raise
        request.end(value, self._api.read)
        return value

    def _begin(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Request | None:
        api = self._api
        try:
            given = api.given({**dict(zip(api.positional, args, strict=False)), **kwargs})
            if given is None:
                return None
            model = name_of(given.get(api.model))
            inputs = partial(api.inputs, given.get(api.texts))
        except Exception:
            # Arguments of a kind we do not know; the call is metered as a whole.
            return None
        return self._watch(self._provider, model, inputs)


def _stand_in_for(value: Any, holder: object, watch: Watch) -> _StandIn | None:
    client = value._metered_client if isinstance(value, _StandIn) else value  # noqa: SLF001
    modules = [kind.__module__ for kind in type(client).__mro__]
    tree: dict[str, Any] = {}
    for api in APIS:
        if not any(f"{module}.".startswith(f"{api.package}.") for module in modules):
            continue
        try:
            path = api.method.split(".")
            method = attrgetter(api.method)(client)
            provider = api.provider(client, holder)
        except Exception:  # noqa: S112  # another version of the SDK, which has no such method
            continue
        _plant(tree, path, _Tap(method, api, provider, watch))
    return _grown(client, tree) if tree else None


def _plant(tree: dict[str, Any], path: list[str], tap: _Tap) -> None:
    for name in path[:-1]:
        tree = tree.setdefault(name, {})
    tree[path[-1]] = tap


def _grown(client: Any, tree: Mapping[str, Any]) -> _StandIn:
    return _StandIn(
        client,
        {
            name: _grown(getattr(client, name), below) if isinstance(below, dict) else below
            for name, below in tree.items()
        },
    )
