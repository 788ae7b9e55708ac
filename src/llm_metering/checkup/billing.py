"""Whether a billing system lets us in, and bills by what it is sent: Stripe and Lago.

An event for a meter or a metric that is not there is acknowledged, and on no bill; so it is asked
which there are. Sources: https://docs.stripe.com/api/billing/meter/list (fields of
`billing/_meter.py`, stripe 16.1.0 for Python);
`src/resources/billable_metrics.yaml` of
https://github.com/getlago/lago-openapi/tree/120da1213306145141d3dd34022dd47a3216c911.
Nothing is written to either.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from ..sinks.asking import NETWORK_LIMIT, Asker, Reply, UnreachableError
from ..sinks.lago import LagoSink
from ..sinks.paying import Payers, PayersError
from ..sinks.stripe import API_BASE, StripeSink
from ..sinks.stripe.sending import API_VERSION
from .finding import Finding, failure, ok, unreachable, warning

__all__ = ["check_lago", "check_stripe"]

_PAGES: Final = 50
"""Pages of a list that are read."""
_KEYS: Final = {"customer_mapping": "stripe_customer_id", "value_settings": "value"}


def check_stripe(sink: StripeSink, *, limit: float = NETWORK_LIMIT) -> Iterator[Finding]:
    """Look at the key, the file of customers, and the meters.

    Args:
        sink: The sink.
        limit: Seconds for each request.
    """
    yield _payers(sink.customers, sink.name)
    if sink.key is None:
        yield _no_key("STRIPE_API_KEY", sink.name)
        return
    url = f"{sink.base or API_BASE}/v1/billing/meters"
    found: dict[str, Mapping[str, Any]] = {}
    after: dict[str, str] = {}
    try:
        with Asker(limit=limit, token=sink.key) as asker:
            for _ in range(_PAGES):
                reply = asker.ask(
                    "GET",
                    url,
                    parameters={"status": "active", "limit": 100, **after},
                    signed={"Stripe-Version": API_VERSION},
                )
                listed = _listed(reply, "data")
                if listed is None:
                    yield _refused(reply, "STRIPE_API_KEY", sink.name)
                    return
                found |= {str(each.get("event_name")): each for each in listed}
                if not (listed and reply.document.get("has_more")):
                    break
                after = {"starting_after": str(listed[-1].get("id"))}
    except UnreachableError as error:
        yield unreachable(error, sink.name)
        return
    yield ok("sink.reachable", "Stripe answers, and knows the key", sink=sink.name)
    yield from _meters(sink, found)


def _meters(sink: StripeSink, found: Mapping[str, Mapping[str, Any]]) -> Iterator[Finding]:
    missing = [each.event_name for each in sink.meters if each.event_name not in found]
    if missing:
        yield _missing("active meter", missing, "meter=…", sink.name)
    for each in sink.meters:
        meter = found.get(each.event_name, {})
        for setting, wanted in _KEYS.items():
            inner = meter.get(setting)
            key = inner.get("event_payload_key") if isinstance(inner, dict) else None
            if key not in (None, wanted):
                yield failure(
                    "sink.meters",
                    f"the meter {each.event_name} reads {key!r} where it is sent {wanted!r}",
                    means="Stripe drops its events after it has acknowledged them",
                    advice=f"create a meter whose {setting} has the key {wanted!r}",
                    sink=sink.name,
                )
                return
    if not missing:
        names = ", ".join(each.event_name for each in sink.meters)
        yield ok("sink.meters", f"there is an active meter for {names}", sink=sink.name)


def check_lago(sink: LagoSink, *, limit: float = NETWORK_LIMIT) -> Iterator[Finding]:
    """Look at the key, the file of subscriptions, and the billable metrics.

    Args:
        sink: The sink.
        limit: Seconds for each request.
    """
    yield _payers(sink.subscriptions, sink.name)
    if sink.key is None:
        yield _no_key("LAGO_API_KEY", sink.name)
        return
    codes: set[str] = set()
    try:
        with Asker(limit=limit, token=sink.key) as asker:
            for page in range(1, _PAGES + 1):
                reply = asker.ask(
                    "GET",
                    f"{sink.base}/api/v1/billable_metrics",
                    parameters={"page": page, "per_page": 100},
                )
                listed = _listed(reply, "billable_metrics")
                if listed is None:
                    yield _refused(reply, "LAGO_API_KEY", sink.name)
                    return
                codes |= {str(each.get("code")) for each in listed}
                meta = reply.document.get("meta")
                if not (isinstance(meta, dict) and meta.get("next_page")):
                    break
    except UnreachableError as error:
        yield unreachable(error, sink.name)
        return
    yield ok("sink.reachable", "Lago answers, and knows the key", sink=sink.name)
    missing = [code for code in sink.codes if code not in codes]
    if missing:
        yield _missing("billable metric", missing, "code=…", sink.name)
    else:
        names = ", ".join(sink.codes)
        yield ok("sink.meters", f"there is a billable metric for {names}", sink=sink.name)


def _listed(reply: Reply, key: str) -> list[Mapping[str, Any]] | None:
    """What a list holds; `None` if the answer is none."""
    document = reply.document
    listed = document.get(key) if reply.status == 200 and isinstance(document, dict) else None
    if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
        return None
    return listed


def _payers(payers: Payers, sink: str) -> Finding:
    check = "sink.payers"
    if payers.path is None:
        return ok(check, "subjects are the payers themselves: no file names others", sink=sink)
    try:
        known = len(payers.current())
    except PayersError as error:
        return failure(
            check,
            str(error),
            means="the sink pauses; events wait on disk",
            advice="mend the file; it is read again without a restart",
            sink=sink,
        )
    return ok(check, f"{payers.path} can be read; subjects with a payer: {known}", sink=sink)


def _no_key(variable: str, sink: str) -> Finding:
    return failure(
        "sink.reachable",
        "there is no key",
        means="the sink pauses; events wait on disk",
        advice=f"set {variable}",
        sink=sink,
    )


def _refused(reply: Reply, variable: str, sink: str) -> Finding:
    if reply.status == 401:
        return failure(
            "sink.reachable",
            "the key is refused (401)",
            means="the sink pauses; events wait on disk",
            advice=f"compare {variable} with the keys of the account",
            sink=sink,
        )
    return warning(
        "sink.meters",
        f"it does not say what it bills by ({reply.status})",
        means="an event for a meter that is not there is acknowledged, and on no bill",
        advice="give the key the right to read meters or metrics, or compare the names by hand",
        sink=sink,
    )


def _missing(kind: str, names: Iterable[str], parameter: str, sink: str) -> Finding:
    return failure(
        "sink.meters",
        f"there is no {kind} for {', '.join(names)}",
        means="events are acknowledged, and on no bill",
        advice=f"create it, or mend {parameter} in LLM_METERING_SINKS",
        sink=sink,
    )
