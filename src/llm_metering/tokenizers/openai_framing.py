"""What OpenAI's models read besides the text of a conversation, and write besides an answer's.

Sources for ChatML (gpt-3.5 to gpt-4.5): OpenAI's cookbook, "How to count tokens with tiktoken"
(3 tokens around a message, 3 before the reply, 1 for a name; its count for a request with a tool);
hmarr/openai-chat-tokens (where the declarations of tools stand, and what a function's call and
result cost).
Source for harmony (gpt-5, o-series, gpt-oss): openai/harmony, `docs/format.md` and
`src/encoding.rs`.
What neither says was measured on recorded calls; each such number says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

from ..exchange import Output
from .models import ModelRules
from .pictures import openai_picture
from .prompt import Message, Part, Prompt, Tool
from .schemas import CHATML, HARMONY, as_typescript, namespace

__all__ = ["input_tokens", "output_tokens", "reasoning_tokens"]

Tokens = Callable[[str], int]

_HEADER: Final = "# Tools\n\n## functions\n\n"
_CALLS_GO_TO: Final = "\nCalls to these tools must go to the commentary channel: 'functions'."
_PARALLEL: Final = "multi_tool_use.parallel"

_TOOLS_MEASURED: Final = {"cl100k_base": -1, "o200k_base": -2}
"""What the declarations cost less than their text; measured (cl100k: by hmarr, on 19 requests)."""
_CALL: Final = 6
"""Around a call in ChatML, without `functions.` and the name; measured, the same in and out."""
_RESULT: Final = 5
"""Around the result of a tool in ChatML, without `functions.` and the name; measured."""
_HARMONY_CALL: Final = 10
"""`<|start|>assistant<|channel|>commentary to=… <|constrain|>json<|message|>…<|call|>`, of which
the name is counted apart; measured."""
_HARMONY_RESULT: Final = 7
"""`<|start|>… to=assistant<|channel|>commentary<|message|>…<|end|>`, likewise."""
_OSS: Final = "gpt-oss"
_OSS_SYSTEM: Final = 61
"""The message above every conversation with gpt-oss: who it is, its knowledge, the date, how much to
reason, its channels; `docs/format.md`."""
_ALWAYS_REASONS: Final = re.compile(r"o[1-9]|gpt-5(-mini|-nano|-pro|-codex)?(-20\d\d.*)?$")


def input_tokens(prompt: Prompt, rules: ModelRules, tokens: Tokens) -> int:
    """Tokens of a conversation as one of OpenAI's models reads it."""
    harmony = rules.framing == "harmony"
    message = _harmony_message if harmony else _chatml_message
    total = 2 if harmony else 3  # `<|start|>assistant`, and `<|message|>` after it
    if rules.model.startswith(_OSS):
        total += _OSS_SYSTEM + tokens("# Instructions\n\n") * _has_instructions(prompt)
    for one in prompt.messages:
        total += message(one, tokens)
        total += sum(
            openai_picture(part.image, rules.model) for part in one.parts if part.image is not None
        )
    total += _tools(prompt, rules, tokens)
    if prompt.schema:
        schema = as_typescript(prompt.schema, HARMONY if harmony else CHATML)
        total += 4 + tokens(f"# Response Formats\n\n## format\n\n{schema}")
    return total


def _has_instructions(prompt: Prompt) -> bool:
    return any(message.role in ("system", "developer") for message in prompt.messages)


def _chatml_message(message: Message, tokens: Tokens) -> int:
    calls = [part for part in message.parts if part.kind == "call"]
    text = message.text()
    total = 0
    for part in message.parts:
        if part.kind == "result" and message.role == "function":
            total += 3 + tokens(part.name) + tokens(part.text)
        elif part.kind == "result":
            total += _RESULT + tokens(f"functions.{part.name}") + tokens(part.text)
    if calls:
        return total + _calls(calls, tokens) + tokens(text)
    if total:
        return total
    total = 3 + tokens(message.role) + tokens(text)
    return total + (tokens(message.name) + 1 if message.name else 0)


