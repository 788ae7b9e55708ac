"""The URL that names an OpenMeter server as the one whose entitlements balances follow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from ..errors import SinkURLError
from ..sinks.openmeter import checked_token
from ..sinks.urls import filled, http_base, one_of, parameters_of, split_url, whole_number
from .entitlements import APIS, EntitlementServer
from .features import Feature
from .openmeter import FRESH, LAG, STALE, OpenMeterGrants
from .stores import LimitStore

__all__ = ["grants_from_url"]

_SINK: Final = "an openmeter"
_SECRETS: Final = "a key belongs in the environment variable OPENMETER_API_KEY"
_PARAMETERS: Final = ("api", "features", "fresh", "lag", "stale")


def grants_from_url(
    url: str,
    store: LimitStore,
    features: Mapping[str, Feature],
    *,
    token: str | None = None,
    note: Callable[[str], object] = lambda _: None,
) -> OpenMeterGrants:
    """What keeps accounts in step with the server that a URL names.

    Args:
        url: `openmeter+https://host[:port][/base][?parameters]`; the parameters are `api`, `fresh`, `lag`
            and `stale`, and `features`, such as `tokens:llm_tokens,money:llm_cost`.
        store: Where accounts are.
        features: What there is to grant, by key.
        token: The server's API key, if it has one.
        note: Counts questions that were not answered, by the reason.

    Raises:
        SinkURLError: If the URL cannot be read; the message holds nothing secret.
        ConfigurationError: If the token cannot stand in a header.
        InvalidArgumentError: If a feature is unknown, or one of the times makes no sense.
    """
    parts = split_url(url, _SINK)
    base = http_base(
        parts,
        _SINK,
        prefix="openmeter+",
        secrets=_SECRETS,
        example="openmeter+https://openmeter.cloud",
    )
    given = parameters_of(parts, _SINK, _PARAMETERS, secrets=_SECRETS)
    api = one_of("api", given.get("api", APIS[0]), APIS)
    fresh, lag, stale = (
        whole_number(name, given.get(name, f"{default:.0f}"), least=least)
        for name, default, least in (("fresh", FRESH, 1), ("lag", LAG, 0), ("stale", STALE, 1))
    )
    return OpenMeterGrants(
        store,
        EntitlementServer(
            base,
            token=checked_token(token),
            api=next(each for each in APIS if each == api),
        ),
        features,
        feature_keys=_keys(given["features"]) if "features" in given else None,
        fresh=fresh,
        lag=lag,
        stale=stale,
        note=note,
    )


def _keys(text: str) -> dict[str, str]:
    """Ours by what OpenMeter calls them, of `tokens:llm_tokens,money`."""
    keys: dict[str, str] = {}
    for each in filled("features", text).split(","):
        ours, colon, theirs = (part.strip() for part in each.partition(":"))
        if not ours or (colon and not theirs) or ours in keys:
            raise SinkURLError(
                "features is a list such as tokens:llm_tokens,money:llm_cost, each once"
            )
        keys[ours] = theirs or ours
    return keys
