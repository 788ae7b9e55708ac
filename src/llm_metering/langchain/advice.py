"""What a user can do about streams that report no usage, said once.

langchain-openai 1.7.3 (`chat_models/base.py`) asks for the usage of a stream only where it talks to
OpenAI itself, with a client of its own. Behind a proxy, a gateway, Azure or vLLM a stream reports
nothing, unless `stream_usage=True` is given; so does an `invoke` that somebody around it streams.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

from .answers import mapping
from .seen import Seen

__all__ = ["advise"]

logger = logging.getLogger("llm_metering")

_OFF_BY_DEFAULT: Final = frozenset(
    ["openai", "azure_openai", "langchain_openai", "langchain_deepseek", "langchain_xai"]
)
_ON_BY_DEFAULT: Final = frozenset(
    ["anthropic", "langchain_anthropic", "openrouter", "langchain_openrouter"]
)
_told: Final[set[str]] = set()


def advise(seen: Seen, *, is_streamed: bool) -> None:
    """Say how to get the usage of a stream that came without, once a kind of model.

    Args:
        seen: What was seen of the call.
        is_streamed: Whether it was a stream. Where `stream_usage` was on, nothing is said: the
            server did not heed it.
    """
    if not is_streamed:
        return
    model = mapping(seen.model)
    path = model.get("id")
    if not isinstance(path, list) or not path or not all(isinstance(each, str) for each in path):
        return
    name = path[-1]
    if name in _told or not _is_off(path, model) or _is_asked_for(mapping(seen.parameters)):
        return
    _told.add(name)
    logger.warning(
        "%s streamed an answer and did not ask for its usage, so its tokens are estimated:"
        " make the model with %s(..., stream_usage=True). Said once.",
        name,
        name,
    )


def _is_off(path: list[Any], model: Mapping[str, Any]) -> bool:
    # `repr` shows what is not as it is by default, of models that cannot be serialized.
    said = mapping(model.get("kwargs")).get("stream_usage")
    shown = model.get("repr")
    if isinstance(shown, str):
        said = next((value for value in (True, False) if f"stream_usage={value}" in shown), None)
    if not _OFF_BY_DEFAULT.isdisjoint(path[:-1]):
        return not said
    return not _ON_BY_DEFAULT.isdisjoint(path[:-1]) and said is False


def _is_asked_for(parameters: Mapping[str, Any]) -> bool:
    options = mapping(parameters.get("stream_options"))
    return bool(parameters.get("stream_usage") or options.get("include_usage"))
