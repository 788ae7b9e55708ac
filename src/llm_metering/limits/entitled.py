"""`Entitled`: what an OpenMeter server says of entitlements, as balances of accounts."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from typing import Final

from .entitlements import EntitlementServer
from .features import Feature
from .mirrors import RemoteBalance
from .stores import AccountKey

__all__ = ["SOFT_FOR", "Entitled"]

SOFT_FOR: Final = 300.0
"""Seconds after which a server is asked again whether a limit is soft, which its values do not say."""

_MOST: Final = 20_000
_LARGEST: Final = Decimal(10**12)
"""As much as nobody uses up; the store keeps its millionths in 64 bits."""

_exactly: Final = Context(prec=60)


class Entitled:
    """Asks a server of entitlements for the balances of accounts; safe in several threads.

    Args:
        server: The server.
        features: What there is to grant, by key.
        names: What OpenMeter calls those that are its own.
    """

    def __init__(
        self, server: EntitlementServer, features: Mapping[str, Feature], names: Mapping[str, str]
    ) -> None:
        self.server = server
        self._features = features
        self._names = names
        self._soft: dict[AccountKey, tuple[float, bool]] = {}

    def balance(self, key: AccountKey, now: float) -> RemoteBalance | None:
        """What an account has by its entitlement; `None` if there is none.

        Args:
            key: Which account.
            now: In seconds of any one clock.

        Raises:
            NoAnswerError: If the server does not say.
        """
        name = self._names[key.feature]
        value = self.server.value(key.subject, name)
        if value is None:
            return None
        if value.balance is None:
            # A feature that is there or not: who has it may use all of it.
            return RemoteBalance(is_soft=value.has_access)
        is_soft = value.has_access
        if is_soft and value.balance > 0:
            # Access says nothing as long as something is left.
            is_soft = self._is_soft(key, name, now)
        feature = self._features[key.feature]
        return RemoteBalance(
            balance=_parts(feature, value.balance, ROUND_FLOOR),
            usage=_parts(feature, value.usage, ROUND_CEILING),
            overage=_parts(feature, value.overage, ROUND_CEILING),
            is_soft=is_soft,
        )

    def _is_soft(self, key: AccountKey, name: str, now: float) -> bool:
        until, is_soft = self._soft.get(key, (now, False))
        if until <= now:
            is_soft = self.server.is_soft(key.subject, name)
            if len(self._soft) >= _MOST:
                # Those that pay often come back; to find the oldest would take longer.
                self._soft.clear()
            self._soft[key] = now + SOFT_FOR, is_soft
        return is_soft


def _parts(feature: Feature, amount: Decimal, rounding: str) -> int:
    """A server's number in parts: it computes with floats, whose ends are finer than those."""
    bounded = min(max(amount, -_LARGEST), _LARGEST)
    scaled = _exactly.multiply(bounded, Decimal(feature.parts(1)))
    return int(scaled.to_integral_value(rounding, _exactly))
