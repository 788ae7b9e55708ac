"""Lago, over its HTTP API.

Sources: https://github.com/getlago/lago-openapi/tree/120da1213306145141d3dd34022dd47a3216c911
(`src/resources/events_batch.yaml`, `src/schemas/EventInputObject.yaml`) and
https://github.com/getlago/lago-api/tree/1b1c24a6a6c321d7900b05906bf1b20f706c97c2
(`app/services/events/create_batch_service.rb`, `app/controllers/concerns/api_errors.rb`,
`db/structure.sql`). Facts that shape this module:

- A batch has 100 events at most (`too_many_events`) and is taken or refused as one.
- A refusal names each event that is to blame by its index in the batch, from 0; one whose
  `transaction_id` is there already is `{"transaction_id": ["value_already_exist"]}`.
- With its events in PostgreSQL, Lago knows an event by organisation, subscription and
  `transaction_id`; with ClickHouse by these, `code` and time, and the later one replaces the earlier. Both
  for ever.
- Neither code nor subscription has to exist when an event comes; what matches none is on no
  bill, and Lago says so by a web hook.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import msgspec

from ..errors import SinkURLError
from ..events import THRESHOLD_EVENT_TYPE, UNATTRIBUTED
from ._payload import UnusableEventError, read_event
from .base import Delivery, Envelope, SinkContext, SinkLimits
from .http import Answer, HTTPClient, judge
from .paying import Payers, PayersError, checked_key, identity_of, payers_file
from .urls import filled, http_base, parameters_of, repeated_of, split_url

__all__ = ["TABLE", "LagoSink", "from_url"]

MOST_EVENTS: Final = 100
TABLE: Final = "lago_subscriptions"
"""The table of the file that `subscriptions` names."""

CODE: Final = "llm_tokens"
"""Of the billable metric, where the URL names none."""

_PATH: Final = "/api/v1/events/batch"
_EXISTS: Final[Mapping[str, Any]] = {"transaction_id": ["value_already_exist"]}
_ROUNDS: Final = 4
"""How often a batch is sent again without what Lago has of it, while others send the same."""
_SINK: Final = "a lago"
_SECRETS: Final = "a key belongs in the environment variable LAGO_API_KEY"
_PARAMETERS: Final = ("code", "subscriptions", "account", "name")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class _Sent:
    """One of Lago's events, and the recorded one it is made of."""

    owner: Envelope
    body: dict[str, Any]


class LagoSink:
    """Sends events to a Lago server, for its billable metrics.

    Args:
        base: Where its API begins: `https://api.getlago.com`.
        account: Whose books it writes: by default the name of the application.
        key: Its API key; without one nothing is sent.
        codes: The codes of the billable metrics; an event is sent for each.
        subscriptions: A file with the subscription of each subject; without one, subjects are
            external ids of subscriptions.
        name: How `status` calls it.

    Attributes:
        base: Where its API begins.
        key: The key; it is never part of what is shown.
        subscriptions: Whose subjects are whose.
        codes: The codes of the billable metrics.

    Raises:
        ConfigurationError: If the key cannot stand in a header. The message does not hold it.
    """

    def __init__(
        self,
        base: str,
        *,
        account: str,
        key: str | None = None,
        codes: Sequence[str] = (CODE,),
        subscriptions: Path | None = None,
        name: str = "lago",
    ) -> None:
        self.name = name
        self.url = f"lago+{base}"
        self.account = account
        self.base = base
        self.key = checked_key("lago_api_key", key)
        self.codes = tuple(codes)
        self.subscriptions = Payers(subscriptions, TABLE)
        self.limits = SinkLimits(
            max_events=MOST_EVENTS // len(self.codes),
            max_bytes=512 * 1024,
            dedupe_window=None,
            dedupe="always",
        )
        self._endpoint = base + _PATH
        self._headers = {
            "Content-Type": "application/json",
            "Authorization": f"Bearer {self.key}",
        }
        self._http = HTTPClient()

    def __repr__(self) -> str:
        return f"<LagoSink {self.name} {self.url} account={self.account}>"

    def deliver(self, batch: Sequence[Envelope], /) -> Delivery:
        if not batch:
            return Delivery()
        if self.key is None:
            return Delivery.try_later(batch, "there is no key: set LAGO_API_KEY", hold=True)
        try:
            subscriptions = self.subscriptions.current()
        except PayersError as error:
            return Delivery.try_later(batch, str(error), hold=True)
        sent: list[_Sent] = []
        rejected: set[tuple[str, str]] = set()
        passed_over: set[str] = set()
        for envelope in batch:
            try:
                bodies = self._bodies(envelope.payload, subscriptions)
            except UnusableEventError as error:
                rejected.add((envelope.id, str(error)))
            else:
                sent += [_Sent(envelope, body) for body in bodies]
                if not bodies:
                    passed_over.add(envelope.id)
        told = self._send(sent)
        return replace(
            told,
            accepted=told.accepted | passed_over,
            rejected=frozenset(rejected),
            unasked=told.unasked or not sent,
        )

    def close(self) -> None:
        self._http.close()

    def _bodies(self, payload: bytes, subscriptions: Mapping[str, str]) -> list[dict[str, Any]]:
        event = read_event(payload)
        if event.type == THRESHOLD_EVENT_TYPE:
            return []  # no usage: a metric that counts events would bill it
        subscription = subscriptions.get(event.subject)
        if subscription is None:
            if self.subscriptions.path is not None or event.subject == UNATTRIBUTED:
                raise UnusableEventError(
                    "its subject has no subscription of Lago's: add it to the file of"
                    " subscriptions, then `llm-metering dead retry`"
                )
            subscription = event.subject
        try:
            # Whole milliseconds, and the same digits each time: with ClickHouse, Lago knows an
            # event by its time too.
            passed = (event.time.astimezone(UTC) - _EPOCH) // timedelta(milliseconds=1)
        except OverflowError:
            raise UnusableEventError("its time is none in UTC") from None
        properties = {
            key: value
            for key, value in event.data.items()
            if isinstance(value, str | int | float) and not isinstance(value, bool)
        }
        identity, several = identity_of(event), len(self.codes) > 1
        return [
            {
                "transaction_id": f"{identity}:{code}" if several else identity,
                "external_subscription_id": subscription,
                "code": code,
                "timestamp": f"{passed // 1000}.{passed % 1000:03}",
                "properties": properties,
            }
            for code in self.codes
        ]

    def _send(self, sent: Sequence[_Sent]) -> Delivery:
        """Send them, once more without what Lago has already, until the rest is taken."""
        had: list[_Sent] = []
        for _ in range(_ROUNDS):
            if not sent:
                return _all(had)
            owners = _owners(sent)
            answer = self._http.exchange(
                owners,
                self._endpoint,
                body=msgspec.json.encode({"events": [each.body for each in sent]}),
                headers=self._headers,
                secret=self.key,
            )
            if isinstance(answer, Delivery):
                return _with_had(answer, had)
            known = _known(answer, len(sent))
            if not known:
                return _with_had(self._judged(owners, answer, sent), had)
            had += [each for index, each in enumerate(sent) if index in known]
            sent = [each for index, each in enumerate(sent) if index not in known]
        told = (
            Delivery.try_later(_owners(sent), "others send the same events") if sent else _all([])
        )
        return _with_had(told, had)

    def _judged(
        self, owners: Sequence[Envelope], answer: Answer, sent: Sequence[_Sent]
    ) -> Delivery:
        told = judge(owners, answer, secret=self.key, now=datetime.now(UTC))
        if told.accepted:
            return told
        if answer.status == 409:
            return Delivery.refuse(owners, "409 Conflict")
        faults = _faults(answer)
        of_batch = faults.get("events")
        if isinstance(of_batch, list | str) and "too_many_events" in of_batch:
            # An operator may have set fewer than 100 (LAGO_EVENTS_BATCH_MAX_LENGTH).
            return Delivery.refuse(owners, f"{told.reason}: too_many_events", "size")
        blamed = sorted(index for index in map(_index, faults) if 0 <= index < len(sent))
        if told.refusal is None or not blamed:
            return told
        named = ", ".join(sorted(_words(faults[str(blamed[0])])))
        reason = f"{told.reason} at {named}" if named else told.reason
        return replace(told, reason=reason, blamed=sent[blamed[0]].owner.id)


