"""The names under which a price list may have the model that an event names.

A name is never compared by how similar it is: `gpt-4o` is not `gpt-4o-mini`. What may be left out of one
is what tells apart no model: who is asked, the region, the version of the API, a date.

Sources: the model ids of OpenAI (dates as `-2025-08-07`, `ft:` before fine-tuned models,
https://platform.openai.com/docs/models), Azure (`.ft-` in fine-tuned ones), Anthropic (`-20250514`,
`-latest`), Amazon Bedrock (inference profiles with their regions, `-v1:0`, ARNs,
https://docs.aws.amazon.com/bedrock/latest/userguide/inference-profiles-support.html), Vertex AI
(`@20250514`, `-001`) and LiteLLM (prefixes).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from .providers import PREFIXES, canonical_provider, provider_names

__all__ = ["Names", "names_of"]

_DATE: Final = re.compile(
    r"[-@]20\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])$"
    r"|[-@]20\d\d-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])$"
    r"|@(?:default|latest)$|-latest$"
)
_BEDROCK_REVISION: Final = re.compile(r":\d+(?::\d+k)?$")
# Without a date, a second version is another model: Titan's embeddings v1 and v2 have two prices.
_BEDROCK_VERSION: Final = re.compile(r"(?:-v1|(?<=-20\d{6})-v\d+)$")
# The profiles `global.` and `us-gov.` have prices of their own.
_BEDROCK_REGION: Final = re.compile(r"^(?:us|eu|apac|jp|au|ca|in|sa|me|af)\.(?=[a-z0-9]+\.)")
_BEDROCK_ROUTE: Final = re.compile(r"^(?:(?:converse|invoke|[a-z]{2}(?:-[a-z]+)+-\d)/)+")
_BEDROCK_ARN: Final = re.compile(r"^arn:[^:]*:bedrock:[^/]*/(.+)$")
_ARN_OF_A_MODEL: Final = re.compile(r":(?:foundation-model|inference-profile)/")
_VENDOR: Final = re.compile(r"^anthropic\.(?=claude)")
_GOOGLE_PATH: Final = re.compile(r"^(?:projects/[^/]+/locations/[^/]+/)?publishers/[^/]+/models/")
_GOOGLE_VERSION: Final = re.compile(r"-00\d$")


@dataclass(frozen=True, slots=True)
class Names:
    """Where to look a model up.

    Attributes:
        providers: Names of who is asked, the narrowest first; none if nobody knows.
        models: Names of the model in small letters, the most specific first.
    """

    providers: tuple[str, ...]
    models: tuple[str, ...]


def names_of(provider: str | None, model: str) -> Names:
    """The names under which a list may have a model.

    >>> names_of("aws.bedrock", "us.anthropic.claude-sonnet-4-20250514-v1:0").models[:2]
    ('us.anthropic.claude-sonnet-4-20250514-v1:0', 'us.anthropic.claude-sonnet-4-20250514-v1')
    >>> names_of(None, "openai/gpt-4o-2024-08-06")
    Names(providers=('openai',), models=('openai/gpt-4o-2024-08-06', 'gpt-4o-2024-08-06', 'gpt-4o'))
    """
    name = model.strip().lower()
    found = [name]
    who = canonical_provider(provider) if provider else ""
    prefix, slash, rest = name.partition("/")
    if slash and rest and prefix in PREFIXES:
        asked = canonical_provider(prefix)
        if who in ("", "litellm"):
            who = asked
        # Elsewhere it is a part of the name: Groq serves an `openai/gpt-oss-20b`.
        if who == asked or provider_names(who)[-1] == provider_names(asked)[-1]:
            name = rest
            found.append(name)
    if who == "aws.bedrock":
        found += _bedrock(name)
    elif who.startswith(("gcp", "gcp.")):
        found += _google(name)
    elif who == "ollama":
        # A tag is another model; without one it is this one.
        found.append(name.removesuffix(":latest"))
    elif name.startswith("ft:") or ".ft-" in name:
        found += _fine_tuned(name)
    else:
        found += _undated(name)
    return Names(provider_names(who) if who else (), tuple(dict.fromkeys(found)))


def _undated(name: str) -> list[str]:
    short = _DATE.sub("", name)
    return [short] if short and short != name else []


def _fine_tuned(name: str) -> list[str]:
    """A fine-tuned model has a price of its own, which is never that of the model it was made of."""
    if not name.startswith("ft:"):
        base, mark, _ = name.partition(".ft-")
        return [base + mark]
    base = ":".join(name.split(":")[:2])
    return [base, *_undated(base)]


def _bedrock(name: str) -> list[str]:
    if name.startswith("arn:"):
        matched = _BEDROCK_ARN.match(name)
        if not matched or not _ARN_OF_A_MODEL.search(name):
            # A profile of the user's own, a custom or a bought model: its ARN does not say which.
            return []
        name = matched[1]
    name = _BEDROCK_ROUTE.sub("", name)
    found = [name]
    for drop in (_BEDROCK_REVISION, _BEDROCK_VERSION, _BEDROCK_REGION, _VENDOR, _DATE):
        found += [short for each in list(found) if (short := drop.sub("", each)) not in found]
    return found


def _google(name: str) -> list[str]:
    name = _GOOGLE_PATH.sub("", name).removeprefix("models/")
    if "/" in name:
        # An endpoint or a tuned model of the user's own.
        return []
    found = [name]
    for drop in (_DATE, _GOOGLE_VERSION):
        found += [short for each in list(found) if (short := drop.sub("", each)) not in found]
    return found
