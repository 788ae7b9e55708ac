"""What an operator does with a home: drain it, retry dead events, forget a debt, replay."""

from __future__ import annotations

from .books import Living, Owed, find_debt, read_books
from .draining import Drained, drain_home
from .forgetting import Forgotten, forget_debt
from .letters import Letter, Letters, read_letters
from .recorded import JournalRecords, LedgerRecords, Records
from .replaying import Replayed, replay
from .retrying import Retried, finish_retries, retry_letters

__all__ = [
    "Drained",
    "Forgotten",
    "JournalRecords",
    "LedgerRecords",
    "Letter",
    "Letters",
    "Living",
    "Owed",
    "Records",
    "Replayed",
    "Retried",
    "drain_home",
    "find_debt",
    "finish_retries",
    "forget_debt",
    "read_books",
    "read_letters",
    "replay",
    "retry_letters",
]
