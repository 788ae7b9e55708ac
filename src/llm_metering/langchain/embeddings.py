"""`metered_embeddings`: an `Embeddings` object that is metered, since LangChain has no callback for it.

Read in langchain-core 1.7.2, `langchain_core/embeddings/embeddings.py`: `embed_documents`,
`embed_query` and their async forms take texts and give vectors; neither callbacks nor usage pass
through them.

One request to a provider is one event, so a call that LangChain cuts into several requests is
several events. The provider bills, limits and refuses requests one by one: where the third of four
fails, two were paid for, and which model answered and what it counted is said once a request.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final
from uuid import uuid4

from ..default_meter import limited_meter
from ..errors import CallRefusedError, InvalidArgumentError, MissingExtraError
from ..extract.reading import name_of
from ..meter import Meter
from ..subjects import check_subject, plain_dimensions
from .embedding_calls import Account, Embedding, account_named, is_within_another
from .embedding_clients import tapped

try:
    from langchain_core.embeddings import Embeddings
except ImportError as error:
    raise MissingExtraError("langchain-core", "langchain") from error

__all__ = ["MeteredEmbeddings", "metered_embeddings"]

_WITHIN: Final = ("underlying_embeddings", "base_embeddings")
"""Where langchain-classic 1.0.8 keeps the `Embeddings` that another one asks in its place:
`CacheBackedEmbeddings` (`embeddings/cache.py`) and `HypotheticalDocumentEmbedder`
(`chains/hyde/base.py`). What the cache answers costs nothing, so we stand behind it."""
_DEPTH: Final = 4
_MODEL_NAMES: Final = ("model", "model_name", "model_id", "repo_id")
_NOTHING: Final[AbstractContextManager[None, None]] = nullcontext()


def metered_embeddings(
    embeddings: Embeddings,
    subject: str | None = None,
    *,
    meter: Meter | None = None,
    enforce: bool = False,
    **dimensions: str,
) -> Embeddings:
    """Meter an `Embeddings` object of LangChain.

    Use what it returns in place of the object, in vector stores, caches and retrievers: results,
    errors, attributes and other methods are those of the object, which itself stays as it is.

    The counts are the provider's where the object asks through the client of OpenAI (Azure's
    too), Google, Ollama, Cohere, Mistral or AWS Bedrock, and that reports them; there each
    request to the provider is one event. Of any other object a call is one event, and its texts
    are counted: its events say `estimated`.

    A `CacheBackedEmbeddings` is metered behind its cache: what the cache answers makes no event.
    What is metered already is metered as said last.

    Args:
        embeddings: What is asked for embeddings.
        subject: Who pays; without it, `subject()` and the process's default say, each time
            that something is to be embedded.
        meter: Where to record; the process's default meter, if left out.
        enforce: Whether calls are refused that the payer's balance does not cover.
        **dimensions: Strings to group usage by.

    Raises:
        ConfigurationError: If calls are to be refused, and limits are off in the meter.
        InvalidArgumentError: If it is no `Embeddings` of LangChain.
        MeteringError: If the subject or a dimension is not usable, or the default meter
            cannot be made of the settings there are.
    """
    if not isinstance(embeddings, Embeddings):
        raise InvalidArgumentError(
            f"embeddings is an Embeddings of LangChain, got {type(embeddings).__name__}"
        )
    if subject is not None:
        subject = check_subject(subject)
    dimensions = plain_dimensions(dimensions)
    if enforce:
        (meter or limited_meter()).require_limits()
    account = Account(uuid4().hex, subject, meter, dimensions, enforce=enforce)
    account.meter.start()
    return _metered(embeddings, account)


class MeteredEmbeddings(Embeddings):
    """An `Embeddings` object that is metered; `metered_embeddings` makes it.

    It can be shared by threads and event loops. It is copied and pickled as well as what it
    stands for; unpickled in another process, it records with that process's default meter.
    """

    _account: Account
    _embeddings: Any
    _is_tapped: bool

    def __init__(self, embeddings: Embeddings, account: Account) -> None:
        copied = tapped(embeddings, account.watch)
        vars(self).update(
            _account=account,
            _embeddings=embeddings if copied is None else copied,
            _is_tapped=copied is not None,
        )

    def __getattr__(self, name: str) -> Any:
        if name in _OWN or (name.startswith("__") and name.endswith("__")):
            # A copy is being made, or someone asks what we can do.
            raise AttributeError(name)
        return getattr(self._embeddings, name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self._embeddings, name, value)

    def __repr__(self) -> str:
        return f"<MeteredEmbeddings of {type(self._embeddings).__name__}>"

    def __copy__(self) -> MeteredEmbeddings:
        return MeteredEmbeddings(copy.copy(self._embeddings), self._account)

    def __deepcopy__(self, memo: dict[int, Any]) -> MeteredEmbeddings:
        return MeteredEmbeddings(copy.deepcopy(self._embeddings, memo), self._account)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self._embeddings, *self._account.as_arguments())

    def embed_documents(self, texts: list[str], *args: Any, **kwargs: Any) -> list[list[float]]:
        """Embed texts that are to be found."""
        with self._call(texts, kwargs):
            vectors: list[list[float]] = self._embeddings.embed_documents(texts, *args, **kwargs)
            return vectors

    def embed_query(self, text: str, *args: Any, **kwargs: Any) -> list[float]:
        """Embed a text that something is looked for with."""
        with self._call([text], kwargs):
            vector: list[float] = self._embeddings.embed_query(text, *args, **kwargs)
            return vector

    async def aembed_documents(
        self, texts: list[str], *args: Any, **kwargs: Any
    ) -> list[list[float]]:
        """`embed_documents`, async."""
        with self._call(texts, kwargs):
            vectors: list[list[float]] = await self._embeddings.aembed_documents(
                texts, *args, **kwargs
            )
            return vectors

    async def aembed_query(self, text: str, *args: Any, **kwargs: Any) -> list[float]:
        """`embed_query`, async."""
        with self._call([text], kwargs):
            vector: list[float] = await self._embeddings.aembed_query(text, *args, **kwargs)
            return vector

    def _call(self, texts: object, kwargs: Mapping[str, Any]) -> AbstractContextManager[None, None]:
        if is_within_another():
            return _NOTHING
        try:
            model = kwargs.get("model") or _model_of(self._embeddings)
            return Embedding(self._account, texts, name_of(model), is_tapped=self._is_tapped)
        except CallRefusedError:
            raise
        except Exception as error:
            self._account.note_failure("embeddings", error)
            return _NOTHING


_OWN: Final = frozenset(MeteredEmbeddings.__annotations__)


def _metered(embeddings: Embeddings, account: Account) -> Embeddings:
    if isinstance(embeddings, MeteredEmbeddings):
        return MeteredEmbeddings(embeddings._embeddings, account.over(embeddings._account))  # noqa: SLF001
    name = _asks(embeddings)
    if name is None:
        return MeteredEmbeddings(embeddings, account)
    try:
        copied = copy.copy(embeddings)
        vars(copied)[name] = _metered(vars(embeddings)[name], account)
    except Exception:
        return MeteredEmbeddings(embeddings, account)
    return copied


def _asks(embeddings: Embeddings, depth: int = _DEPTH) -> str | None:
    """The attribute with another `Embeddings` that is to be metered in place of this one.

    One that is metered already must not be counted a second time around it.
    """
    attributes: dict[str, Any] = getattr(embeddings, "__dict__", {})
    for name, value in attributes.items():
        if not isinstance(value, Embeddings):
            continue
        is_metered = isinstance(value, MeteredEmbeddings)
        if name in _WITHIN or is_metered or (depth > 0 and _holds_metered(value, depth - 1)):
            return name
    return None


def _holds_metered(embeddings: Embeddings, depth: int) -> bool:
    return any(
        isinstance(value, MeteredEmbeddings) or (depth > 0 and _holds_metered(value, depth - 1))
        for value in getattr(embeddings, "__dict__", {}).values()
        if isinstance(value, Embeddings)
    )


def _model_of(embeddings: object) -> object:
    for key in _MODEL_NAMES:
        if isinstance(name := getattr(embeddings, key, None), str):
            return name
    return None


def _restore(
    embeddings: Embeddings,
    name: str,
    subject: str | None,
    dimensions: dict[str, str],
    enforce: bool = False,
) -> MeteredEmbeddings:
    """Unpickle: for the same account where it lives, in another process for one like it."""
    account = account_named(name) or Account(name, subject, None, dimensions, enforce=enforce)
    return MeteredEmbeddings(embeddings, account)
