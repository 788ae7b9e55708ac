"""A process that prices a ledger, and dies at a statement of that.

Its arguments: the ledger's file, `price` or `reprice`, and how many statements SQLite may begin.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from llm_metering.ledger import Ledger, _cost_sums, _files, pricing, repricing
from llm_metering.meters import usage_query

from .pricing import Prices, card

__all__ = ["FIRST", "QUESTIONS", "SECOND"]

FIRST = Prices({"gpt-5-mini": card(), "m": card("m")})
SECOND = Prices({"gpt-5-mini": card(input="6", output="30"), "n": card("n")}, version="2")

QUESTIONS = (
    usage_query("cost_total", group_by="model"),
    usage_query("cost_total", group_by="subject"),
    usage_query("cost_total", group_by=["subject", "model"]),
)
"""Which read each table of sums."""

if __name__ == "__main__":
    path, work, left = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    pricing.AT_ONCE = pricing.CAREFULLY = repricing.AT_ONCE = 10
    _cost_sums.AT_ONCE, _cost_sums.LAG = 7, 0
    opened = _files.open_for_writing

    def open_and_count(path: Path) -> object:
        connection = opened(path)

        def count(_: str) -> None:
            global left
            left -= 1
            if left < 0:
                os._exit(9)

        connection.set_trace_callback(count)
        return connection

    from llm_metering.ledger import _handle

    _handle.open_for_writing = open_and_count  # type: ignore[assignment]
    ledger = Ledger(path)
    if work == "price":
        ledger.price({"cost": FIRST})
    else:
        ledger.reprice(SECOND)
    ledger.query_all(QUESTIONS)
