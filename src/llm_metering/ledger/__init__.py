"""The ledger: usage on this machine, in one SQLite file. A sink that can be asked."""

from .billing import Billing, PriceVersion
from .pricing import PricedNow
from .repricing import Change, Repriced
from .store import Ledger

__all__ = ["Billing", "Change", "Ledger", "PriceVersion", "PricedNow", "Repriced"]
