"""How families of models other than OpenAI's count, relative to an encoding of OpenAI's.

Their tokenizers are not at hand: some are published nowhere, the others would be hundreds of
megabytes for the sake of an estimate. Two kinds of numbers stand here.

- *Documented*: from a family's published chat template or its provider's documentation; the source
  stands beside it.
- *Measured*: on the recorded calls that `benchmarks/estimates.py` reads, and only as a rule for a
  whole family, never for a call. All ratios are of this kind, and all numbers without a source.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final, Literal

__all__ = ["FAMILIES", "UNKNOWN", "Family"]

ToolForm = Literal["json", "wrapped", "words", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """The rules of one family; all numbers are tokens.

    Attributes:
        name: For `count_method`.
        pattern: Is found in the names of its models, in small letters.
        encoding: Of OpenAI's, the one whose counts are nearest.
        ratio: Its tokens for one of that encoding's, in prose.
        capitals: The same, once more, for words in capitals.
        single_digits: Whether each digit is a token; OpenAI's are groups of up to three.
        raw: What stands around a text that is no conversation.
        start: What opens the conversation, and the answer.
        message: What stands around each message, its role included.
        header: What the provider writes above every conversation.
        system: What it writes there if the request has no system prompt of its own.
        tool_header: What it writes there if there are tools.
        forced_tool_header: The same, where one of them must be called; `None` if that is no other.
        tool_form: How tools, and calls of them, are shown: as JSON, as JSON in OpenAI's wrapping,
            only by their words, or not at all.
        tool: What stands around each tool.
        call: What stands around a call of a tool in the conversation.
        result: What stands around a tool's result.
        answer: What ends a text of an answer, and is counted.
        answer_calls: What stands around all calls of tools in the answer.
        answer_call: What stands around each of them.
        answer_thought: What stands around reasoning that is shown.
        thinking: What the provider writes if the request asks for thinking.
        keeps_thoughts: Whether the reasoning of earlier turns is read again.
        reads_schema: Whether a schema for the answer is a part of what is read.
        image: Whose rule for pictures, in `pictures.py`.
    """

    name: str
    pattern: re.Pattern[str]
    encoding: str = "o200k_base"
    ratio: float = 1.0
    capitals: float = 1.0
    single_digits: bool = False
    raw: int = 0
    start: int = 3
    message: int = 3
    header: int = 0
    system: int = 0
    tool_header: int = 0
    forced_tool_header: int | None = None
    tool_form: ToolForm = "wrapped"
    tool: int = 0
    call: int = 10
    result: int = 5
    answer: float = 1
    answer_calls: int = 0
    answer_call: int = 10
    answer_thought: int = 2
    thinking: int = 0
    keeps_thoughts: bool = False
    reads_schema: bool = True
    image: str = "openai"


def _family(name: str, pattern: str, **rules: Any) -> Family:
    return Family(name=name, pattern=re.compile(pattern), **rules)


_CLAUDE_TOOLS: Final = (
    # The prompt for tools where the choice is the model's, and where it is not. Documented on
    # Claude's page "Tool use" of July 2026; for models no longer listed there, of 2025.
    (r"opus-4[-.]8", 290, 410),
    (r"opus-4[-.]7", 675, 804),
    (r"(opus|sonnet|haiku)-[5-9]", 354, 474),
    (r"(opus|sonnet|haiku)-4[-.]6|4[-.]6-(opus|sonnet|haiku)", 497, 589),
    (r"(opus|sonnet|haiku)-4[-.]5|4[-.]5-(opus|sonnet|haiku)", 496, 588),
    (r"(opus|sonnet)-4|4-(opus|sonnet)", 313, 315),
    (r"3[-.]5-haiku", 264, 355),
    (r"3[-.]5-sonnet-20240620", 294, 261),
    (r"3[-.][57]-sonnet", 346, 313),
    (r"3-opus", 530, 281),
    (r"3-sonnet", 159, 235),
    (r"3-haiku", 264, 340),
    (r"claude-(2|instant|v[12])", 0, 0),
    (r"claude", 354, 474),
)
_NEW_TOKENIZER: Final = frozenset([290, 675, 354])
"""By their prompts for tools: since Opus 4.7 the same text is up to 1.35 times as many tokens, as
Anthropic's notes on the migration to it say."""


def _claude(models: str, header: int, forced: int) -> Family:
    return _family(
        "claude",
        rf"(?=.*claude).*({models})",
        ratio=1.45 if header in _NEW_TOKENIZER else 1.15,
        capitals=1.3,
        start=3,
        message=4,
        tool_header=header,
        forced_tool_header=forced,
        tool_form="json",
        call=35,
        result=15,
        answer=3.5,
        answer_call=41,
        thinking=29,
        image="claude",
    )


