"""`count`: the tokens of a call whose provider reported none."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ..exchange import Counted, Exchange
from . import family_framing, openai_framing
from .encodings import Encodings
from .guessing import guess, tokens_by_length
from .models import ModelRules, rules_of
from .prompt import Prompt
from .requests import normalise
from .text import tokens_in

__all__ = ["count", "count_by"]

Tokens = Callable[[str], int]


def count(exchange: Exchange, encodings: Encodings) -> Counted:
    """Count what went into a call and what came out.

    It may take a while: milliseconds for a page of text, seconds where an encoding must be loaded
    first. It raises nothing, whatever the request holds: what cannot be counted is guessed.
    """
    try:
        rules = rules_of(exchange.model or _model_of(exchange), exchange.provider)
        encoding = encodings.get(rules.encoding)
        if encoding is None:
            return count_by(rules, tokens_by_length, exchange, method="characters")
        return count_by(rules, partial(tokens_in, encoding), exchange, method=rules.method)
    except Exception:
        # The request is the user's, and may be anything; some of it may even be code that raises.
        return guess(exchange)


def _model_of(exchange: Exchange) -> str | None:
    model = exchange.request.get("model") if exchange.request is not None else None
    return model if isinstance(model, str) else None


def count_by(rules: ModelRules, tokens: Tokens, exchange: Exchange, *, method: str) -> Counted:
    """Count by these rules, with this way to count a text; it raises what the request does."""
    prompt = None
    if exchange.request is not None:
        prompt = normalise(exchange.request, model=exchange.model, provider=exchange.provider)
    output = exchange.output
    if rules.framing == "family":
        reasoning = family_framing.reasoning_tokens(output, rules.family, tokens)
        visible = family_framing.output_tokens(output, rules.family, tokens)
    else:
        reasoning = openai_framing.reasoning_tokens(output, rules, tokens)
        visible = openai_framing.output_tokens(output, prompt, rules, tokens)
    if prompt is not None and (missing := _missing(prompt)):
        method = f"{method};without:{'+'.join(sorted(missing))}"
    return Counted(
        input_tokens=None if prompt is None else _input_tokens(prompt, rules, tokens),
        output_tokens=visible + reasoning,
        reasoning_output_tokens=reasoning or None,
        method=method,
    )


def _missing(prompt: Prompt) -> frozenset[str]:
    if all(tool.kind in ("function", "custom") for tool in prompt.tools):
        return prompt.unseen
    return prompt.unseen | {"hosted_tools"}


def _input_tokens(prompt: Prompt, rules: ModelRules, tokens: Tokens) -> int:
    is_conversation = bool(prompt.messages or prompt.tools)
    if rules.framing == "family":
        total = family_framing.raw_tokens(prompt.texts, rules.family, tokens)
        if is_conversation:
            total += family_framing.input_tokens(prompt, rules.family, rules.model, tokens)
    else:
        total = sum(map(tokens, prompt.texts))
        if is_conversation:
            total += openai_framing.input_tokens(prompt, rules, tokens)
    return prompt.tokens + total
