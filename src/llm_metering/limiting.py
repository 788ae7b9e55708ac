"""`Limiting`: balances as a meter has them: a store, what settles calls there, and what refuses them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final, cast

from .errors import ConfigurationError, InvalidArgumentError, SinkURLError
from .exchange import Counted, Exchange
from .opening import open_ledger
from .price_books import PriceBooks
from .settings import Settings, mask_url
from .sinks.base import Sink
from .tokenizers import guess

if TYPE_CHECKING:
    from .ledger import Ledger
    from .limits import (
        BalanceNotice,
        DefaultGrant,
        Estimates,
        Feature,
        Gate,
        Interval,
        Limits,
        LimitsSink,
        LimitStore,
        LimitUnit,
        RemoteGrants,
    )

__all__ = [
    "LIMITS_FILE",
    "Limiting",
    "are_limits_on",
    "open_limiting",
    "own_sinks",
    "quiet_limiting",
]

LIMITS_FILE: Final = "limits.db"


class Limiting:
    """What a meter with limits has.

    Args:
        settings: Say where balances are, and how calls are held to them.
        books: What tokens cost.
        count: Counts the tokens of a request.
        announce: Is told of thresholds that were passed.
        note: Counts something for `status`.

    Attributes:
        limits: Grants, balances and reservations.
        sink: Settles what calls have used.
        estimates: Say what calls may need.
        gate: Reserves what they may need.

    Raises:
        ConfigurationError: If a setting cannot be used.
        MissingExtraError: If balances are in PostgreSQL and psycopg is not installed.
    """

    limits: Limits
    sink: LimitsSink
    estimates: Estimates
    gate: Gate

    def __init__(
        self,
        settings: Settings,
        books: PriceBooks,
        *,
        count: Callable[[Exchange], Counted],
        announce: Callable[[BalanceNotice], object],
        note: Callable[[str, str, int], object],
    ) -> None:
        # Here, not above: `import llm_metering` brings no database along.
        from .limits import Amounts, Estimates, Gate, Limits, LimitsSink

        features = _features_of(settings)
        store, url = _store_of(settings, features)
        default = _default_grant_of(settings, features)
        grants = _remote_grants_of(
            settings, store, features, lambda reason: note("unanswered_entitlements", reason, 1)
        )
        self.limits = Limits(
            store,
            source=settings.source,
            features=features,
            default_grant=default,
            grants=grants,
        )
        amounts = Amounts(features, prices=lambda: books.prices, credits=lambda: books.credits)
        self.sink = LimitsSink(
            self.limits,
            url=url,
            amounts=amounts,
            thresholds=settings.balance_thresholds,
            announce=announce,
            note=lambda reason, number: note("unburnt", reason, number),
        )
        self.estimates = Estimates(
            self.limits,
            amounts,
            count=count,
            ceiling=settings.reserved_output_tokens,
            requests_per_minute=settings.requests_per_minute,
            tokens_per_minute=settings.tokens_per_minute,
        )
        self.gate = Gate(
            self.limits,
            self.estimates,
            deadline=settings.limit_deadline,
            on_store_error=settings.on_limit_store_error,
            slices=settings.limit_slices,
            note=lambda reason: note("unchecked_calls", reason, 1),
        )

    def close(self, deadline: float | None = None) -> None:
        """Wait for what is being given back and asked, and let go of threads and connections.

        Args:
            deadline: On the monotonic clock; five seconds from now, if it is left out.
        """
        self.gate.close(deadline)
        if self.limits.grants is not None:
            self.limits.grants.close()


def are_limits_on(settings: Settings) -> bool:
    """Whether balances are kept, by the settings and by what there is in the home."""
    if settings.limits == "auto":
        return settings.enforce or (settings.home / LIMITS_FILE).exists()
    return settings.limits != "off"


def open_limiting(
    settings: Settings,
    books: PriceBooks,
    *,
    count: Callable[[Exchange], Counted],
    announce: Callable[[BalanceNotice], object],
    note: Callable[[str, str, int], object],
) -> Limiting | None:
    """What the settings want of limits; `None` if nothing.

    Raises:
        ConfigurationError: If a setting cannot be used, or they contradict each other.
        MissingExtraError: As `Limiting`.
    """
    if are_limits_on(settings):
        return Limiting(settings, books, count=count, announce=announce, note=note)
    if settings.enforce:
        raise ConfigurationError(
            "enforce", "calls are to be held to balances, and limits is 'off'; switch one of them"
        )
    return None


def quiet_limiting(settings: Settings) -> Limiting:
    """Balances for those who look at them or only deliver, whether limits are on or not.

    Raises:
        ConfigurationError: If a setting cannot be used.
        MissingExtraError: As `Limiting`.
    """
    return Limiting(
        # No thresholds: it is for those to tell of them whose calls pass them.
        replace(settings, balance_thresholds=()),
        PriceBooks(settings),
        count=guess,
        announce=lambda _: None,
        note=lambda *_: None,
    )


def own_sinks(settings: Settings, ledger: Ledger | None = None) -> list[Sink]:
    """The ledger and the balances, as sinks of those who only deliver.

    Args:
        settings: Say which there are.
        ledger: The ledger, if it is open already.

    Raises:
        ConfigurationError: If a setting cannot be used.
        MissingExtraError: As `Limiting`.
    """
    sinks: list[Sink] = []
    ledger = ledger or open_ledger(settings)
    if ledger is not None:
        sinks.append(ledger)
    if are_limits_on(settings):
        sinks.append(quiet_limiting(settings).sink)
    return sinks


def _features_of(settings: Settings) -> dict[str, Feature]:
    from .limits import FEATURES, Feature

    features = dict(FEATURES)
    for each in settings.features:
        try:
            features[each.key] = Feature(
                key=each.key,
                unit=cast("LimitUnit", each.unit),
                currency=each.currency,
                providers=each.providers,
                models=each.models,
            )
        except InvalidArgumentError as error:
            raise ConfigurationError("features", f"{each.key}: {error}") from None
    return features


def _default_grant_of(settings: Settings, features: dict[str, Feature]) -> DefaultGrant | None:
    from .limits import DefaultGrant

    given = settings.default_grant
    if given is None:
        return None
    if given.feature not in features:
        known = ", ".join(features)
        raise ConfigurationError(
            "default_grant", f"a unit is one of {known}, got {given.feature!r}"
        )
    try:
        features[given.feature].parts(given.amount)
    except InvalidArgumentError as error:
        raise ConfigurationError("default_grant", str(error)) from None
    interval = cast("Interval | None", given.interval)
    return DefaultGrant(amount=given.amount, feature=given.feature, interval=interval)


def _remote_grants_of(
    settings: Settings,
    store: LimitStore,
    features: dict[str, Feature],
    note: Callable[[str], object],
) -> RemoteGrants | None:
    if settings.entitlements is None:
        return None
    # Here, not above: most have their grants in the store alone.
    from .limits.openmeter_url import grants_from_url

    try:
        return grants_from_url(
            settings.entitlements,
            store,
            features,
            token=settings.openmeter_token,
            note=note,
        )
    except SinkURLError as error:
        message = str(error).removeprefix("sinks: ")
        raise ConfigurationError("entitlements", message) from None
    except InvalidArgumentError as error:
        raise ConfigurationError("entitlements", str(error)) from None


def _store_of(settings: Settings, features: dict[str, Feature]) -> tuple[LimitStore, str]:
    from .limits import PostgresStore, SQLiteStore

    if "://" in settings.limits:
        return PostgresStore(settings.limits, features), mask_url(settings.limits)
    return SQLiteStore(settings.home / LIMITS_FILE, features), "limits:"
