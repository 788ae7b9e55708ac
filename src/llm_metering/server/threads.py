"""`Threads`: work of one kind in threads of its own, so that it keeps no other from being done."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from .problems import Refusal

__all__ = ["Threads"]

T = TypeVar("T")


class Threads:
    """Some threads, and a bound for what waits for one of them.

    Args:
        name: What they are called.
        at_once: How many there are.
        most_waiting: How much may wait.
    """

    def __init__(self, name: str, *, at_once: int, most_waiting: int) -> None:
        self._pool = ThreadPoolExecutor(at_once, thread_name_prefix=f"llm-metering-{name}")
        self._most = at_once + most_waiting
        self._asked = 0

    async def run(self, function: Callable[[], T]) -> T:
        """Have a thread work something out.

        Raises:
            Refusal: If too much waits already (503).
        """
        if self._asked >= self._most:
            raise Refusal(503, "too many requests wait", headers={"Retry-After": "5"})
        self._asked += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, function)
        finally:
            self._asked -= 1

    def close(self) -> None:
        """End the threads, when what is under way is done."""
        self._pool.shutdown()
