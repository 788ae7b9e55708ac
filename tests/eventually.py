"""What is true in a while: asked again and again, and not for ever."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

__all__ = ["eventually"]

PATIENCE = 60.0

T = TypeVar("T")


def eventually(ask: Callable[[], T], fits: Callable[[T], object]) -> T:
    """The first answer that fits; the last one, which does not, after a minute."""
    deadline = time.monotonic() + PATIENCE
    while True:
        found = ask()
        if fits(found) or time.monotonic() > deadline:
            assert fits(found), found
            return found
        time.sleep(0.05)
