"""What `llm-metering ingest` shows to people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from rich.console import RenderableType
from rich.text import Text

from .render import UNKNOWN, Listing, amount, plain

if TYPE_CHECKING:
    from ..ingest import Progress

__all__ = ["MOST_OMISSIONS", "books_view", "progress_line", "report_view"]

MOST_OMISSIONS: Final = 1000
"""How many stretches are listed."""

_WHAT = ("new", "repeated", "refused", "lost")


def progress_line(progress: Progress) -> str:
    """How far it is, in one line."""
    taken = progress.taken
    parts = [f"{amount(taken.new)} new events", f"{amount(taken.repeated)} repeated"]
    parts += [
        f"{amount(count)} {what}"
        for what, count in (("refused", taken.refused), ("lost", taken.lost))
        if count
    ]
    if progress.behind is not None:
        parts.append(f"{amount(progress.behind)} to come")
    return ", ".join(parts) + (f"; {plain(progress.trouble)}" if progress.trouble else "")


def report_view(report: Mapping[str, Any]) -> Iterator[RenderableType]:
    """What a run has taken in."""
    rows = [
        (
            str(each["partition"]),
            *(amount(each[what]) for what in (*_WHAT, "next_offset", "lag")),
        )
        for each in report["partitions"]
    ]
    yield Listing(
        ("partition",),
        (*_WHAT, "next offset", "lag"),
        rows,
        total=("all", *(amount(report[what]) for what in _WHAT), "", amount(report["lag"])),
    )
    yield from _remarks(report)


def _remarks(report: Mapping[str, Any]) -> Iterator[Text]:
    if not report["complete"]:
        yield Text("it was stopped before all was in the ledger that the topic had at the start")
    if report["lost"]:
        yield Text(
            f"{amount(report['lost'])} records at most were deleted before they were read",
            style="red",
        )
    if report["anew"]:
        yield Text(
            f"{amount(report['anew'])} partitions were made anew and read again from their "
            "beginning; whether they had more before is not known",
            style="red",
        )
    if report["lost"] or report["anew"] or report["refused"]:
        yield Text("`llm-metering ingest --show` lists what was refused and lost, by offset")


def books_view(report: Mapping[str, Any]) -> Iterator[RenderableType]:
    """What was ever taken in, and what was passed over."""
    if not report["partitions"]:
        yield Text("no topic was ever read into this ledger")
        return
    yield Listing(
        ("topic", "cluster", "partition"),
        (*_WHAT, "next offset"),
        [
            (
                *(plain(each["topic"]), plain(each["cluster"]), str(each["partition"])),
                *(amount(each[what]) for what in (*_WHAT, "next_offset")),
            )
            for each in report["partitions"]
        ],
    )
    if report["omissions"]:
        yield Text()
        yield Listing(
            ("what", "topic", "partition", "offsets", "reason", "seen"),
            ("records",),
            [
                (
                    *(each["kind"], plain(each["topic"]), str(each["partition"])),
                    *(_offsets(each), plain(each["reason"]), each["seen"]),
                    amount(each["records"]),
                )
                for each in report["omissions"]
            ],
        )
    if len(report["omissions"]) >= MOST_OMISSIONS:
        yield Text(f"only the latest {amount(MOST_OMISSIONS)} stretches are listed")


def _offsets(omission: Mapping[str, Any]) -> str:
    first, last = omission["first_offset"], omission["last_offset"]
    if last == first:
        return str(first)
    return f"{first} to {UNKNOWN if last is None else last}"
