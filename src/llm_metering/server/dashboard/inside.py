"""What an operator's pages are told of the home: who asks, which meters there are, how events fare."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Annotated, Any, Final

from fastapi import Depends, Request
from starlette.concurrency import run_in_threadpool

from ..desk import Desk
from .pages import Pages

__all__ = ["InsidePages", "Statistics", "TheStatistics", "pages_of"]

KEPT_FOR: Final = 2.0
"""Seconds for which what was counted is shown again: it is read from the files of the journal."""

_SHARE: Final = 10
"""So many times as long as it took to count: a large backlog is not counted again all the time."""


class Statistics:
    """How the events of a home fare, as `llm-metering status` says it.

    Args:
        desk: Of the home.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._found: Mapping[str, Any] | None = None
        self._until = 0.0
        self._turn = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<Statistics of {self._desk.meter!r}>"

    async def now(self) -> Mapping[str, Any]:
        """What there is to say: two seconds old at most, or older where it takes long to count."""
        async with self._turn:
            if self._found is None or time.monotonic() >= self._until:
                begun = time.monotonic()
                self._found = await run_in_threadpool(self._desk.meter.statistics)
                now = time.monotonic()
                self._until = now + max(KEPT_FOR, _SHARE * (now - begun))
            return self._found

    def forget(self) -> None:
        """Something was changed: look again."""
        self._until = 0.0


async def pages_of(request: Request) -> Pages:
    """The pages of the application that was asked."""
    pages: Pages = request.app.state.pages
    return pages


async def _statistics_of(request: Request) -> Statistics:
    statistics: Statistics = request.app.state.statistics
    return statistics


InsidePages = Annotated[Pages, Depends(pages_of)]
TheStatistics = Annotated[Statistics, Depends(_statistics_of)]
