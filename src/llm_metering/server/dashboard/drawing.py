"""`Drawing`: charts as SVG, drawn by a process of their own.

What draws them keeps the interpreter to itself for as long as it takes (vl-convert 1.9: some 60 ms for a chart,
0.8 s for the first), and events that come in meanwhile would wait for it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import multiprocessing
import os
import signal
from collections import OrderedDict
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Final

from ...handoff import DaemonThread

__all__ = ["Drawing"]

logger = logging.getLogger("llm_metering")

PATIENCE: Final = 20.0
"""Seconds for a chart; then the page does without."""

_MOST_WAITING: Final = 32
_MOST_KEPT: Final = 128


class Drawing:
    """Draws charts, and keeps the last ones: most pages are asked for again with the same numbers."""

    def __init__(self) -> None:
        self._pool: ProcessPoolExecutor | None = None
        self._kept: OrderedDict[bytes, str] = OrderedDict()
        self._waiting = 0

    def __repr__(self) -> str:
        return f"<Drawing {len(self._kept)} kept>"

    async def svg(
        self, spec: Mapping[str, Any], version: str, numbers: dict[str, Any]
    ) -> str | None:
        """A chart as SVG; `None` if it could not be drawn, which is logged.

        Args:
            spec: The chart as Vega-Lite.
            version: Of Vega-Lite.
            numbers: How numbers on its axes are written, as a locale of d3-format.
        """
        written = json.dumps(spec, sort_keys=True)
        key = hashlib.sha256(f"{version}\n{numbers}\n{written}".encode()).digest()
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        if self._waiting >= _MOST_WAITING:
            return None
        self._waiting += 1
        try:
            drawn = await asyncio.wait_for(self._draw(written, version, numbers), PATIENCE)
        except Exception as error:
            # Not its message, which may quote what is drawn.
            logger.error("a chart could not be drawn: %s", type(error).__name__)  # noqa: TRY400
            return None
        finally:
            self._waiting -= 1
        self._kept[key] = drawn
        if len(self._kept) > _MOST_KEPT:
            self._kept.popitem(last=False)
        return drawn

    def close(self) -> None:
        """End the process."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    async def _draw(self, written: str, version: str, numbers: dict[str, Any]) -> str:
        for is_last in (False, True):
            pool = self._pool
            if pool is None:
                pool = self._pool = ProcessPoolExecutor(
                    1,
                    # A fork would take the threads' locks along.
                    mp_context=multiprocessing.get_context("spawn"),
                    initializer=_end_with_parent,
                )
            try:
                loop = asyncio.get_running_loop()
                return await loop.run_in_executor(pool, draw, written, version, numbers)
            except BrokenProcessPool:
                # Somebody, or the kernel for want of memory, has killed it.
                if self._pool is pool:
                    self._pool = None
                if is_last:
                    raise
        raise AssertionError


def draw(written: str, version: str, numbers: dict[str, Any]) -> str:
    """A chart as SVG; in the process that draws."""
    import vl_convert

    svg: str = vl_convert.vegalite_to_svg(
        written,
        vl_version=version,
        format_locale=numbers,
        # It loads nothing from anywhere.
        allowed_base_urls=[],
        show_warnings=False,
    )
    return svg


def _end_with_parent() -> None:
    """Have the process stop when the server is gone, however that ended; and not by Ctrl-C before it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGKILL)

    DaemonThread(wait, name="llm-metering-parent").start()