def _owners(sent: Sequence[_Sent]) -> list[Envelope]:
    return list({each.owner.id: each.owner for each in sent}.values())


def _all(sent: Sequence[_Sent]) -> Delivery:
    return Delivery.all_accepted(_owners(sent))


def _with_had(told: Delivery, had: Sequence[_Sent]) -> Delivery:
    """With the events that Lago had, except where another part of one is not settled."""
    open_ids = told.retryable | {event_id for event_id, _ in told.rejected}
    return replace(told, accepted=told.accepted | ({each.owner.id for each in had} - open_ids))


def _faults(answer: Answer) -> dict[str, Any]:
    try:
        details = json.loads(answer.body)["error_details"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    return details if isinstance(details, dict) else {}


def _known(answer: Answer, count: int) -> set[int]:
    """Which events of a batch Lago had already."""
    if answer.status != 422:
        return set()
    faults = _faults(answer)
    if faults == _EXISTS and count == 1:
        return {0}
    known = {_index(key) for key, fault in faults.items() if fault == _EXISTS}
    return {index for index in known if 0 <= index < count}


def _index(key: str) -> int:
    return int(key) if key.isascii() and key.isdigit() and len(key) <= 6 else -1


def _words(fault: object) -> list[str]:
    # The names of fields are Lago's own; what stands beside them may quote the event.
    fields = ("transaction_id", "code", "timestamp", "properties", "external_subscription_id")
    return [field for field in fields if isinstance(fault, dict) and field in fault]


def from_url(url: str, context: SinkContext) -> LagoSink:
    """Make the sink that `lago+https://host[:port][/path][?parameters]` names.

    Args:
        url: Up to where `/api/v1` begins.
        context: What else holds; the key is its secret `lago_api_key`.

    Raises:
        SinkURLError: Naming what is wrong and what is allowed, never what may be a secret.
        ConfigurationError: If the key cannot be used; without it.
    """
    parts = split_url(url, _SINK)
    base = http_base(
        parts,
        _SINK,
        prefix="lago+",
        secrets=_SECRETS,
        example="lago+https://api.getlago.com",
    )
    parts, repeated = repeated_of(parts, _SINK, ("code",))
    given = parameters_of(parts, _SINK, _PARAMETERS, secrets=_SECRETS)
    codes = [filled("code", code) for code in repeated["code"]] or [CODE]
    if len(set(codes)) < len(codes):
        raise SinkURLError("code: each billable metric once")
    return LagoSink(
        base,
        account=filled("account", given.get("account", context.source)),
        key=context.credentials.get("lago_api_key"),
        codes=codes,
        subscriptions=payers_file("subscriptions", given.get("subscriptions")),
        name=filled("name", given.get("name", "lago")),
    )
