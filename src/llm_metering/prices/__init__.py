"""What tokens cost: prices by model, token kind and time, and the cost of an event.

Money is `Decimal`. What has no price is `Unpriced`, which is not 0.
"""

from .cards import CREDITS, PriceCard
from .charges import Charge
from .costing import Cost, cost_of, costed
from .currencies import MINOR_UNITS, check_currency
from .kinds import TOKEN_KINDS
from .lists import Chain, ModelPrices, PriceList
from .quantities import Counted, quantities_of
from .unpriced import Reason, Unpriced

__all__ = [
    "CREDITS",
    "MINOR_UNITS",
    "TOKEN_KINDS",
    "Chain",
    "Charge",
    "Cost",
    "Counted",
    "ModelPrices",
    "PriceCard",
    "PriceList",
    "Reason",
    "Unpriced",
    "check_currency",
    "cost_of",
    "costed",
    "quantities_of",
]
