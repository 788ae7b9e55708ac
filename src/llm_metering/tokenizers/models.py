"""Which encoding and which rules belong to a model, by its name.

Sources: `tiktoken/model.py` of tiktoken 0.14 for what it lists, OpenAI's list of models for what it
does not. A name may bear a provider's prefix (`openai/gpt-4o`, `us.anthropic.claude-…`), a date, a
variant (`:free`), or be a fine-tuned model's (`ft:gpt-4o:acme::id`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

from .families import FAMILIES, UNKNOWN, Family

__all__ = ["Framing", "ModelRules", "rules_of"]

Framing = Literal["chatml", "harmony", "text", "family"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRules:
    """How to count for one model.

    Attributes:
        encoding: The encoding that its text is counted with.
        framing: What stands around messages: `chatml` and `harmony` are OpenAI's, `text` is
            nothing, `family` is an estimate.
        family: Whose estimate.
        model: The model's name, in small letters and without prefixes.
        exact: Whether `encoding` is the model's own.
        by_responses: Whether whoever was asked asks OpenAI by its Responses API.
    """

    encoding: str
    framing: Framing
    family: Family = UNKNOWN
    model: str = ""
    exact: bool = False
    by_responses: bool = False

    @property
    def method(self) -> str:
        """For `count_method`."""
        if self.exact:
            return f"tiktoken:{self.encoding}"
        name = self.family.name if self.framing == "family" else "openai"
        return f"ratio:{name}:{self.encoding}"


# In this order: the first that matches the beginning of a name.
_OPENAI: Final[tuple[tuple[str, str, Framing], ...]] = (
    (r"gpt-oss", "o200k_harmony", "harmony"),
    (r"gpt-[5-9]|o[1-9]\b|codex-|computer-use-", "o200k_base", "harmony"),
    (r"gpt-4[o.]|chatgpt-|gpt-audio|gpt-realtime", "o200k_base", "chatml"),
    (r"gpt-4|gpt-3\.?5", "cl100k_base", "chatml"),
    (r"text-embedding-|(davinci|babbage)(-002|:20)", "cl100k_base", "text"),
    (r"text-davinci-00[23]|(text-davinci-edit|code|cushman)-|davinci-codex", "p50k_base", "text"),
    (r"(text-)?(davinci|curie|babbage|ada)\b|text-(search|similarity)-", "r50k_base", "text"),
    (r"gpt-?2", "r50k_base", "text"),
)
_LONGEST_NAME: Final = 200
_PREFIX: Final = re.compile(r"^(?:.*/)?(?:ft:)?(?:openai[.-])?")
_PROVIDERS: Final = frozenset(["openai", "azure.ai.openai", "azure.ai.inference"])


@lru_cache(maxsize=512)
def rules_of(model: str | None, provider: str | None) -> ModelRules:
    """The rules for `model`; those of a stranger where nobody knows it."""
    name = (model or "")[:_LONGEST_NAME].lower()
    bare = _PREFIX.sub("", name, count=1)
    for pattern, encoding, framing in _OPENAI:
        if re.match(pattern, bare):
            return ModelRules(
                encoding=encoding,
                framing=framing,
                model=bare,
                exact=True,
                by_responses=provider == "openrouter",
            )
    for family in FAMILIES:
        if family.pattern.search(name):
            return ModelRules(encoding=family.encoding, framing="family", family=family, model=bare)
    if provider in _PROVIDERS:
        # The name of a deployment says nothing; most are of this kind by now.
        return ModelRules(encoding="o200k_base", framing="chatml", model=bare)
    return ModelRules(encoding=UNKNOWN.encoding, framing="family", model=bare)
