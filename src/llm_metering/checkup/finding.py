"""`Finding`: one thing that was looked at, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from ..sinks.asking import UnreachableError

__all__ = ["Finding", "Level", "failure", "ok", "unreachable", "warning", "worst"]

Level = Literal["ok", "warning", "failure"]
"""`failure`: usage is being lost or goes nowhere; `warning`: it may be, or was."""

_LEVELS: Final[tuple[Level, ...]] = ("ok", "warning", "failure")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What was found.

    Attributes:
        check: The name of what was looked at, such as `home.space`; it stays the same.
        level: How bad it is.
        found: What was seen, in one sentence without a full stop; never a secret.
        means: What it means for usage; there unless it is well.
        advice: What to do; there unless it is well.
        sink: The sink it is about.

    Raises:
        ValueError: If something that is not well is not explained.
    """

    check: str
    level: Level
    found: str
    means: str | None = None
    advice: str | None = None
    sink: str | None = None

    def __post_init__(self) -> None:
        if self.level != "ok" and not (self.means and self.advice):
            raise ValueError(f"{self.check}: say what it means and what to do")


def ok(check: str, found: str, *, sink: str | None = None) -> Finding:
    """Something that is well."""
    return Finding(check=check, level="ok", found=found, sink=sink)


def warning(check: str, found: str, *, means: str, advice: str, sink: str | None = None) -> Finding:
    """Something that may lose usage, or did."""
    return Finding(check=check, level="warning", found=found, means=means, advice=advice, sink=sink)


def failure(check: str, found: str, *, means: str, advice: str, sink: str | None = None) -> Finding:
    """Something that loses or stops usage now."""
    return Finding(check=check, level="failure", found=found, means=means, advice=advice, sink=sink)


def unreachable(error: UnreachableError, sink: str) -> Finding:
    """That a sink cannot be reached."""
    return failure(
        "sink.reachable",
        error.found,
        means="nothing is delivered; events wait on disk",
        advice=error.advice,
        sink=sink,
    )


def worst(findings: Iterable[Finding]) -> Level:
    """The worst level of all; `ok` of none.

    >>> worst([ok("home.space", "100 GiB are free")])
    'ok'
    """
    return max((each.level for each in findings), key=_LEVELS.index, default="ok")
