"""`Feature`: what is granted and used up, and in which unit."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Context, Decimal
from typing import Final, Literal, get_args

from ..errors import InvalidArgumentError, PriceError
from ..prices import check_currency

__all__ = ["FEATURES", "Feature", "LimitUnit"]

LimitUnit = Literal["tokens", "credits", "money"]
"""Tokens are those of `total_tokens`. Credits and money are worked out by a price list."""

_PARTS: Final = {"tokens": 0, "credits": 12, "money": 12}
_COARSER: Final = 10**6
_exactly: Final = Context(prec=60)


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """What is granted and used up.

    Amounts are kept as whole numbers of parts: a token, or 1E-12 of a credit or of a currency's unit, so
    that sums are exact. Reservations are of coarser steps, which fit into 64 bits.

    Attributes:
        key: Names it.
        unit: What it is counted in.
        currency: Of money, by its ISO 4217 code; usage that costs another is not counted.
        providers: Counts for it are calls of these providers; all if empty.
        models: The same of models.

    Raises:
        InvalidArgumentError: If it has no key, or there is no such unit.
    """

    key: str
    unit: LimitUnit
    currency: str = "USD"
    providers: tuple[str, ...] = ()
    models: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.key:
            raise InvalidArgumentError("a feature needs a key")
        if self.unit not in get_args(LimitUnit):
            raise InvalidArgumentError(
                f"unit is one of {', '.join(get_args(LimitUnit))}, got {self.unit!r}"
            )
        try:
            check_currency(self.currency)
        except PriceError as error:
            raise InvalidArgumentError(str(error)) from None

    @property
    def shown(self) -> str:
        """The unit, as it is spoken of: `tokens`, `credits`, `USD`."""
        return self.currency if self.unit == "money" else self.unit

    @property
    def step(self) -> int:
        """Parts of the smallest amount that is reserved: a token, or a millionth."""
        return 1 if self.unit == "tokens" else _COARSER

    def parts(self, amount: int | Decimal | str) -> int:
        """An amount in parts.

        >>> FEATURES["money"].parts("0.5"), FEATURES["tokens"].parts(100)
        (500000000000, 100)

        Raises:
            InvalidArgumentError: If it is no finite number from 0, or finer than a part.
        """
        try:
            exact = Decimal(amount) if not isinstance(amount, float) else Decimal(repr(amount))
        except (ArithmeticError, ValueError, TypeError):
            raise InvalidArgumentError(f"an amount is a number, got {amount!r}") from None
        if not exact.is_finite() or exact < 0 or exact.adjusted() > _LARGEST[self.unit]:
            raise InvalidArgumentError(f"an amount is a number from 0, got {amount!r}")
        scaled = exact.scaleb(_PARTS[self.unit])
        if scaled != scaled.to_integral_value():
            finest = Decimal(1).scaleb(-_PARTS[self.unit])
            raise InvalidArgumentError(f"{amount} {self.unit} is finer than {finest:f}")
        return int(scaled)

    def amount(self, parts: int) -> int | Decimal:
        """Parts as an amount in the unit: of tokens a number, else a `Decimal` without zeros at its end.

        >>> FEATURES["tokens"].amount(100), FEATURES["money"].amount(1_500_000_000_000)
        (100, Decimal('1.5'))
        """
        if self.unit == "tokens":
            return parts
        exact = _exactly.scaleb(Decimal(parts), -_PARTS[self.unit])
        whole = exact.to_integral_value()
        return whole if exact == whole else _exactly.normalize(exact)

    def steps_down(self, parts: int) -> int:
        """How many whole steps there are in so many parts."""
        return parts // self.step

    def steps_up(self, parts: int) -> int:
        """How many steps hold so many parts."""
        return -(-parts // self.step)

    def counts(self, provider: str | None, model: str | None) -> bool:
        """Whether calls of a model count for it."""
        return (not self.providers or provider in self.providers) and (
            not self.models or model in self.models
        )


_LARGEST: Final = {"tokens": 15, "credits": 11, "money": 11}
"""Digits behind the first of the largest amount: steps of it fit into 64 bits."""

FEATURES: Final = {unit: Feature(key=unit, unit=unit) for unit in get_args(LimitUnit)}
"""What there is without any of the user's own: each unit, of all calls together."""
