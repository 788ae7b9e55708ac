"""What an operator does with a home: drain it, look at dead events and retry them, forget a debt."""

from __future__ import annotations

from .books import Living, Owed, find_debt, read_books
from .draining import Drained, drain_home
from .forgetting import Forgotten, forget_debt
from .letters import Letter, Letters, read_letters
from .retrying import Retried, finish_retries, retry_letters

__all__ = [
    "Drained",
    "Forgotten",
    "Letter",
    "Letters",
    "Living",
    "Owed",
    "Retried",
    "drain_home",
    "find_debt",
    "finish_retries",
    "forget_debt",
    "read_books",
    "read_letters",
    "retry_letters",
]
