"""What the fake server has stored, and what a test does to that without a request."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, overload

from .books import Books
from .entitlements import Entitlement, EntitlementKind, Entitlements
from .ingest import Event

__all__ = ["Holdings"]


class Holdings:
    """The part of a server that is about the events it has."""

    def __init__(
        self, books: Books, entitlements: Entitlements, changed: threading.Condition
    ) -> None:
        self._books = books
        self._entitlements = entitlements
        self._changed = changed
        self._numbered = 0

    @property
    def dedupe(self) -> bool:
        """Whether an event is counted once; it may be set at any time."""
        return self._books.dedupe

    @dedupe.setter
    def dedupe(self, dedupe: bool) -> None:
        with self._changed:
            self._books.dedupe = dedupe

    @property
    def events(self) -> list[Event]:
        """What it counts, in the order in which it came; without attributes it does not keep."""
        with self._changed:
            return [row.event for row in self._books.rows.all]

    def preload(
        self, events: Iterable[Mapping[str, Any]], *, stored_at: float | None = None
    ) -> int:
        """Store events without a request, as they are, for tests and benchmarks with many.

        Nothing is checked, no fault applies, and each one is stored, also one that was there
        before, whatever `dedupe` says; so an event given twice is one counted twice.

        >>> from llm_metering.testing import OpenMeterServer
        >>> event = {"id": "1", "source": "app", "type": "llm.usage", "subject": "customer-42"}
        >>> with OpenMeterServer() as server:
        ...     server.preload([event, event])
        2

        Args:
            events: CloudEvents; one without a time gets that of the server's clock.
            stored_at: When they were taken and stored, in seconds since 1970; now if left out.

        Returns:
            How many it stored.
        """
        with self._changed:
            count = self._books.preload(map(dict, events), at=stored_at)
            self._changed.notify_all()
        return count

    def entitle(
        self,
        subject: str,
        feature: str,
        *,
        kind: EntitlementKind = "metered",
        meter: str | None = None,
        amount: float = 0.0,
        soft_limit: bool = False,
        config: str | None = None,
        since: float = 0.0,
    ) -> None:
        """Entitle a subject to a feature, in place of what it had of it.

        >>> from llm_metering.meters import METERS
        >>> from llm_metering.testing import OpenMeterServer
        >>> with OpenMeterServer(meters=[METERS["tokens_total"].to_dict()]) as server:
        ...     server.entitle("acme", "llm_tokens", meter="tokens_total", amount=100_000)

        Args:
            subject: Who.
            feature: The feature's key.
            kind: `metered`, `static` or `boolean`.
            meter: The slug of the meter that counts what is used of a metered one.
            amount: What there is to use of it.
            soft_limit: Whether it is only counted.
            config: Of a static one: JSON.
            since: From when on usage counts, in seconds since 1970: another one begins a new usage period.

        Raises:
            ValueError: If the server has no such meter.
        """
        with self._changed:
            self._numbered += 1
            self._entitlements.add(
                Entitlement(
                    subject=subject,
                    feature=feature,
                    kind=kind,
                    meter=meter,
                    amount=amount,
                    is_soft=soft_limit,
                    config=config,
                    since=since,
                    number=self._numbered,
                )
            )

    def withdraw(self, subject: str, feature: str) -> bool:
        """Take an entitlement away.

        Returns:
            Whether the subject had it.
        """
        with self._changed:
            return self._entitlements.remove(subject, feature)

    def catch_up(self) -> int:
        """Store what `Lag` held back, in the order in which it came.

        Returns:
            How many events there were.
        """
        with self._changed:
            count = self._books.catch_up()
            self._changed.notify_all()
        return count

    def forget_claims(self) -> int:
        """Forget the ids that `ClaimBeforeWrite` had noted, as when they expire.

        Returns:
            How many there were.
        """
        with self._changed:
            return self._books.forget_claims()

    def forget_ids(self) -> None:
        """Forget all ids that deduplication knows, as when its time is over."""
        with self._changed:
            self._books.forget_ids()

    @overload
    def total(
        self, value_property: str, group_by: None = None, *, event_type: str | None = None
    ) -> int | float: ...
    @overload
    def total(
        self, value_property: str, group_by: Sequence[str], *, event_type: str | None = None
    ) -> dict[tuple[str, ...], int | float]: ...
    def total(
        self,
        value_property: str,
        group_by: Sequence[str] | None = None,
        *,
        event_type: str | None = None,
    ) -> int | float | dict[tuple[str, ...], int | float]:
        """What a SUM meter over the counted events says.

        As in OpenMeter, values that are no number are passed over, and a missing group is `""`.
        Whole numbers are added up without an error.

        >>> from llm_metering.testing import OpenMeterServer
        >>> with OpenMeterServer() as server:
        ...     server.total("$.total_tokens"), server.total("$.total_tokens", ["$.model"])
        (0, {})

        Args:
            value_property: JSONPath in `data`, of the form `$.key`.
            group_by: JSONPaths in `data`, or `subject`.
            event_type: Count events of this type alone.

        Returns:
            The sum, or the sum of each group.

        Raises:
            ValueError: If a path has another form.
        """
        with self._changed:
            totals = self._books.totals(value_property, group_by or (), event_type)
        return totals.get((), 0) if group_by is None else totals
