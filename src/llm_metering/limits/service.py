"""`Limits`: grants, balances and reservations, in the units that people use."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final
from uuid import uuid4

from ..errors import BalanceExceeded, CallRefusedError, InvalidArgumentError, RateExceeded
from ..event_ids import keyed_event_id
from ..subjects import check_subject
from .account import Account, Holding
from .balances import Balance, GrantBalance, balance_of, grant_balance
from .features import FEATURES, Feature
from .grants import Grant
from .known import KnownTerms
from .mirrors import RemoteGrants
from .recurrence import Interval, Recurrence
from .reservations import Reservation
from .stores import (
    AccountKey,
    Held,
    Hold,
    LimitStore,
    OpenReservation,
    Shortage,
    Terms,
    TooFast,
)

__all__ = ["DefaultGrant", "Limits"]

_EXPIRES_IN: Final = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DefaultGrant:
    """What a subject is granted that has nothing, when its first call is checked.

    Attributes:
        amount: How much.
        feature: Of what.
        interval: How often it is all there again; `None` is never.
    """

    amount: int | Decimal
    feature: str
    interval: Interval | None = None


class Limits:
    """What subjects may use.

    Args:
        store: Where accounts are.
        source: The CloudEvents source of what is settled by hand.
        features: What there is to grant, by key.
        default_grant: What a subject is granted that has nothing.
        grants: Who keeps accounts in step with grants that are elsewhere, if anybody does.
    """

    def __init__(
        self,
        store: LimitStore,
        *,
        source: str,
        features: Mapping[str, Feature] = FEATURES,
        default_grant: DefaultGrant | None = None,
        grants: RemoteGrants | None = None,
    ) -> None:
        self.store = store
        self.grants = grants
        self.features = features
        self._source = source
        self._default_grant = default_grant
        self._known = KnownTerms(store)

    def __repr__(self) -> str:
        return f"<Limits {self.store!r}>"

    def feature(self, name: str) -> Feature:
        """The feature of that key.

        Raises:
            InvalidArgumentError: If there is none.
        """
        try:
            return self.features[name]
        except (KeyError, TypeError):
            known = ", ".join(self.features)
            raise InvalidArgumentError(f"unit is one of {known}, got {name!r}") from None

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
        """Let a subject use something; its account is made with its first grant.

        Args:
            subject: Who.
            amount: How much, above 0.
            unit: Of what: `tokens`, `credits`, `money`, or a feature of the settings.
            priority: Which of several is used first: from 1 to 255, the lower the sooner.
            effective_at: From when on; now if left out.
            expires_at: The first moment at which it can no longer be used.
            recurrence: How often it is all there again: `HOUR`, `DAY`, `WEEK`, `MONTH` or `YEAR` from
                `effective_at` on, or a `Recurrence` with another anchor or time zone.
            usage_period: When the account begins to count usage anew; said with its first grant, and
                that one's recurrence if left out.
            min_rollover: How much there is at least when a usage period begins.
            max_rollover: How much is kept at most from one usage period to the next; if left out, nothing
                of what recurs, and all of what does not.
            soft_limit: Whether calls go on when nothing is left; `None` leaves it as it is, at first no.
            key: The grant of one key is made once, however often it is asked for.

        Raises:
            SubjectError: If the subject is not usable.
            InvalidArgumentError: If a value makes no sense, a grant of that key had another amount, or what
                the subject may use of it is granted elsewhere.
            LimitStoreError: If the store cannot be used now.
        """
        check_subject(subject)
        feature = self.feature(unit)
        parts = feature.parts(amount)
        id = uuid4().hex if key is None else keyed_event_id(f"{subject}\n{unit}", key)
        lowest = feature.parts(min_rollover)
        if max_rollover is not None:
            highest = feature.parts(max_rollover)
        else:
            highest = lowest if recurrence is not None else parts

        def work(account: Account) -> Holding:
            _check_ours(account, subject, unit)
            if soft_limit is not None:
                account.is_soft = soft_limit
            found = next((each for each in account.holdings if each.grant.id == id), None)
            if found is not None:
                if found.grant.amount != parts:
                    was = feature.amount(found.grant.amount)
                    raise InvalidArgumentError(
                        f"the grant of key {key!r} was of {was} {feature.shown}, not {amount}"
                    )
                return found
            now = account.as_of
            since = now if effective_at is None else effective_at
            account.add(
                Grant(
                    id=id,
                    amount=parts,
                    priority=priority,
                    created_at=now,
                    effective_at=since,
                    expires_at=expires_at,
                    recurrence=_recurrence(recurrence, since),
                    min_rollover=lowest,
                    max_rollover=highest,
                )
            )
            return account.holdings[-1]

        def make(now: datetime) -> Account:
            since = now if effective_at is None else effective_at
            period = _recurrence(usage_period or recurrence, since)
            return Account(as_of=now, period=period)

        holding = self.store.change(AccountKey(subject, unit), work, make=make)
        self._known.forget(subject)
        return grant_balance(holding, feature)

    def void_grant(self, subject: str, grant_id: str, unit: str = "tokens") -> bool:
        """Take back what is left of a grant.

        Returns:
            Whether there was one that had not ended.

        Raises:
            InvalidArgumentError: If there is no such unit, or what the subject may use of it is granted
                elsewhere.
            LimitStoreError: If the store cannot be used now.
        """
        self.feature(unit)
        key = AccountKey(subject, unit)
        if key not in self.store.keys([subject]):
            return False

        def work(account: Account) -> bool:
            _check_ours(account, subject, unit)
            return account.void(grant_id)

        return self.store.change(key, work, make=_empty)

    def balance(self, subject: str, unit: str = "tokens") -> Balance:
        """What a subject has left; all is 0 if it was never granted anything.

        Raises:
            InvalidArgumentError: If there is no such unit.
            LimitStoreError: If the store cannot be used now.
        """
        feature = self.feature(unit)
        self._refresh(subject, (unit,))
        key = AccountKey(subject, unit)
        held = self.store.read([key]).get(key)
        return balance_of(key, feature, held or Held(account=_empty(datetime.now(UTC)), reserved=0))

    def balances(self, subject: str | None = None) -> list[Balance]:
        """What everybody has left who was granted something, or one subject.

        Raises:
            LimitStoreError: If the store cannot be used now.
        """
        found = []
        of = None if subject is None else [subject]
        keys = [key for key in self.store.keys(of) if key.feature in self.features]
        for some in _several(keys):
            held = self.store.read(some)
            found += [
                balance_of(key, self.features[key.feature], held[key])
                for key in some
                if key in held
            ]
        return found

    def reservations(self, subject: str | None = None) -> list[OpenReservation]:
        """What is reserved now.

        Raises:
            LimitStoreError: If the store cannot be used now.
        """
        return self.store.reservations(subject)

    def reserve(
        self,
        subject: str,
        amount: int | Decimal | str,
        unit: str = "tokens",
        *,
        expires_in: float = _EXPIRES_IN,
    ) -> Reservation:
        """Reserve something, to be settled or given back; nobody else gets it meanwhile.

        Args:
            subject: Whose.
            amount: How much, above 0; of credits and money rounded up to a millionth.
            unit: Of what.
            expires_in: Seconds after which it is given back by itself.

        Raises:
            BalanceExceeded: If there is less.
            InvalidArgumentError: If an argument makes no sense.
            LimitStoreError: If the store cannot be used now.
        """
        feature = self.feature(unit)
        steps = feature.steps_up(feature.parts(amount))
        if steps == 0 or not 0 < expires_in < 10**9:
            raise InvalidArgumentError("amount and expires_in are more than 0")
        self._refresh(subject, (unit,))
        id = uuid4().hex
        self.hold(
            Hold(
                id=id,
                subject=subject,
                amounts={AccountKey(subject, unit): steps},
                seconds=expires_in,
            )
        )
        return Reservation(
            self.store,
            id=id,
            key=AccountKey(subject, unit),
            feature=feature,
            amount=feature.amount(steps * feature.step),
            source=self._source,
        )

    def hold(self, hold: Hold) -> None:
        """Reserve of several accounts together.

        Raises:
            BalanceExceeded: If one of them has less, or is not there.
            RateExceeded: If too much was begun in the last minute.
            LimitStoreError: If the store cannot be used now.
        """
        refused = self.store.reserve(hold)
        if refused is not None:
            raise self._error(hold.subject, refused)

    def terms(self, subject: str, *, with_default: bool = True) -> Terms:
        """Which accounts a subject has, and how fast it may go.

        Args:
            subject: Who.
            with_default: Whether the default grant is made if it has none.

        Raises:
            LimitStoreError: If the store cannot be used now.
        """
        self._refresh(subject, self.features)
        terms = self._known.of(subject)
        default = self._default_grant
        if terms.features or default is None or not with_default:
            return terms
        # One key: however many processes make it at once, it is made once.
        self.grant(
            subject, default.amount, default.feature, recurrence=default.interval, key="default"
        )
        return self._known.of(subject)

    def set_rates(
        self,
        subject: str,
        *,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
    ) -> None:
        """Say how much a subject may begin a minute; `None` goes back to what the settings say.

        Raises:
            InvalidArgumentError: If one is not above 0.
            LimitStoreError: If the store cannot be used now.
        """
        check_subject(subject)
        for each in (requests_per_minute, tokens_per_minute):
            if each is not None and not 0 < each < 1 << 40:
                raise InvalidArgumentError(f"a rate is a number above 0, got {each}")
        self.store.set_rates(
            subject, requests_per_minute=requests_per_minute, tokens_per_minute=tokens_per_minute
        )
        self._known.forget(subject)

    def _refresh(self, subject: str, features: Collection[str]) -> None:
        if self.grants is not None:
            self.grants.refresh(subject, features)

    def _error(self, subject: str, refused: Shortage | TooFast) -> CallRefusedError:
        if isinstance(refused, TooFast):
            return RateExceeded(subject, refused.kind, refused.per_minute, refused.fits_at)
        feature = self.features[refused.key.feature]
        available = refused.available
        return BalanceExceeded(
            refused.key.subject,
            refused.key.feature,
            feature.shown,
            balance=None if available is None else feature.amount(available * feature.step),
            needed=feature.amount(refused.needed * feature.step),
            resets_at=refused.changes_at,
        )


def _recurrence(given: Interval | Recurrence | None, anchor: datetime) -> Recurrence | None:
    if given is None or isinstance(given, Recurrence):
        return given
    return Recurrence(interval=given, anchor=anchor)


def _check_ours(account: Account, subject: str, unit: str) -> None:
    if account.mirror is not None:
        raise InvalidArgumentError(
            f"what {subject!r} may use of {unit} is granted elsewhere; grant it or take it back there"
        )


def _empty(now: datetime) -> Account:
    return Account(as_of=now)


def _several(keys: list[AccountKey], size: int = 500) -> Iterable[list[AccountKey]]:
    return (keys[start : start + size] for start in range(0, len(keys), size))
