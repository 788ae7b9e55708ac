"""What a subject may use: grants, and what is left of them."""

from .account import Account, Holding
from .grants import Grant
from .recurrence import Interval, Recurrence

__all__ = ["Account", "Grant", "Holding", "Interval", "Recurrence"]
