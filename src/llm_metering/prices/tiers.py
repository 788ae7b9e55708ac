"""The words of providers for the service tier of a call.

Sources: OpenAI's API reference, `service_tier` (`auto`, `default`, `flex`, `scale`, `priority`, and
`standard`, `batch` and `fast` in its price list); Anthropic's, `usage.service_tier` (`standard`,
`priority`, `batch`) and `service_tier` of a request (`auto`, `standard_only`); Groq's (`auto`,
`on_demand`, `flex`, `performance`); Vertex AI's `trafficType` (`ON_DEMAND`, `ON_DEMAND_FLEX`,
`ON_DEMAND_PRIORITY`, `PROVISIONED_THROUGHPUT`) and Gemini's `serviceTier` (`unspecified`, `standard`,
`flex`, `priority`); Amazon Bedrock's `serviceTier.type` (`default`, `flex`, `priority`, `reserved`).
"""

from __future__ import annotations

from typing import Final

__all__ = ["USUAL_TIERS", "tier_of"]

USUAL_TIERS: Final = frozenset(
    [
        *("auto", "default", "on_demand", "standard", "standard_only"),
        *("service_tier_unspecified", "traffic_type_unspecified", "unspecified"),
    ]
)
"""What costs what a call without any such word costs. All others have prices of their own, or none:
what was bought beforehand (`scale`, `reserved`, `provisioned_throughput`, Anthropic's `priority`) has
no price per token that a list could know."""

_SAME: Final = {
    "batches": "batch",
    "on_demand_flex": "flex",
    "on_demand_priority": "priority",
}


def tier_of(word: str | None) -> str | None:
    """The tier that a word names; `None` for the usual one.

    >>> tier_of("ON_DEMAND"), tier_of("on_demand_flex"), tier_of("batch")
    (None, 'flex', 'batch')
    """
    if not word:
        return None
    plain = word.strip().lower().replace("-", "_").removeprefix("service_tier_")
    return None if not plain or plain in USUAL_TIERS else _SAME.get(plain, plain)
