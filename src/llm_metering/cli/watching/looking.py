"""Looking again and again, in a terminal or into a file."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Final, Protocol

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from ...errors import MeteringError, QueryError
from ...meters import rfc3339
from ..common import console
from ..render import lines_taken, plain
from .pausing import Pause

__all__ = ["Watched", "watch"]

_SHARE: Final = 4
"""How many times its processor time to rest after a look: all of them take a fifth of a core at most."""


class Watched(Protocol):
    """What is looked at."""

    def look(self) -> None:
        """Ask anew.

        Raises:
            QueryError: If there can be none.
            MeteringError: If there is no answer now.
        """
        ...

    def frame(self, width: int, height: int) -> Iterator[RenderableType]:
        """What was seen, for a window of this size."""
        ...

    def line(self) -> str:
        """What was seen, in a line for a file or a program."""
        ...


def watch(watched: Watched, title: str, *, every: float) -> None:
    """Look until somebody ends it: in a terminal in place, elsewhere a line for each look.

    A terminal gets its own text back at the end, with what was seen last below it.

    Args:
        watched: What to look at.
        title: What to call it.
        every: Seconds from one look to the next.
    """
    out = console()
    with Pause() as pause:
        loop = _Loop(watched, pause, title=title, every=every)
        if not sys.stdout.isatty() or out.is_dumb_terminal:
            loop.run(lambda: typer.echo(loop.line()))
            return
        with Live(console=out, screen=True, auto_refresh=False) as live:

            def draw() -> None:
                live.update(Group(*loop.screen(*out.size)), refresh=True)

            loop.run(draw, resized=draw)
    for part in loop.screen(*out.size, at_end=True):
        out.print(part)


class _Loop:
    def __init__(self, watched: Watched, pause: Pause, *, title: str, every: float) -> None:
        self._watched = watched
        self._pause = pause
        self._title = title
        self._every = every
        self._at = datetime.now(UTC)
        self._has_seen = False
        self._trouble: str | None = None

    def run(self, show: Callable[[], None], resized: Callable[[], None] = lambda: None) -> None:
        while not self._pause.is_over:
            began, worked = time.monotonic(), time.process_time()
            self._look()
            show()
            ended, work = time.monotonic(), time.process_time() - worked
            # As long as it took as well: a server that is slow already is not asked without a pause.
            due = max(began + self._every, ended + max(work * _SHARE, ended - began))
            while not self._pause.wait(due - time.monotonic()):
                resized()

    def _look(self) -> None:
        now = datetime.now(UTC).replace(microsecond=0)
        try:
            self._watched.look()
        except QueryError:
            # The question makes no sense, now or later.
            raise
        except MeteringError as error:
            # It may be locked or just being replaced: what was seen stays, and is said to be old.
            self._trouble = str(error)
        else:
            self._at, self._has_seen, self._trouble = now, True, None

    def line(self) -> str:
        """The last look, for a file or a program."""
        if self._trouble is not None:
            now = datetime.now(UTC).replace(microsecond=0)
            return f"{rfc3339(now)} trouble: {plain(self._trouble)}"
        return f"{rfc3339(self._at)} {self._watched.line()}"

    def screen(self, width: int, height: int, *, at_end: bool = False) -> Iterator[RenderableType]:
        """The last look, for a terminal of this size."""
        seen = f"at {self._at:%H:%M:%S} UTC" if self._has_seen else "nothing seen yet"
        how = "" if at_end else f", every {self._every:g} s; Ctrl-C ends it"
        head = Text(f"{self._title} {seen}{how}", style="dim", no_wrap=True, overflow="ellipsis")
        above = [head]
        if self._trouble is not None:
            old = "; what is below is old" if self._has_seen else ""
            above.append(Text(f"no answer now{old}: {plain(self._trouble)}", style="red"))
        yield from above
        if self._has_seen:
            room = height - lines_taken(above, width) - 1
            yield from self._watched.frame(width, max(room, 1))
