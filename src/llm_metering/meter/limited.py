"""The part of `Meter` that knows what subjects may use: grants, balances, reservations."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from ..errors import ConfigurationError, LimitStoreError
from ..limiting import Limiting
from ..settings import Settings
from ..sinks.base import Sink
from ..transport.fleet import Transport

if TYPE_CHECKING:
    from ..limits import (
        Balance,
        BalanceNotice,
        Estimates,
        Gate,
        GrantBalance,
        Interval,
        Limits,
        Recurrence,
        Reservation,
    )

__all__ = ["Limited"]

logger = logging.getLogger("llm_metering")

_PATIENCE: Final = 10.0
"""Seconds in which what was recorded should be burnt."""


class Limited:
    """What subjects may use; the rest of the meter has the parts that it is made of."""

    settings: Settings
    _limiting: Limiting | None
    _transport: Transport
    _on_threshold: Callable[[BalanceNotice], object] | None

    def _ship(self, sink: Sink, timeout: float) -> bool:
        """Bring a sink what was recorded; whether nothing was left."""
        raise NotImplementedError

    @property
    def limits(self) -> Limits:
        """Grants, balances and reservations, whoever they are of.

        Raises:
            ConfigurationError: If limits are off in this meter.
        """
        return self._limits_on().limits

    @property
    def gate(self) -> Gate | None:
        """What refuses calls that a balance does not cover; `None` if limits are off."""
        return None if self._limiting is None else self._limiting.gate

    @property
    def estimates(self) -> Estimates:
        """What calls may need at most, of whoever asks before one is made.

        Raises:
            ConfigurationError: If limits are off in this meter.
        """
        return self._limits_on().estimates

    def grant(
        self,
        subject: str,
        amount: int | Decimal | str,
        unit: str = "tokens",
        *,
        priority: int = 100,
        effective_at: datetime | None = None,
        expires_at: datetime | None = None,
        recurrence: Interval | Recurrence | None = None,
        usage_period: Interval | Recurrence | None = None,
        min_rollover: int | Decimal | str = 0,
        max_rollover: int | Decimal | str | None = None,
        soft_limit: bool | None = None,
        key: str | None = None,
    ) -> GrantBalance:
        """Let a subject use something.

        Args:
            subject: Who.
            amount: How much, above 0.
            unit: Of what: `tokens`, `credits`, `money`, or a feature of the settings.
            priority: Which of several is used first: from 1 to 255, the lower the sooner. Of the same
                priority, the one that ends sooner is used first, then the one that was made sooner.
            effective_at: From when on; now if left out.
            expires_at: The first moment at which it can no longer be used.
            recurrence: How often it is all there again: `HOUR`, `DAY`, `WEEK`, `MONTH` or `YEAR` from
                `effective_at` on, or a `Recurrence` with another anchor or time zone.
            usage_period: When usage is counted anew; said with a subject's first grant of a unit, and
                that one's recurrence if left out.
            min_rollover: How much there is at least when a usage period begins.
            max_rollover: How much is kept at most from one usage period to the next; if left out, nothing
                of what recurs, and all of what does not.
            soft_limit: Whether calls go on when nothing is left; `None` leaves it as it is, at first no.
            key: The grant of one key is made once, however often it is asked for.

        Raises:
            ConfigurationError: If limits are off in this meter.
            SubjectError: If the subject is not usable.
            InvalidArgumentError: If a value makes no sense, or a grant of that key had another amount.
            LimitStoreError: If the store of balances cannot be used now.
        """
        return self.limits.grant(
            subject,
            amount,
            unit,
            priority=priority,
            effective_at=effective_at,
            expires_at=expires_at,
            recurrence=recurrence,
            usage_period=usage_period,
            min_rollover=min_rollover,
            max_rollover=max_rollover,
            soft_limit=soft_limit,
            key=key,
        )

    def balance(
        self, subject: str, unit: str = "tokens", *, allow_incomplete: bool = False
    ) -> Balance:
        """What a subject has left, everything that this process recorded so far burnt.

        Args:
            subject: Who.
            unit: Of what.
            allow_incomplete: Answer even while the store does not take what was recorded.

        Raises:
            ConfigurationError: If limits are off in this meter.
            InvalidArgumentError: If there is no such unit.
            LimitStoreError: If the store cannot be used now, or does not take what was recorded.
        """
        limiting = self._limits_on()
        if not self._ship(limiting.sink, _PATIENCE) and not allow_incomplete:
            raise LimitStoreError(
                "not all that was recorded is burnt yet, so more would seem to be left; "
                "`llm-metering status` says why; allow_incomplete=True shows what there is"
            )
        return limiting.limits.balance(subject, unit)

    def reserve(
        self,
        subject: str,
        amount: int | Decimal | str,
        unit: str = "tokens",
        *,
        expires_in: float = 600.0,
    ) -> Reservation:
        """Reserve something, to be settled or given back; nobody else gets it meanwhile.

        Args:
            subject: Whose.
            amount: How much, above 0; of credits and money rounded up to a millionth.
            unit: Of what.
            expires_in: Seconds after which it is given back by itself.

        Raises:
            BalanceExceeded: If there is less.
            ConfigurationError: If limits are off in this meter.
            InvalidArgumentError: If an argument makes no sense.
            LimitStoreError: If the store cannot be used now.
        """
        return self.limits.reserve(subject, amount, unit, expires_in=expires_in)

    def require_limits(self) -> None:
        """See to it that calls can be held to balances.

        Raises:
            ConfigurationError: If limits are off in this meter.
        """
        self._limits_on()

    def _limits_on(self) -> Limiting:
        if self._limiting is None:
            where = self.settings.origins.get("limits", "default")
            raise ConfigurationError(
                "limits",
                f"they are {self.settings.limits!r} ({where}) and nobody was granted anything in "
                f"{self.settings.home}; make the meter with limits='on', or set LLM_METERING_LIMITS=on",
            )
        return self._limiting

    def _announce(self, notice: BalanceNotice) -> None:
        """Tell of a threshold: in the log, by the callback, and through the sinks."""
        balance = notice.balance
        logger.warning(
            "%s has used %d %% of its %s: %s of %s",
            balance.subject,
            notice.threshold,
            balance.feature,
            balance.used,
            balance.granted,
        )
        event = notice.event(self.settings.source, datetime.now(UTC))
        self._transport.journal.record(notice.id, event)
        if self._on_threshold is not None:
            try:
                self._on_threshold(notice)
            except Exception as error:
                logger.error("on_threshold failed: %s", type(error).__name__)  # noqa: TRY400
