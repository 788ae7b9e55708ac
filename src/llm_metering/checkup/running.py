"""Checks side by side, none of which can hold up the others or the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from .finding import Finding, failure

__all__ = ["Task", "run_side_by_side"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Checks that follow each other.

    Attributes:
        name: What they look at, as the first part of their names.
        run: Does them; what it has found before it stalls or fails counts.
        limit: Seconds they may take.
        late: What is to be said if they take longer.
        sink: The sink they are about.
    """

    name: str
    run: Callable[[], Iterable[Finding]]
    limit: float
    late: Finding
    sink: str | None = None


def run_side_by_side(tasks: Sequence[Task]) -> list[Finding]:
    """Run tasks in threads of their own, and wait for none of them longer than it may take.

    Returns:
        What they found, in the order of the tasks.
    """
    begun = [(task, _Run(task)) for task in tasks]
    start = time.monotonic()
    findings: list[Finding] = []
    for task, run in begun:
        run.thread.join(max(start + task.limit - time.monotonic(), 0.0))
        done = not run.thread.is_alive()
        # A copy: a thread that is late may go on adding to it.
        findings += [*run.found, *([] if done else [task.late])]
    return findings


class _Run:
    def __init__(self, task: Task) -> None:
        self.found: list[Finding] = []
        self._task = task
        # A daemon: a resolver or a disk that hangs must not keep the interpreter from ending.
        self.thread = threading.Thread(
            target=self._run, name=f"llm-metering-doctor-{task.name}", daemon=True
        )
        self.thread.start()

    def _run(self) -> None:
        try:
            for finding in self._task.run():
                self.found.append(finding)
        except Exception as error:
            # Its type alone: what an error says may quote an event.
            self.found.append(
                failure(
                    f"{self._task.name}.checked",
                    f"the check broke off with {type(error).__name__}",
                    means="what it would have looked at is not known",
                    advice="please report this, with the version of llm-metering",
                    sink=self._task.sink,
                )
            )
