"""The ledger: usage on this machine, in one SQLite file. A sink that can be asked."""

from .store import Ledger

__all__ = ["Ledger"]
