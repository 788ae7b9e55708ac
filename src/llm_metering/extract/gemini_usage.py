"""The `usageMetadata` of Gemini models: the Gemini API and Vertex AI.

Source: google-genai 3.4.0, `google/genai/types.py`, `GenerateContentResponseUsageMetadata`,
`ModalityTokenCount`; the numbers of modalities from `Modality` in
https://github.com/googleapis/python-aiplatform `google/cloud/aiplatform_v1/types/content.py`.

Half additive: `toolUsePromptTokenCount` stands beside `promptTokenCount`, `thoughtsTokenCount`
beside `candidatesTokenCount`, and we sum each pair up. `cachedContentTokenCount` is inside
`promptTokenCount`.

The JSON is that of proto3, which leaves a count of 0 out: an answer that ended during its thoughts
has no `candidatesTokenCount`, and its `totalTokenCount` adds up without it. So beside a total, and
once an answer has finished, a missing `candidatesTokenCount` is 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from ..errors import UnknownUsageError
from ..service_tiers import served_on
from ..token_usage import TokenUsage
from .native import add, first, inside, tolerant
from .views import as_list

__all__ = [
    "CAMEL",
    "COUNTED",
    "KNOWN",
    "PROVIDER",
    "SNAKE",
    "counts_of",
    "extract_usage",
    "tier_of",
]

PROVIDER: Final = "gcp.gemini"


class Names(NamedTuple):
    """The keys of a usage, as the API or the SDK spells them."""

    prompt: str
    candidates: str
    total: str
    thoughts: str
    tool_use: str
    cached: str
    prompt_details: str
    tool_use_details: str
    candidates_details: str
    traffic: str


CAMEL: Final = Names(
    *("promptTokenCount", "candidatesTokenCount", "totalTokenCount", "thoughtsTokenCount"),
    *("toolUsePromptTokenCount", "cachedContentTokenCount", "promptTokensDetails"),
    *("toolUsePromptTokensDetails", "candidatesTokensDetails", "trafficType"),
)
SNAKE: Final = Names(
    *("".join(f"_{c.lower()}" if c.isupper() else c for c in name) for name in CAMEL)
)
KNOWN: Final = frozenset(
    [
        *(*CAMEL, "cacheTokensDetails", "serviceTier"),
        *(*SNAKE, "cache_tokens_details", "service_tier"),
    ]
)
COUNTED: Final = tuple(name for names in (CAMEL, SNAKE) for name in names[:4])
_SCALARS: Final = (str, int)
_MODALITIES: Final[Mapping[str | int, str]] = {
    "IMAGE": "image",
    "VIDEO": "video",
    "AUDIO": "audio",
    # Vertex AI sends numbers where it is asked for `enum-encoding=int`.
    2: "image",
    3: "video",
    4: "audio",
}
_TRAFFIC: Final[Mapping[object, str]] = {
    # In the same case; `GenerateContentResponse.UsageMetadata.TrafficType` of
    # https://docs.cloud.google.com/java/docs/reference/google-cloud-aiplatform/latest.
    0: "TRAFFIC_TYPE_UNSPECIFIED",
    1: "ON_DEMAND",
    2: "PROVISIONED_THROUGHPUT",
    3: "ON_DEMAND_PRIORITY",
    4: "ON_DEMAND_FLEX",
}


def extract_usage(usage: Mapping[str, Any]) -> TokenUsage:
    """Read the `usageMetadata` of an answer that has finished.

    Raises:
        UnknownUsageError: If it is not in this shape, or every count in it is null.
        InvalidUsageError: If one of its counts is no count.
    """
    return counts_of(usage, finished=True)


@tolerant
def counts_of(usage: Mapping[str, Any], *, finished: bool, embeds: bool = False) -> TokenUsage:
    """Read a `usageMetadata`.

    Args:
        usage: The counts, as the API or the SDK spells them.
        finished: The answer is whole; in what is not, a count that is missing may still come.
        embeds: The answer is one of embeddings, which generate nothing.

    Raises:
        UnknownUsageError: If it is not in this shape, or every count in it is null.
        InvalidUsageError: If one of its counts is no count.
    """
    names = SNAKE if SNAKE.prompt in usage or SNAKE.total in usage else CAMEL
    prompt = usage.get(names.prompt)
    candidates = usage.get(names.candidates)
    thoughts = usage.get(names.thoughts)
    total = usage.get(names.total)
    if prompt is None and candidates is None and thoughts is None and total is None:
        raise UnknownUsageError(PROVIDER, keys=sorted(map(str, usage)))
    if candidates is None and (embeds or (finished and total is not None)):
        candidates = 0
    tool_use = usage.get(names.tool_use)
    ingoing = _by_modality(
        # The Gemini API's embeddings alone say `promptTokenDetails`.
        first(usage, names.prompt_details, "promptTokenDetails"),
        usage.get(names.tool_use_details),
    )
    outgoing = _by_modality(usage.get(names.candidates_details))
    return TokenUsage(
        # Most have no parts; a count that is none is refused by the type all the same.
        input_tokens=prompt if tool_use is None else add(prompt, tool_use),
        output_tokens=candidates if thoughts is None else add(candidates, thoughts),
        cache_read_input_tokens=usage.get(names.cached),
        reasoning_output_tokens=thoughts,
        input_audio_tokens=ingoing.get("audio"),
        input_image_tokens=ingoing.get("image"),
        input_video_tokens=ingoing.get("video"),
        tool_use_input_tokens=tool_use,
        output_audio_tokens=outgoing.get("audio"),
        output_image_tokens=outgoing.get("image"),
        reported_total_tokens=total,
        as_reported=True,
    )


def tier_of(usage: Mapping[str, Any], flags: tuple[str, ...]) -> tuple[str | None, tuple[str, ...]]:
    """The tier that a `usageMetadata` names, and the flags with what is odd about it.

    The Gemini API has `serviceTier`, Vertex AI `trafficType`.
    """
    word = first(usage, "serviceTier", "service_tier")
    if word is None:
        word = first(usage, CAMEL.traffic, SNAKE.traffic)
        if type(word) is int:
            word = _TRAFFIC.get(word, word)
    return served_on(word, flags)


def _by_modality(*splits: object) -> Mapping[str, int | None]:
    counts: dict[str, int | None] = {}
    for split in splits:
        if not split:
            continue
        for entry in as_list(split):
            fields = entry if type(entry) is dict else inside(entry)
            modality = fields.get("modality")
            # Most are text, and the SDK's enum hashes slowly.
            if modality == "TEXT" or not isinstance(modality, _SCALARS):
                continue
            if (name := _MODALITIES.get(modality)) is not None:
                counts[name] = add(0, counts.get(name), first(fields, "tokenCount", "token_count"))
    return counts
