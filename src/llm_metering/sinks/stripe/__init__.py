"""Stripe, as meter events: usage that Stripe bills at the end of a period.

What is sent is in `meter_events`, the ways to send it in `sending`, what answers mean in `answers`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from ...errors import SinkURLError
from .._payload import UnusableEventError
from ..base import Delivery, Envelope, SinkContext, SinkLimits
from ..paying import Payers, PayersError, checked_key, payers_file
from ..urls import filled, http_base, one_of, parameters_of, repeated_of, split_url
from .meter_events import AheadError, MeterEvents, MeterSource, checked_dimension, meter_source
from .sending import Made, Sender, Single, Stream

__all__ = ["APIS", "API_BASE", "TABLE", "StripeSink", "from_url"]

APIS: Final = ("v2", "v1")
TABLE: Final = "stripe_customers"
"""The table of the file that `customers` names."""

API_BASE: Final = "https://api.stripe.com"
_STREAM: Final = "https://meter-events.stripe.com"
_WINDOW: Final = timedelta(hours=24)
_SINK: Final = "a stripe"
_SECRETS: Final = "a key belongs in the environment variable STRIPE_API_KEY"
_PARAMETERS: Final = ("meter", "dimension", "customers", "api", "account", "name")


class StripeSink:
    """Sends what Stripe's meters are fed from.

    Args:
        meters: What is fed from what, at least one.
        account: Whose books it writes: by default the name of the application.
        key: Stripe's secret or restricted key; without one nothing is sent.
        api: `v2`, the stream, or `v1`, one meter event a request.
        base: A stand-in for both of Stripe's hosts, such as `http://127.0.0.1:12111`.
        customers: A file with the customer of each subject; without one, subjects are customers.
        dimensions: The keys of `data` that go into payloads.
        name: How `status` calls it.
        clock: Seconds since 1970.

    Attributes:
        key: The key; it is never part of what is shown.
        customers: Whose subjects are whose.
        meters: What is fed from what.
        unbilled: Events since its beginning of which no meter has a count.

    Raises:
        ConfigurationError: If the key cannot stand in a header. The message does not hold it.
    """

    def __init__(
        self,
        meters: Sequence[MeterSource],
        *,
        account: str,
        key: str | None = None,
        api: str = "v2",
        base: str | None = None,
        customers: Path | None = None,
        dimensions: Sequence[str] = (),
        name: str = "stripe",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.name = name
        # One book, whatever is sent to which of its meters and how.
        self.url = "stripe://" if base is None else f"stripe+{base}"
        self.account = account
        self.api = api
        self.base = base
        self.key = checked_key("stripe_api_key", key)
        self.customers = Payers(customers, TABLE)
        self.unbilled = 0
        self._clock = clock
        self._form = MeterEvents(meters, dimensions)
        self.meters = self._form.meters
        self._sender = self._opened(api, base)
        self.limits = SinkLimits(
            max_events=max(1, (Single.most if api == "v1" else Stream.most) // len(self.meters)),
            max_bytes=512 * 1024,
            dedupe_window=_WINDOW,
            dedupe="always",
        )

    def __repr__(self) -> str:
        return (
            f"<StripeSink {self.name} {self.url} account={self.account} unbilled={self.unbilled}>"
        )

    def deliver(self, batch: Sequence[Envelope], /) -> Delivery:
        if not batch:
            return Delivery()
        if self._sender is None:
            return Delivery.try_later(batch, "there is no key: set STRIPE_API_KEY", hold=True)
        try:
            customers = self.customers.current()
        except PayersError as error:
            return Delivery.try_later(batch, str(error), hold=True)
        now = datetime.fromtimestamp(self._clock(), UTC)
        made: list[Made] = []
        nothing: set[str] = set()
        ahead: set[str] = set()
        rejected: set[tuple[str, str]] = set()
        for envelope in batch:
            try:
                several = self._form.of(envelope.payload, customers, now=now)
            except UnusableEventError as error:
                rejected.add((envelope.id, str(error)))
            except AheadError:
                ahead.add(envelope.id)
            else:
                if several:
                    made.append((envelope, several))
                else:
                    nothing.add(envelope.id)
        told = self._sender.send(made) if made else Delivery()
        self.unbilled += len(nothing)
        return replace(
            told,
            accepted=told.accepted | nothing,
            retryable=told.retryable | ahead,
            rejected=frozenset(rejected),
            reason=told.reason or ("its time is ahead of the clock" if ahead else None),
            unasked=not told.accepted,
        )

    def close(self) -> None:
        if self._sender is not None:
            self._sender.close()

    def _opened(self, api: str, base: str | None) -> Sender | None:
        if self.key is None:
            return None
        if api == "v1":
            return Single(base or API_BASE, key=self.key)
        return Stream(base or API_BASE, base or _STREAM, key=self.key, clock=self._clock)


def from_url(url: str, context: SinkContext) -> StripeSink:
    """Make the sink that `stripe://?meter=event_name:count[&…]` names.

    Args:
        url: `stripe+http://host` and `stripe+https://host` name a stand-in for Stripe's hosts.
        context: What else holds; the key is its secret `stripe_api_key`.

    Raises:
        SinkURLError: Naming what is wrong and what is allowed, never what may be a secret.
        ConfigurationError: If the key cannot be used; without it.
    """
    parts = split_url(url, _SINK)
    base = None
    if parts.scheme == "stripe":
        if parts.netloc or parts.path not in ("", "/"):
            raise SinkURLError(
                f"{_SINK} sink takes no host, user or path: stripe://?meter=…; {_SECRETS}"
            )
    else:
        example = "stripe+https://proxy.example.org?meter=llm_tokens:total_tokens"
        base = http_base(parts, _SINK, prefix="stripe+", secrets=_SECRETS, example=example)
    parts, repeated = repeated_of(parts, _SINK, ("meter", "dimension"))
    given = parameters_of(parts, _SINK, _PARAMETERS, secrets=_SECRETS)
    meters = [meter_source(each) for each in repeated["meter"]]
    if not meters:
        raise SinkURLError(f"{_SINK} sink needs a meter: stripe://?meter=llm_tokens:total_tokens")
    if len({meter.event_name for meter in meters}) < len(meters):
        raise SinkURLError("meter: each event name can be fed from one count")
    return StripeSink(
        meters,
        account=filled("account", given.get("account", context.source)),
        key=context.credentials.get("stripe_api_key"),
        api=one_of("api", given.get("api", "v2"), APIS),
        base=base,
        customers=payers_file("customers", given.get("customers")),
        dimensions=[checked_dimension(each) for each in repeated["dimension"]],
        name=filled("name", given.get("name", "stripe")),
    )
