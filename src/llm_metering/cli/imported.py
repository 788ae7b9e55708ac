"""What `llm-metering import` shows to people, made of the data that `--format json` prints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from rich.console import RenderableType
from rich.text import Text

from .render import UNKNOWN, Listing, amount, plain
from .views import remarks_view

__all__ = ["MOST_SUMS", "imported_view"]

MOST_SUMS: Final = 30
"""Lines of sums that a file has here; JSON has all of them."""

_COUNTS: Final = ("read", "new", "known", "repeated")
_SUMS: Final = {
    "events": "events",
    "input_tokens": "input",
    "output_tokens": "output",
    "total_tokens": "total",
    "calls": "calls",
}


def imported_view(report: Mapping[str, Any]) -> Iterator[RenderableType]:
    """What was read of each file, and what of it is new, by subject and model."""
    if report["files"]:
        yield Listing(
            ("file", "holds"),
            _COUNTS,
            [
                (plain(each["path"]), each["shape"], *(amount(each[name]) for name in _COUNTS))
                for each in report["files"]
            ],
        )
    for file in report["files"]:
        sums = file["sums"]
        if sums:
            yield Text()
            yield Text(f"new of {plain(file['path'])}")
            yield Listing(
                ("subject", "model"),
                tuple(_SUMS.values()),
                [_line(each) for each in sums[:MOST_SUMS]],
            )
    yield from remarks_view(list(_remarks(report)))


def _line(each: Mapping[str, Any]) -> tuple[str, ...]:
    model = UNKNOWN if each["model"] is None else plain(each["model"])
    return (plain(each["subject"]), model, *(amount(each[name]) for name in _SUMS))


def _remarks(report: Mapping[str, Any]) -> Iterator[str]:
    for file in report["files"]:
        name = plain(file["path"])
        if len(file["sums"]) > MOST_SUMS:
            yield f"{name}: {amount(len(file['sums']) - MOST_SUMS)} more lines are in --format json"
        if file["skipped"]:
            yield (
                f"{name}: {amount(file['skipped'])} lines hold no event and were passed over: "
                f"{_places(file['skipped_places'], file['skipped'])}"
            )
        if file["differing"]:
            yield (
                f"{name}: {amount(file['differing'])} events have the source and id of another event "
                "with another content, and were not taken: "
                f"{_places(file['differing_places'], file['differing'])}"
            )
        if file["empty"]:
            yield f"{name}: {amount(file['empty'])} rows count nothing"
        if file["ignored"]:
            yield f"{name}: passed over, as they count nothing: {', '.join(map(plain, file['ignored']))}"
        if file["has_more"]:
            yield f"{name}: its last page says that there are more; import these too"
        if file["shape"] != "cloudevents" and file["new"]:
            yield (
                f"{name}: calls that this library meters too would count twice; "
                "each event is a bucket, so windows smaller than it say nothing"
            )
    usage = [file for file in report["files"] if file["shape"] != "cloudevents"]
    if not report["complete"] and any(file["new"] for file in usage):
        yield (
            "what was recorded is not all in the ledger (`llm-metering status` says why): "
            "calls that come into it later may be in the imported usage as well, and count twice then"
        )
    if report["dry_run"]:
        beside = ", each file compared with the ledger alone" if len(report["files"]) > 1 else ""
        yield f"nothing was written: this is what would be{beside}"


def _places(places: list[int], total: int) -> str:
    more = ", …" if total > len(places) else ""
    return ", ".join(map(str, places)) + more
