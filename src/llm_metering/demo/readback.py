"""The demo's usage as the ledger has it, whatever else the ledger holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, cast

from ..events import Provenance, Status
from ..meter import Meter
from .counters import ServerCounters
from .result import AbandonedStream, UsageLine

__all__ = ["RUN_DIMENSION", "read_abandoned", "read_lines"]

RUN_DIMENSION: Final = "demo_run"
"""A dimension of every call of the demo; each run has a value of its own."""

_METERS: Final = ("calls_total", "tokens_input", "tokens_output")
_KEYS: Final = ("model", "status", "provenance", "count_method")

_Group = tuple[str, str | None, str | None, str | None, str | None]
"""Subject and the values of `_KEYS`."""


def read_lines(meter: Meter, run: str, subjects: Sequence[str]) -> tuple[UsageLine, ...]:
    """What the completed calls of one run used, by subject and model."""
    lines = [
        UsageLine(
            subject=subject,
            model=model or "unknown",
            calls=values["calls_total"],
            input_tokens=values["tokens_input"],
            output_tokens=values["tokens_output"],
        )
        for (subject, model, status, provenance, _), values in _read(meter, run, subjects).items()
        if (status, provenance) == ("completed", "reported")
    ]
    return tuple(sorted(lines, key=lambda line: (line.subject, line.model)))


def read_abandoned(
    meter: Meter, run: str, subjects: Sequence[str], server: ServerCounters
) -> AbandonedStream | None:
    """The one stream of a run that was left half way; `None` if there is not exactly one.

    Args:
        meter: Has the ledger.
        run: Which run.
        subjects: Who may have paid for it.
        server: What the server counted of it.
    """
    found = [
        AbandonedStream(
            subject=subject,
            status=cast("Status", status),
            provenance=cast("Provenance", provenance),
            count_method=count_method,
            input_tokens=values["tokens_input"],
            output_tokens=values["tokens_output"],
            server=server,
        )
        for (subject, _, status, provenance, count_method), values in _read(
            meter, run, subjects
        ).items()
        if status == "aborted" and values["calls_total"] == 1
    ]
    return found[0] if len(found) == 1 else None


def _read(meter: Meter, run: str, subjects: Sequence[str]) -> Mapping[_Group, dict[str, int]]:
    """The values of the meters we show, for each group of a run's events."""
    groups: dict[_Group, dict[str, int]] = {}
    for name in _METERS:
        report = meter.usage(name, subject=subjects, group_by=[*_KEYS, RUN_DIMENSION])
        for row in report:
            if row.group_by[RUN_DIMENSION] == run:
                model, status, provenance, method = (row.group_by[key] for key in _KEYS)
                group = (row.subject or "", model, status, provenance, method)
                groups.setdefault(group, dict.fromkeys(_METERS, 0))[name] += int(row.value)
    return groups
