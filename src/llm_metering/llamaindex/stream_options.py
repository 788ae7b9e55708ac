"""Asking OpenAI for the usage of a stream, which it reports only to those who ask.

LlamaIndex does not ask, and its agents stream by default. `additional_kwargs` of a model go into
each request, `stream_options` into those that stream alone (llama-index-llms-openai 0.8.3,
`base.py`, `OpenAI._get_model_kwargs`). Some servers that speak OpenAI's API refuse the field, so it
is put there by itself only where OpenAI or Azure are asked.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlsplit

from .accounts import tellers_of
from .frames import Frame

__all__ = ["ask_for_usage", "could_have_asked"]

_OPTIONS: Final = "stream_options"
_ASKS: Final = "include_usage"
_HOSTS: Final = (".openai.com", ".openai.azure.com", ".azure.com", ".azure-api.net")
_AZURE: Final = ("azure_endpoint", "api_base")


def ask_for_usage(frame: Frame) -> None:
    """Have the stream that is about to begin report its usage, if that can be asked for."""
    model = frame.instance
    kwargs = _request_arguments(model)
    if kwargs is None or _OPTIONS in kwargs:
        return
    tellers = tellers_of(frame.account)
    if not tellers:
        return
    wanted = tellers[0].meter.settings.request_stream_usage
    if wanted is None:
        wanted = _is_openais(model)
    if wanted:
        kwargs[_OPTIONS] = {_ASKS: True}


def could_have_asked(model: Any) -> bool:
    """Whether the usage of a stream of this model could have been asked for, and was not."""
    kwargs = _request_arguments(model)
    return kwargs is not None and _OPTIONS not in kwargs


def _request_arguments(model: Any) -> dict[str, Any] | None:
    """What goes into each request of a model that speaks OpenAI's chat completions."""
    if not any(base.__module__ == "llama_index.llms.openai.base" for base in type(model).__mro__):
        return None
    kwargs = getattr(model, "additional_kwargs", None)
    return kwargs if isinstance(kwargs, dict) else None


def _is_openais(model: Any) -> bool:
    for name in _AZURE:
        base = getattr(model, name, None)
        if isinstance(base, str) and base:
            return f".{urlsplit(base).hostname or ''}".endswith(_HOSTS)
    return False
