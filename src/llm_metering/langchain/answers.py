"""`Answer`: what LangChain hands over as the result of a call, looked into without trusting it.

Read in langchain-core 1.7.2, `langchain_core/outputs/llm_result.py` and
`langchain_core/language_models/chat_models.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from ..extract.langchain import tier_of
from ..extract.reading import NOTHING, name_of
from .usages import is_cached

__all__ = ["Answer", "generations_of", "mapping", "model_in"]

_OLLAMAS: Final = ("prompt_eval_count", "eval_count")
_MODELS: Final = ("model", "model_name", "model_id")
_AMAZONS: Final = "amazon-bedrock-invocationMetrics"


def mapping(value: object) -> Mapping[str, Any]:
    """`value` if it is a mapping, else nothing: integrations may put anything anywhere."""
    # First what nearly all of them are: to ask for a `Mapping` takes ten times as long.
    if type(value) is dict:
        return value
    return value if value is not None and isinstance(value, Mapping) else NOTHING


def generations_of(response: object) -> Iterator[Any]:
    """All generations of a result, in order."""
    groups = getattr(response, "generations", None)
    for group in groups if isinstance(groups, list | tuple) else ():
        yield from group if isinstance(group, list | tuple) else ()


def _first_generation(response: object) -> object:
    groups = getattr(response, "generations", None)
    group = groups[0] if type(groups) is list and groups else None
    if type(group) is list and group:
        return group[0]  # nearly always, and without a generator
    return next(generations_of(response), None)


def model_in(parameters: object) -> str | None:
    """The model that the parameters of a call ask for.

    `BaseLLM.generate` of langchain-core 1.7.2 (`language_models/llms.py`), called by itself, puts no
    `ls_model_name` into the metadata.
    """
    given = mapping(parameters)
    return next((name for key in _MODELS if (name := name_of(given.get(key))) is not None), None)


class Answer:
    """The first generation of a result, and what stands beside it.

    Never a sum over generations: with n > 1 each repeats the usage of the whole request.

    Attributes:
        generation: The generation; `None` if there is none.
        message: Its message; `None` for a completion.
        usage: The usage of the message.
        metadata: What the message says of the response.
        output: What the integration says of the request.
    """

    __slots__ = ("_response", "generation", "message", "metadata", "output", "usage")

    def __init__(self, response: object) -> None:
        self._response = response
        self.generation: Any = _first_generation(response)
        self.message: Any = getattr(self.generation, "message", None)
        self.usage: object = getattr(self.message, "usage_metadata", None)
        self.metadata = mapping(getattr(self.message, "response_metadata", None))
        self.output = mapping(getattr(response, "llm_output", None))

    @property
    def model(self) -> str | None:
        """The model that answered."""
        said, output = self.metadata, self.output
        return (
            name_of(said.get("model_name"))
            or name_of(said.get("model"))
            or name_of(output.get("model_name"))
            or name_of(output.get("model"))
        )

    @property
    def response_id(self) -> str | None:
        """The provider's name for the answer; LangChain's own ids are none."""
        found = name_of(self.metadata.get("id")) or name_of(self.output.get("id"))
        if found is None and "ResponseMetadata" in self.metadata:
            found = name_of(mapping(self.metadata["ResponseMetadata"]).get("RequestId"))
        return found

    def served_on(self, flags: tuple[str, ...]) -> tuple[str | None, tuple[str, ...]]:
        """The tier that the answer names, and the flags with what is odd about it."""
        return tier_of(self.metadata, flags, self.output)

    @property
    def has_output(self) -> bool:
        """Whether something was generated that we can see."""
        if self.message is None:
            return bool(getattr(self.generation, "text", None))
        return bool(
            getattr(self.message, "content", None) or getattr(self.message, "tool_calls", None)
        )

    @property
    def is_marked_as_cached(self) -> bool:
        """Whether LangChain says that its cache answered."""
        return is_cached(self.usage)

    @property
    def is_bare(self) -> bool:
        """Whether it is a message without an id, a usage or anything else around its text.

        LangChain gives an id to each message that a model generates, before it tells of the end
        (`BaseChatModel._generate_with_cache`). Only what its cache held as a plain `Generation`
        passes by that, and by the mark of cached answers (`_convert_cached_generations`).
        """
        return (
            self.message is not None
            and getattr(self.message, "id", "") is None
            and not self.usage
            and not self.metadata
            and not self.output
        )

    def native_usages(self) -> Iterator[object]:
        """Where integrations leave a usage as their provider spelt it."""
        # Of a stream that langchain-aws put together itself, each chunk is a generation: the last
        # one has the counts, of which its own sums leave out the cache.
        *_, last = (None, *generations_of(self._response))
        yield mapping(getattr(last, "generation_info", None)).get(_AMAZONS)
        yield self.output.get("token_usage")
        yield self.output.get("usage")
        info = mapping(getattr(self.generation, "generation_info", None))
        yield info.get("usage_metadata")
        # langchain-ollama 1.1.0 makes no usage of them where one is missing, and for completions
        # never (`chat_models.py`, `_get_usage_metadata_from_generation_info`; `llms.py`).
        for place in (info, self.metadata):
            yield {name: place[name] for name in _OLLAMAS if place.get(name) is not None}
