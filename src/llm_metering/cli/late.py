"""`llm-metering late`: usage that was reported for calls after their events had been made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
from rich.console import RenderableType
from rich.text import Text

from ..settings import load_settings
from .common import (
    FormatOption,
    HomeOption,
    OutputFormat,
    existing_spool,
    on_disk,
    print_json,
    show,
)
from .render import UNKNOWN, Listing, amount, plain

__all__ = ["late"]


def late(home: HomeOption = None, output: FormatOption = OutputFormat.TABLE) -> None:
    """Show usage that came too late to be in the event of its call."""
    from ..transport.late import late_by_subject, late_calls

    folder = load_settings(home=home).home
    spool = existing_spool(folder)
    subjects: list[dict[str, Any]] = []
    calls: list[dict[str, Any]] = []
    if spool is not None:
        with on_disk(folder):
            subjects = late_by_subject(spool)
            calls = [msgspec.to_builtins(call) for call in late_calls(spool)]
    if output is OutputFormat.JSON:
        print_json({"home": str(folder), "subjects": subjects, "calls": calls})
    else:
        show(_view(subjects, calls))


def _view(
    subjects: Sequence[Mapping[str, Any]], calls: Sequence[Mapping[str, Any]]
) -> Iterator[RenderableType]:
    """Usage that came too late: how much for whom, and for which calls."""
    if not subjects:
        yield Text("No usage came too late")
        return
    counts = ("input_tokens", "output_tokens")
    titles = [name.replace("_", " ") for name in counts]
    yield Listing(
        ("subject",),
        ("calls", *titles),
        [
            (plain(each["subject"]), *(amount(each[what]) for what in ("calls", *counts)))
            for each in subjects
        ],
    )
    if not calls:
        return
    texts = ("time", "id", "run_id", "subject", "model")
    yield Text()
    yield Listing(
        ("time", "id", "run id", "subject", "model"),
        titles,
        [
            (
                *(UNKNOWN if call[what] is None else plain(call[what]) for what in texts),
                *(amount(call[what]) for what in counts),
            )
            for call in calls
        ],
    )
