"""`MeteredCell`: a cell that runs under a subject, from its first line to what is shown below it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ..default_meter import current_meter, get_meter
from ..global_handlers import Installed
from ..subjects import watched_subject
from .budget import Budget
from .summary import CellUsage
from .tally import CellTally

__all__ = ["MeteredCell"]

_COUNTING: Final = 10.0
"""Seconds that the end of a cell waits for tokens to be counted."""


class MeteredCell:
    """One run of a cell; it begins here and now.

    Args:
        subject: Who pays.
        dimensions: What usage is grouped by besides.
        budget: What the cell may spend, if that is bounded.

    Raises:
        SubjectError: If the subject or a dimension is not usable.
        PriceError: If a price file is wrong.
        MeteringError: If the default meter cannot be made of the settings there are.
    """

    def __init__(
        self, subject: str, dimensions: Mapping[str, str], budget: Budget | None = None
    ) -> None:
        self._subject = subject
        self._dimensions = dict(dimensions)
        # Those that the ledger prices with: it is to say the same afterwards.
        self._tally = CellTally(get_meter().prices, budget)
        self._scope = watched_subject(subject, self._tally, self._dimensions)
        self._installed = Installed()
        self._scope.__enter__()

    def end(self) -> CellUsage:
        """It is over, however it ended; what it used."""
        self._scope.__exit__(None, None, None)
        self._installed.end()
        tally = self._tally
        meter = current_meter()
        if meter is not None:
            # An error that nothing follows is waited for no longer.
            with meter.guard("notebook"):
                meter.calls.settle_decided()
        tally.wait(_COUNTING)
        events = tally.events
        return CellUsage(
            subject=self._subject,
            dimensions=self._dimensions,
            calls=[(event, tally.cost_of(event)) for event in events],
            in_flight=tally.in_flight,
            refusals=tuple(tally.refusals),
            budget=tally.budget,
        )
