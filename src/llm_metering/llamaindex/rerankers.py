"""Rerankers, told to the call table: one event a request, with the provider's units.

Read in llama-index-core 0.14.25, `postprocessor/types.py`, and llama-index-postprocessor-cohere-rerank
0.10.0, `base.py`: a reranker is a postprocessor of nodes that tells of a `ReRankStartEvent`. Whether
the provider is asked it says then, since many postprocessors ask nobody.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from llama_index.core.instrumentation.events.rerank import ReRankStartEvent
from llama_index.core.postprocessor.types import BaseNodePostprocessor

from ..extract import read
from ..extract.reading import Reading, name_of
from .asking import Asking, asking_here, begin
from .failures import note_failure
from .gate import refuse, take_back
from .methods import watch
from .providers import is_local, provider_of
from .questions import Kind, Question

__all__ = ["start_ranking", "watch_rerankers"]

_METHODS: Final = ("_postprocess_nodes", "_apostprocess_nodes")
_GENERATED: Final = ("chat", "text_completion", "embeddings")


def _is_answer(reading: Reading) -> bool:
    if reading.operation is None:
        return reading.usage is not None
    return reading.operation not in _GENERATED


def _read(body: bytes) -> Reading:
    reading = read(body)
    # That the usage of a server is written as OpenAI's does not say that it is OpenAI's.
    return reading if reading.operation else replace(reading, provider=None)


KIND: Final = Kind(operation="rerank", read_body=_read, is_answer=_is_answer, is_counted=False)


class _Ranking:
    """A call of a postprocessor."""

    __slots__ = ("_asking",)

    def __init__(self, asking: Asking) -> None:
        self._asking = asking

    def admit(self) -> None:
        """Nothing: whether it asks, and what, it says later."""

    async def admit_async(self) -> None:
        """Nothing, likewise."""

    def end(self) -> None:
        take_back()
        self._asking.end()

    def fail(self, error: BaseException) -> None:
        take_back()
        self._asking.fail(error)


def watch_rerankers() -> None:
    """Have all postprocessors tell of their calls; idempotent."""
    watch(BaseNodePostprocessor, _METHODS, _ask, beside=[])


def _ask(
    instance: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> _Ranking | None:
    try:
        question = Question(provider=provider_of(instance))
        asking = begin(KIND, instance, name, question, is_certain=False)
        return None if asking is None else _Ranking(asking)
    except Exception as error:
        note_failure("rerankers", error)
        return None


def start_ranking(event: ReRankStartEvent) -> None:
    """A reranker says that it begins."""
    asking = asking_here(KIND)
    # Without nodes or a query it asks nobody, and says so only after this.
    if asking is None or not event.nodes or event.query is None or is_local(asking.instance):
        return
    refusal = asking.open(name_of(event.model_name)) or asking.pass_gate()
    if refusal is not None:
        refuse(asking.instance, refusal)
