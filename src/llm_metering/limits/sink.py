"""`LimitsSink`: what calls have used is burnt of balances, and what was reserved for them released."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from ..cloud_events import CloudEvent
from ..errors import LimitStoreError, MissingExtraError, PriceError
from ..events import THRESHOLD_EVENT_TYPE
from ..sinks._payload import UnusableEventError, read_event
from ..sinks.base import Delivery, Envelope, SinkLimits
from .account import Account
from .amounts import Amounts
from .balances import balance_of
from .notices import BalanceNotice, crossed, notice_of
from .service import Limits
from .slices import part_of
from .stores import AccountKey, Held, Settlement

__all__ = ["LimitsSink"]

logger = logging.getLogger("llm_metering")

_LIMITS: Final = SinkLimits(dedupe="always")


class LimitsSink:
    """Settles events: a batch is one transaction, in which each counts once by its source and id.

    What was used without a reservation burns as well; usage of a subject without an account is passed
    over, and what has no price burns no money and no credits, which is counted.

    Args:
        limits: Whose balances.
        url: Where they are, without secrets.
        amounts: What events come to.
        thresholds: Of how much use is told, in percent.
        announce: Tells it.
        note: Counts what could not be burnt, by the reason.
    """

    name = "limits"
    account = ""
    limits = _LIMITS

    def __init__(
        self,
        limits: Limits,
        *,
        url: str,
        amounts: Amounts,
        thresholds: tuple[int, ...] = (),
        announce: Callable[[BalanceNotice], object] = lambda _: None,
        note: Callable[[str, int], object] = lambda _, __: None,
    ) -> None:
        self.url = url
        self._limits = limits
        self._amounts = amounts
        self._thresholds = thresholds
        self._announce = announce
        self._note = note

    def __repr__(self) -> str:
        return f"<LimitsSink {self.url}>"

    def deliver(self, batch: Sequence[Envelope], /) -> Delivery:
        """Settle a batch; if the store cannot be used it stays owed."""
        events: list[CloudEvent] = []
        rejected: set[tuple[str, str]] = set()
        for envelope in batch:
            try:
                event = read_event(envelope.payload)
            except UnusableEventError as error:
                rejected.add((envelope.id, str(error)))
                continue
            events.append(event)
        unpriced: dict[str, int] = {}
        try:
            keys = self._limits.store.keys({event.subject for event in events})
            features: dict[str, list[str]] = {}
            for key in keys:
                features.setdefault(key.subject, []).append(key.feature)
            settlements = [
                self._settlement(event, features.get(event.subject, ()), unpriced)
                for event in events
                if event.type != THRESHOLD_EVENT_TYPE
            ]
            burnt = self._limits.store.settle(settlements) if settlements else {}
        except LimitStoreError as error:
            return Delivery.try_later(batch, str(error))
        except (PriceError, MissingExtraError) as error:
            # A person has to mend a file, or install something.
            return Delivery.try_later(batch, str(error), hold=True)
        except Exception as error:
            # One of them is to blame, such as a subject that a database takes for no text: it is looked for.
            logger.exception("a batch was not settled")
            return Delivery.refuse(batch, type(error).__name__)
        for reason, count in unpriced.items():
            self._note(reason, count)
        if self._thresholds:
            self._look(burnt)
        accepted = frozenset(each.id for each in batch) - {id for id, _ in rejected}
        return Delivery(accepted=accepted, rejected=frozenset(rejected))

    def ask(self) -> int:
        """How many balances there are.

        Raises:
            LimitStoreError: If the store cannot be used now.
        """
        return len(self._limits.store.keys())

    def close(self) -> None:
        """Let go of the store; a later `deliver` opens it again."""
        self._limits.store.close()

    def _settlement(
        self, event: CloudEvent, features: Sequence[str], unpriced: dict[str, int]
    ) -> Settlement:
        amounts: dict[AccountKey, int] = {}
        if features:
            for key, parts in self._amounts.of(event.data, event.time, features).items():
                if isinstance(parts, int):
                    amounts[AccountKey(event.subject, key)] = parts
                else:
                    unpriced[parts.reason] = unpriced.get(parts.reason, 0) + 1
        named = event.data.get("reservation_id")
        reservation, part = part_of(named) if isinstance(named, str) else (None, None)
        return Settlement(
            source=event.source,
            id=event.id,
            reservation=reservation,
            part=part,
            amounts=amounts,
        )

    def _look(self, burnt: Mapping[AccountKey, Account]) -> None:
        """Tell of thresholds that were passed; whoever dies before it is written down tells again."""
        for key, account in burnt.items():
            reached = crossed(account, self._thresholds)
            # What is burnt of a mirror counts twice for a while: it may seem to come back.
            if reached == account.announced or (
                account.mirror is not None and reached < account.announced
            ):
                continue
            try:
                if reached > account.announced:
                    held = Held(account=account, reserved=0)
                    balance = balance_of(key, self._limits.features[key.feature], held)
                    self._announce(notice_of(balance, account, reached))
                self._limits.store.change(key, _announced(reached), make=_never)
            except LimitStoreError as error:
                # What was burnt is burnt; the next call that burns something sees it as well.
                logger.warning("a threshold of %s was not written down: %s", key, error)


def _announced(reached: int) -> Callable[[Account], None]:
    def work(account: Account) -> None:
        account.announced = reached

    return work


def _never(_: object) -> Account:
    raise LimitStoreError("the account is gone")
