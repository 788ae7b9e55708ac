"""What a subject may use of one feature: grants that usage burns down.

The rules are those of OpenMeter's engine (`openmeter/credit/engine`, read on 2026-11-23): whatever
happens to grants splits the time into phases; at the beginning of each, usage beyond all grants is burnt
from what there is now; within it, usage burns the grants in their order. Here nothing is worked out again
from the beginning: usage burns what there is when it arrives, and the past stays as it was.

It knows no store, and no clock but the one that it is told.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from ..errors import InvalidArgumentError, LimitStoreError
from .grants import Grant
from .mirrors import KEPT, Mirror, RemoteBalance
from .recurrence import Recurrence

__all__ = ["REMOTE_GRANT", "Account", "Holding"]

REMOTE_GRANT: Final = "remote"
"""The id of the one grant of an account whose grants somebody else keeps."""


@dataclass(slots=True)
class Holding:
    """A grant, and what is left of it.

    Attributes:
        grant: The grant.
        left: In the smallest parts of the unit.
    """

    grant: Grant
    left: int = 0


@dataclass(slots=True, kw_only=True)
class Account:
    """Grants of a subject for one feature, as they were at a moment.

    Always, `granted == sum(left of all holdings) + burnt + lapsed`, and `usage` and `overage` are told
    apart from each other: `burnt` is what grants paid for.

    Attributes:
        as_of: The moment.
        period: When usage periods begin; `None` is one that never ends.
        preserves_overage: Whether usage beyond all grants is burnt from those of the next period.
        is_soft: Whether it is only counted: reservations may go beyond what is left.
        announced: The highest threshold, in percent, that was announced since its last grant or period.
        holdings: In no order.
        usage: What was used since the usage period began.
        overage: What of it no grant has paid for.
        granted: All that ever became usable.
        burnt: All that was ever used of it.
        lapsed: All that was never used, and can no longer be.
        forgiven: All overage that was dropped as a usage period began.
        mirror: Where somebody else keeps the grants: what is to be remembered of that. Then `granted`,
            `burnt` and `overage` are what that one says of the usage period, and what was used here since;
            all of the periods before is in `lapsed` as well as in `granted`.
    """

    as_of: datetime
    period: Recurrence | None = None
    preserves_overage: bool = False
    is_soft: bool = False
    announced: int = 0
    holdings: list[Holding] = field(default_factory=list)
    usage: int = 0
    overage: int = 0
    granted: int = 0
    burnt: int = 0
    lapsed: int = 0
    forgiven: int = 0
    mirror: Mirror | None = None

    @property
    def left(self) -> int:
        """What can be used now."""
        return sum(each.left for each in self.holdings)

    @property
    def issued(self) -> int:
        """What there was to use: what is left, and what grants have paid for in this usage period."""
        return self.left + max(self.usage - self.overage, 0)

    @property
    def percent_used(self) -> int:
        """How much of what there was is used, in whole percent; more than 100 if there is overage."""
        return self.usage * 100 // self.issued if self.issued else (101 if self.usage else 0)

    def advance(self, until: datetime) -> None:
        """Let time pass. A moment before that of the account changes nothing: clocks may go back."""
        while (moment := self.next_change()) is not None and moment <= until:
            self._change(moment)
        self.as_of = max(self.as_of, until)

    def next_change(self) -> datetime | None:
        """When something happens by itself; `None` if nothing ever does."""
        return min(self._changes(), default=None)

    def add(self, grant: Grant) -> None:
        """Put a grant in. What began before now is all there, but for what has ended.

        Raises:
            InvalidArgumentError: If there is one of that id.
        """
        if any(each.grant.id == grant.id for each in self.holdings):
            raise InvalidArgumentError(f"there is a grant {grant.id} already")
        holding = Holding(grant)
        self.holdings.append(holding)
        if grant.is_active(self.as_of):
            self._fill(holding)
            self._burn_overage()

    def void(self, grant_id: str) -> bool:
        """Take back what is left of a grant; whether there is one of that id that had not ended."""
        for holding in self.holdings:
            grant = holding.grant
            if grant.id == grant_id and (grant.ends_at is None or grant.ends_at > self.as_of):
                holding.grant = replace(grant, voided_at=self.as_of)
                self._empty(holding)
                return True
        return False

    def burn(self, amount: int) -> None:
        """Use something, of what there is now; what there is not is overage."""
        self.usage += amount
        self.overage += amount
        if self.mirror is not None:
            self.mirror.burnt(amount, self.as_of)
        self._burn_overage()

    def follow(self, said: RemoteBalance, *, asked_at: datetime, lag: timedelta) -> bool:
        """Take over what somebody else says, less what may have been used here unknown to that one.

        What was granted here before is no longer of any use. Of several answers the one that was asked
        for last stays, whichever comes last.

        Args:
            said: What that one says.
            asked_at: When it was asked for, or earlier.
            lag: How long that one may take to hear of what was burnt here.

        Returns:
            Whether it was news.

        Raises:
            LimitStoreError: If it was asked for so long ago that nobody knows what was burnt since.
        """
        if self.mirror is not None and asked_at < self.mirror.asked_at:
            return False
        if asked_at - lag < self.as_of - KEPT:
            raise LimitStoreError(
                f"an answer was asked for at {asked_at.isoformat()}, too long ago"
            )
        is_new_period = self.mirror is None or said.usage < self.mirror.used
        mirror = self.mirror or Mirror(asked_at=asked_at)
        before = self.issued
        if is_new_period:
            self.lapsed = self.granted
        uncounted = mirror.burnt_since(asked_at - lag)
        net = said.balance - said.overage - uncounted
        left = max(0, net)
        self.usage = said.usage + uncounted
        self.overage = left - net
        self.burnt = self.usage - self.overage
        self.granted = self.lapsed + left + self.burnt
        self.is_soft = said.is_soft
        self.period = None
        since = next(
            (each.grant.created_at for each in self.holdings if each.grant.id == REMOTE_GRANT),
            asked_at,
        )
        self.holdings.clear()
        if (amount := max(left + self.burnt, left)) > 0:
            grant = Grant(id=REMOTE_GRANT, amount=amount, created_at=since, effective_at=since)
            self.holdings.append(Holding(grant, left))
        if is_new_period or self.issued > before:
            # A threshold that is behind it now is one that can be reached again.
            self.announced = min(self.announced, self.percent_used)
        mirror.asked_at, mirror.used = asked_at, said.usage
        mirror.forget(self.as_of)
        self.mirror = mirror
        return True

    def _changes(self) -> Iterator[datetime]:
        if self.period is not None:
            yield self.period.next_after(self.as_of)
        for holding in self.holdings:
            grant = holding.grant
            if grant.effective_at > self.as_of:
                yield grant.effective_at
                continue
            if not grant.is_active(self.as_of):
                continue
            if grant.ends_at is not None:
                yield grant.ends_at
            if grant.recurrence is not None:
                yield grant.recurrence.next_after(self.as_of)

    def _change(self, moment: datetime) -> None:
        """What happens at the next moment at which something does."""
        before, self.as_of = self.as_of, moment
        begins = self.period is not None and self.period.next_after(before) == moment
        active = [each for each in self.holdings if each.grant.is_active(moment)]
        if begins:
            self._begin_period(each for each in active if each.grant.effective_at < moment)
        for holding in self.holdings:
            grant = holding.grant
            if not grant.is_active(moment):
                self._empty(holding)
            elif grant.effective_at == moment or (
                grant.recurrence is not None and grant.recurrence.next_after(before) == moment
            ):
                self._empty(holding)
                self._fill(holding)
        self._burn_overage()

    def _begin_period(self, active: Iterable[Holding]) -> None:
        for holding in active:
            kept = holding.grant.kept(holding.left)
            if kept > holding.left:
                self.granted += kept - holding.left
            else:
                self.lapsed += holding.left - kept
            holding.left = kept
        self.usage = 0
        if not self.preserves_overage:
            self.forgiven += self.overage
            self.overage = 0

    def _fill(self, holding: Holding) -> None:
        holding.left = holding.grant.amount
        self.granted += holding.left

    def _empty(self, holding: Holding) -> None:
        self.lapsed += holding.left
        holding.left = 0

    def _burn_overage(self) -> None:
        if not self.overage:
            return
        for holding in sorted(self.holdings, key=lambda each: each.grant.order):
            taken = min(holding.left, self.overage)
            holding.left -= taken
            self.overage -= taken
            self.burnt += taken
