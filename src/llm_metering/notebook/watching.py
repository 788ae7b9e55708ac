"""`watch`: usage as a table that is kept up to date, in a notebook or a terminal."""

from __future__ import annotations

import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from html import escape
from typing import TYPE_CHECKING, Any, Final

from ..default_meter import current_meter, get_meter
from ..errors import InvalidArgumentError, MeteringError, QueryError
from ..meters.html import report_html
from ..meters.labels import plain

if TYPE_CHECKING:
    from ..meters import MeterDefinition, UsageReport

__all__ = ["Watch", "watch"]

_LEAST: Final = 0.1
_SHARE: Final = 4
"""How many times as long as a look takes to rest after it."""
_STOPPING: Final = 5.0
"""Seconds that `stop` waits for a look that is under way."""
_CLOSED: Final = "the meter is closed"

_running: Final[weakref.WeakValueDictionary[str, Watch]] = weakref.WeakValueDictionary()
"""The tables of this kernel by what they ask: a cell that is run again begins another."""


def watch(
    meter: str | MeterDefinition = "tokens_total",
    subject: str | Iterable[str] | None = None,
    window: str | None = None,
    start: datetime | str | None = None,
    end: datetime | str | None = None,
    group_by: str | Iterable[str] = ("subject", "model"),
    time_zone: str = "UTC",
    *,
    filters: Mapping[str, str | Iterable[str]] | None = None,
    backend: str | None = None,
    every: float = 2.0,
) -> Watch:
    """Show usage as a table that is kept up to date, by subject and model if nothing else is said.

    In a notebook the table stands below the cell, and a thread brings it up to date until `stop()`,
    or until the kernel ends. In a terminal it holds the terminal until Ctrl-C. A question that is
    asked a second time stops its first table.

    Args:
        meter: As `usage` takes it, and so all others but the last.
        subject: One or several subjects.
        window: One row per window.
        start: First moment that counts.
        end: First moment that no longer counts.
        group_by: What to have a row for.
        time_zone: Where hours, days and months begin.
        filters: Values that an event must have.
        backend: Who answers.
        every: Seconds from one look to the next, from 0.1.

    Raises:
        QueryError: If the question makes no sense.
        InvalidArgumentError: If `every` is no such number, or this is a terminal and not its main
            thread.
    """
    if not isinstance(every, int | float) or not every >= _LEAST:
        raise InvalidArgumentError(f"every is a number of seconds from {_LEAST}, got {every!r}")
    # What can be read but once is read here.
    keys = group_by if isinstance(group_by, str) else tuple(group_by)
    subjects = subject if subject is None or isinstance(subject, str) else tuple(subject)

    def ask() -> UsageReport:
        asked = current_meter()
        if asked is None:
            raise _ClosedError(_CLOSED)
        return asked.usage(
            meter,
            subjects,
            window,
            start,
            end,
            keys,
            time_zone,
            filters=filters,
            backend=backend,
        )

    get_meter()
    watched = Watch(ask, float(every))
    # Here, so that a question that makes no sense is answered where it is asked.
    watched.look()
    shell = _shell()
    if shell is not None and hasattr(shell, "kernel"):
        asked = (meter, subjects, window, start, end, keys, time_zone, filters, backend)
        _start_in_notebook(watched, repr(asked))
    else:
        _run_in_terminal(watched, every)
    return watched


class _ClosedError(MeteringError):
    """There is nothing to ask any more."""


class Watch:
    """A table that is kept up to date; `watch` makes it.

    Attributes:
        report: What was seen last; `None` before there was an answer.
        trouble: Why there is no answer now; `None` while there is one.
        is_running: Whether it looks again.
    """

    def __init__(self, ask: Callable[[], UsageReport], every: float) -> None:
        self._ask = ask
        self._every = every
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._seen_at: datetime | None = None
        self.report: UsageReport | None = None
        self.trouble: str | None = None
        self.is_running = False

    def __repr__(self) -> str:
        state = "running" if self.is_running else "stopped"
        return f"<Watch {state} {self.report!r}>"

    def look(self) -> None:
        """Ask anew; where there is no answer, what was seen before stays.

        Raises:
            QueryError: If the question makes no sense.
        """
        try:
            self.report = self._ask()
        except QueryError:
            raise
        except _ClosedError as error:
            self.trouble = str(error)
            self._over.set()
        except MeteringError as error:
            self.trouble = str(error)
        except Exception as error:
            self.trouble = f"{type(error).__name__}: {error}"
        else:
            self._seen_at, self.trouble = datetime.now(UTC), None

    def stop(self) -> None:
        """Look no more; the table stays as it is."""
        self._over.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(_STOPPING)

    def start(self, show: Callable[[Watch], object]) -> None:
        """Look again and again, on a thread that ends with the process.

        Args:
            show: Shows what was seen.
        """
        self.is_running = not self._over.is_set()
        show(self)
        self._thread = threading.Thread(
            target=self._run, args=(show,), name="llm-metering-watch", daemon=True
        )
        self._thread.start()

    def _run(self, show: Callable[[Watch], object]) -> None:
        wait = self._every
        try:
            while not self._over.wait(wait):
                began = time.monotonic()
                try:
                    self.look()
                except QueryError as error:
                    # A setting changed under it; the question made sense when it was asked.
                    self.trouble = str(error)
                show(self)
                wait = max(self._every, (time.monotonic() - began) * _SHARE)
        finally:
            self.is_running = False
            show(self)

    def _repr_html_(self) -> str:
        table = "" if self.report is None else report_html(self.report)
        return f"<div>{table}<p>{escape(self.status())}</p></div>"

    def status(self) -> str:
        """When this was seen, and whether it is kept up to date."""
        seen = (
            "nothing seen yet" if self._seen_at is None else f"seen at {self._seen_at:%H:%M:%S} UTC"
        )
        how = f"looks every {self._every:g} s; stop() ends it" if self.is_running else "stopped"
        trouble = "" if self.trouble is None else f"; no answer now: {plain(self.trouble)}"
        return f"{seen}, {how}{trouble}"


def _start_in_notebook(watched: Watch, question: str) -> None:
    from IPython.display import display

    before = _running.get(question)
    if before is not None:
        before.stop()
    _running[question] = watched
    handle: Any = display(watched, display_id=True)
    watched.start(handle.update)


def _run_in_terminal(watched: Watch, every: float) -> None:
    if threading.current_thread() is not threading.main_thread():
        raise InvalidArgumentError(
            "in a terminal, watch() is for the main thread, which has Ctrl-C"
        )
    from ..cli.watching.looking import watch as watch_it
    from .terminal import InTerminal

    watch_it(InTerminal(watched), "llm_metering.watch", every=every)


def _shell() -> Any:
    """The IPython that runs this; `None` in any other Python."""
    module = sys.modules.get("IPython")
    return None if module is None else module.get_ipython()