def _harmony_message(message: Message, tokens: Tokens) -> int:
    total = 0
    for part in message.parts:
        if part.kind == "call":
            total += _HARMONY_CALL + tokens(f"functions.{part.name}") + tokens(part.text)
        elif part.kind == "result":
            total += _HARMONY_RESULT + tokens(f"functions.{part.name}") + tokens(part.text)
    text = message.text()
    if total and text.startswith("<think>"):
        # So some servers show the reasoning that led to a call; it is not read again.
        text = text.partition("</think>")[2]
    if total and not text:
        return total
    if not message.parts:
        return 0
    header = message.role + (f":{message.name}" if message.name else "")
    channel = 2 if message.role == "assistant" else 0  # `<|channel|>final`
    return total + 3 + tokens(header) + channel + tokens(text)


def _calls(calls: Sequence[Part], tokens: Tokens) -> int:
    if len(calls) == 1:
        return _CALL + tokens(f"functions.{calls[0].name}") + tokens(calls[0].text)
    return _CALL + tokens(_PARALLEL) + tokens(_in_parallel([(c.name, c.text) for c in calls]))


def _in_parallel(calls: Sequence[tuple[str, str]]) -> str:
    uses = ",".join(
        f'{{"recipient_name":"functions.{name}","parameters":{arguments or "{}"}}}'
        for name, arguments in calls
    )
    return f'{{"tool_uses":[{uses}]}}'


def _tools(prompt: Prompt, rules: ModelRules, tokens: Tokens) -> int:
    functions = [tool for tool in prompt.tools if tool.kind in ("function", "custom")]
    if not functions:
        return 0
    harmony = rules.framing == "harmony"
    text = _HEADER + namespace(functions, HARMONY if harmony else CHATML)
    system = next((m.text() for m in prompt.messages if m.role in ("system", "developer")), None)
    if system:
        # They stand below the system prompt, in the same message; its last word may grow into
        # the empty line between.
        total = tokens(f"{system[-200:]}\n\n{text}") - tokens(system[-200:])
    else:
        total = 4 + tokens(text)
    if harmony:
        total += tokens(_CALLS_GO_TO) if any(map(_is_function, functions)) else 0
    else:
        total += _TOOLS_MEASURED.get(rules.encoding, 0)
    if prompt.tool_choice == "none":
        return total + 1
    if prompt.tool_choice not in ("auto", "required"):
        return total + 4 + tokens(prompt.tool_choice)
    return total


def _is_function(tool: Tool) -> bool:
    return tool.kind == "function"


def output_tokens(output: Output, prompt: Prompt | None, rules: ModelRules, tokens: Tokens) -> int:
    """Tokens of an answer, with what ends it."""
    texts = [text for text in output.texts if text]
    calls = [call for call in output.tool_calls if call != ("", "")]
    total = sum(map(tokens, texts))
    responses = rules.by_responses or (prompt is not None and prompt.is_responses)
    if rules.framing == "text":
        return total
    if rules.framing == "harmony":
        # `<|channel|>final<|message|>…<|return|>`, the last not in Chat Completions; and around
        # hidden reasoning, the frame that is not counted as reasoning. Measured.
        frame = 4 if responses or rules.model.startswith(_OSS) else 3
        if _ALWAYS_REASONS.match(rules.model):
            frame += 2 if responses else 6
        total += frame * len(texts)
        for name, arguments in calls:
            total += _HARMONY_CALL + tokens(f"functions.{name}") + tokens(arguments)
        return total
    # The token that ends the answer is counted in some cases and not in others. Measured.
    tools = prompt is not None and bool(prompt.tools)
    if responses or tools or rules.model.startswith("gpt-4.1"):
        total += len(texts)
    if calls:
        parts = [Part(kind="call", name=name, text=arguments) for name, arguments in calls]
        total += _calls(parts, tokens) + (1 if responses else 0)
    return total


def reasoning_tokens(output: Output, rules: ModelRules, tokens: Tokens) -> int:
    """Tokens of the reasoning that was shown.

    Models of OpenAI's own service show a summary at most; gpt-oss shows all of it.
    """
    total = sum(map(tokens, output.reasoning))
    if total and rules.model.startswith(_OSS):
        # `<|channel|>analysis<|message|>…<|end|>`, and `<|start|>assistant` of what follows.
        total += 6
    return total