_GEMINI: Final[dict[str, Any]] = {
    # Gemma's report: digits are split. No template is published; nothing stands around a message.
    "single_digits": True,
    "start": 0,
    "message": 0,
    "tool_form": "words",
    "answer": 0,
    "reads_schema": False,
    "image": "gemini",
}
_MISTRAL: Final[dict[str, Any]] = {
    # mistral-common: `<s>[INST]…[/INST]`, `[AVAILABLE_TOOLS]…[/AVAILABLE_TOOLS]`.
    "single_digits": True,
    "start": 1,
    "message": 2,
    "tool": 2,
}
_COMMAND: Final[dict[str, Any]] = {
    # The preambles are those that Cohere writes where the request has none.
    "single_digits": True,
    "start": 4,
    "message": 4,
    "answer_call": 24,
}
_LLAMA: Final[dict[str, Any]] = {
    # Meta's model cards: `<|begin_of_text|>`, five tokens around a message, four before the answer.
    "start": 5,
    "message": 5,
    "answer_call": 22,
}
_DEEPSEEK: Final[dict[str, Any]] = {
    # DeepSeek's `encoding_dsv4.py`: a token before each message, calls and results as DSML.
    "message": 1,
    "tool_header": 212,
    "call": 30,
    "answer_calls": 22,
    "answer_call": 13,
    "answer_thought": 0,
}
_GLM: Final[dict[str, Any]] = {
    # zai-org's `chat_template.jinja`: `[gMASK]<sop>`, `<|user|>`, `<|assistant|><think>`.
    "start": 4,
    "message": 1,
    "tool_header": 86,
    "answer_call": 4,
    "keeps_thoughts": True,
}

UNKNOWN: Final = _family("unknown", r"(?!)")
FAMILIES: Final = (
    *(_claude(*row) for row in _CLAUDE_TOOLS),
    _family("gemini", r"gemini-(1|2\.0)", tool=2, call=0, result=0, answer_call=0, **_GEMINI),
    _family("gemini", r"gemini", tool=18, call=13, result=13, answer_call=9, **_GEMINI),
    # Gemma's template: `<start_of_turn>user\n…<end_of_turn>\n`.
    _family("gemma", r"gemma", ratio=1.1, start=4, message=5, single_digits=True),
    # Since 3.1 the template states a date of knowledge and of today.
    _family(
        *("llama", r"llama-?3[.-]?[123]"),
        encoding="cl100k_base",
        header=25,
        tool_header=60,
        **_LLAMA,
    ),
    _family("llama", r"llama-?3", encoding="cl100k_base", **_LLAMA),
    _family("llama", r"llama-?4", tool_header=590, **_LLAMA),
    _family("llama", r"llama", ratio=1.2, start=3, message=4),
    _family("mistral", r"mistral-embed", ratio=1.18, raw=2, single_digits=True),
    _family("mistral", r"mistral-(tiny|7b)|mixtral|open-mistral", ratio=1.18, **_MISTRAL),
    _family(
        *("mistral", r"mistral|ministral|magistral|devstral|codestral|pixtral|voxtral"),
        ratio=1.05,
        answer=0,
        answer_call=3,
        **_MISTRAL,
    ),
    _family("command", r"command-a|command-r7b", header=490, tool_header=770, **_COMMAND),
    _family("command", r"command-r", header=190, tool_header=565, **_COMMAND),
    _family("command", r"command|cohere|aya-", ratio=1.08, header=54, **_COMMAND),
    # R1's template leaves tools out.
    _family("deepseek", r"deepseek-r1|deepseek-reasoner", start=4, message=1, tool_form="none"),
    # Since 31 July 2026 an instruction on effort precedes everything, unless thinking is off.
    _family("deepseek", r"deepseek-v4", start=2, header=80, keeps_thoughts=True, **_DEEPSEEK),
    _family("deepseek", r"deepseek", **_DEEPSEEK),
    # `<|system|>Reasoning Effort: Max`
    _family("glm", r"glm-?5", header=7, **_GLM),
    _family("glm", r"glm", **_GLM),
    # Qwen's template: ChatML, and an empty `<think>` where thinking is off.
    _family("qwen", r"qwen|qwq|qvq", start=7, message=5, single_digits=True),
    _family("grok", r"grok", system=680, answer=0),
    _family("palmyra", r"palmyra", tool_header=111, answer_call=12),
    _family("titan", r"titan", message=0, answer=0),
    _family("nova", r"nova-", capitals=1.3, start=0, message=0, tool_header=328, answer=2),
    _family("minimax", r"minimax", system=34),
)
