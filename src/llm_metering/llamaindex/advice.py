"""What a user can do about what LlamaIndex or others make of a call, said once a kind of model."""

from __future__ import annotations

import logging
import sys
from typing import Any, Final

from .providers import integration_of
from .stream_options import could_have_asked

__all__ = ["advise_on_stream", "warn_of_other_meter"]

logger = logging.getLogger("llm_metering")

_LITELLM: Final = "litellm"
_OTHER: Final = "openmeter"
_said: Final[set[str]] = set()


def advise_on_stream(model: Any) -> None:
    """Say how to get the usage of a stream that came without."""
    name = type(model).__name__
    if name not in _said and could_have_asked(model):
        _said.add(name)
        logger.warning(
            "%s streamed an answer and did not ask for its usage, so its tokens are estimated: if"
            ' the server can report it, make the model with additional_kwargs={"stream_options":'
            ' {"include_usage": True}}, or set request_stream_usage. Said once.',
            name,
        )


def warn_of_other_meter(model: Any) -> None:
    """Say that LiteLLM reports the same calls to OpenMeter by itself, if it is told to.

    Source: https://docs.litellm.ai/docs/observability/openmeter, read 2026-11: its events have ids
    of their own, so that no server can tell that they are of the calls of ours.
    """
    if integration_of(model) != _LITELLM or _OTHER in _said:
        return
    litellm = sys.modules.get(_LITELLM)
    callbacks = [
        each
        for name in ("success_callback", "callbacks", "_async_success_callback")
        for each in getattr(litellm, name, None) or ()
    ]
    if _OTHER in callbacks:
        _said.add(_OTHER)
        logger.warning(
            "LiteLLM reports these calls to OpenMeter as well, under ids of its own: they are billed"
            ' twice. Take "openmeter" out of litellm.success_callback. Said once.'
        )
