"""Azure OpenAI.

Source: https://learn.microsoft.com/azure/ai-foundry/openai/reference (2024-10-21), "Content
filtering"; openai 3.54.0 `AzureOpenAI` answers with OpenAI's own types. Counts as OpenAI does.
Recognised by the verdicts of its content filter: `prompt_filter_results` at the top,
`content_filter_results` in a choice, `content_filters` in a response. Its streams send the first
of them before anything else, with an empty id and model. Embeddings, and deployments whose filter
does not annotate, cannot be told from OpenAI.
"""

from __future__ import annotations

from typing import Final

from .dialect import Dialect

__all__ = ["DIALECT", "PROVIDER"]

PROVIDER: Final = "azure.ai.openai"
DIALECT: Final = Dialect(
    provider=PROVIDER,
    body_marks=("prompt_filter_results", "content_filters"),
    choice_marks=("content_filter_results",),
)
