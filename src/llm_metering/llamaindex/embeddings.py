"""Calls for embeddings, told to the call table: one event a request to the provider.

Read in llama-index-core 0.14.25, `base/embeddings/base.py`, `base/embeddings/base_sparse.py` and
`embeddings/multi_modal_base.py`: an integration writes the methods below, and the others call them
with what is not in the cache.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.base.embeddings.base_sparse import BaseSparseEmbedding
from llama_index.core.embeddings.multi_modal_base import MultiModalEmbedding

from ..errors import CallRefusedError
from ..extract.embeddings import read_embeddings
from ..extract.reading import Reading, name_of
from .asking import Asking, begin
from .failures import note_failure
from .methods import watch
from .providers import provider_of
from .questions import Kind, Question

__all__ = ["asked", "watch_embeddings"]

_METHODS: Final = (
    *("_get_query_embedding", "_aget_query_embedding"),
    *("_get_text_embedding", "_aget_text_embedding"),
    *("_get_text_embeddings", "_aget_text_embeddings"),
    *("_get_image_embedding", "_aget_image_embedding"),
    *("_get_image_embeddings", "_aget_image_embeddings"),
)
_AROUND: Final = (
    *("get_query_embedding", "aget_query_embedding", "get_text_embedding", "aget_text_embedding"),
    *("get_text_embedding_batch", "aget_text_embedding_batch"),
)
"""LlamaIndex's own, which an integration may write as well; of its own they ask nobody, perhaps."""
_OPENAIS: Final = "llama_index.embeddings.openai"
_NO_MODEL: Final = "unknown"


def _is_answer(reading: Reading) -> bool:
    if reading.operation is None:
        return reading.usage is not None  # of Bedrock's headers, which do not say of what
    return reading.operation == "embeddings"


KIND: Final = Kind(
    operation="embeddings",
    read_body=read_embeddings,
    is_answer=_is_answer,
    is_counted=True,
)


def watch_embeddings() -> None:
    """Have all objects that embed tell of it; idempotent."""
    methods = (*_METHODS, *_AROUND)
    watch(BaseEmbedding, methods, _ask, beside=[MultiModalEmbedding])
    watch(BaseSparseEmbedding, methods, _ask, beside=[])


def _ask(instance: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Asking | None:
    try:
        given = args[0] if args else next(iter(kwargs.values()), None)
        inputs = given if isinstance(given, list | tuple) else [given]
        if not inputs:
            return None  # nothing to ask for
        question = Question(
            provider=provider_of(instance),
            model=_model_of(instance),
            # Of a picture there is its path, or its bytes.
            asked=partial(asked, instance, () if "image" in name else inputs),
        )
        return begin(KIND, instance, name, question, is_certain=name not in _AROUND)
    except CallRefusedError:
        raise
    except Exception as error:
        note_failure("embeddings", error)
        return None


def _model_of(instance: Any) -> str | None:
    name = name_of(getattr(instance, "model_name", None))
    return None if name == _NO_MODEL else name


def asked(instance: object, inputs: Any) -> Mapping[str, Any] | None:
    """The request, to be counted: the texts, as the provider is sent them."""
    texts = [each for each in inputs if isinstance(each, str)]
    if not texts:
        return None
    if any(kind.__module__.startswith(_OPENAIS) for kind in type(instance).__mro__):
        # llama-index-embeddings-openai 0.7.0, `base.py`, `get_embeddings`
        texts = [text.replace("\n", " ") for text in texts]
    return {"input": texts}
