"""`AuditLog`: who changed what, and who was refused: a line of JSON each, in a file per month.

A line is one `write` to a file opened for appending, so several processes share it, and a rotation by
other tools disturbs nobody. No secret, token or content is in it: whoever calls passes names alone.
"""

from __future__ import annotations

import getpass
import json
import logging
import os
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from .. import system

__all__ = ["REFUSALS_PER_SECOND", "AuditLog", "person"]

logger = logging.getLogger("llm_metering")

FOLDER: Final = "audit"
"""Where the files are, in a home."""

REFUSALS_PER_SECOND: Final = 10
"""Of which each has a line; who knocks faster is counted, so that nobody can fill the disk by it."""

_BURST: Final = 100
_LONGEST: Final = 256


def person() -> str:
    """Who runs this process, as the actor of what it does."""
    try:
        return f"user:{getpass.getuser()}"
    except (OSError, KeyError):  # there is no name for this number, as in a container
        return f"user:{os.getuid()}"


class AuditLog:
    """Writes down what was done to keys, tokens, grants and meters, and what was refused.

    Args:
        home: The home; the folder is made with the first line, for this user only.
        clock: Seconds since 1970.
    """

    def __init__(self, home: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._folder = home / FOLDER
        self._clock = clock
        self._begin()
        system.on_fork(self)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._allowed = float(_BURST)
        self._since = self._clock()
        self._suppressed = 0

    def __repr__(self) -> str:
        return f"<AuditLog {self._folder}>"

    def after_fork(self) -> None:
        """Begin anew in a forked child."""
        self._begin()

    def note(self, action: str, *, actor: str, **facts: object) -> bool:
        """Write down that something was done.

        Args:
            action: What, such as `key.create`.
            actor: Who: `user:<name>`, `key:<id>`, `token:<id>` or `anonymous`.
            **facts: What else is to be known of it; `None` is left out.

        Returns:
            Whether it is written; if not, the log of the process has it.
        """
        now = self._clock()
        line = {
            "time": datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds"),
            "action": action,
            "actor": _short(actor),
            **{name: _plain(fact) for name, fact in facts.items() if fact is not None},
        }
        # In ASCII: no sign of a caller's can begin a line, or colour a terminal.
        text = json.dumps(line, separators=(",", ":")) + "\n"
        try:
            self._append(datetime.fromtimestamp(now, UTC).strftime("%Y-%m.jsonl"), text.encode())
        except OSError as error:
            logger.error("the audit log takes nothing (%s): %s", error.strerror, text.rstrip())  # noqa: TRY400
            return False
        return True

    def refused(self, reason: str, *, actor: str, **facts: object) -> None:
        """Write down that somebody was refused; of very many, that there were so many more.

        Args:
            reason: Why.
            actor: Who, as far as it is known.
            **facts: What else is to be known of it.
        """
        with self._lock:
            now = self._clock()
            elapsed = max(now - self._since, 0.0)
            self._allowed = min(self._allowed + elapsed * REFUSALS_PER_SECOND, float(_BURST))
            self._since = now
            if self._allowed < 1:
                self._suppressed += 1
                return
            self._allowed -= 1
            suppressed, self._suppressed = self._suppressed, 0
        self.note("refused", actor=actor, reason=reason, **facts, not_written=suppressed or None)

    def _append(self, name: str, line: bytes) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        descriptor = os.open(self._folder / name, flags, 0o600)
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)


def _plain(fact: object) -> object:
    if isinstance(fact, bool | int | float):
        return fact
    if isinstance(fact, frozenset | set | list | tuple):
        return [_short(str(each)) for each in sorted(fact)[:20]]
    return _short(str(fact))


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
