"""The pages that `llm-metering serve` has for operators and for their customers.

Rendered here, with Jinja; they work without JavaScript. Who may see which, the gate and the callers of the API
decide, as they do for programs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from fastapi import FastAPI

from ..desk import Desk
from . import assets, balances, costs, customers, delivery, events, overview, portal, signing_in
from .inside import Statistics
from .pages import Pages

__all__ = ["add_dashboard"]

_ROUTES: Final = (
    *(assets, signing_in, overview, costs, balances, events, delivery, customers),
    portal,
)


def add_dashboard(app: FastAPI, desk: Desk) -> Callable[[], None]:
    """Give a server its pages.

    Args:
        app: The server.
        desk: What its routes work with.

    Returns:
        What ends that again.
    """
    pages = Pages()
    app.state.pages = pages
    app.state.statistics = Statistics(desk)
    app.state.refusing = pages.refused
    for each in _ROUTES:
        app.include_router(each.router)
    return pages.drawing.close
