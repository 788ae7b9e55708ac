"""What `llm-metering reconcile` shows to people, made of the data that `--format json` prints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from rich.console import RenderableType
from rich.padding import Padding
from rich.text import Text

from .render import Listing, amount, plain
from .views import remarks_view

__all__ = ["reconciled_view"]

_NAMED: Final = 20
"""Events of a kind that are named here; the JSON has more."""

_MEANS: Final[Mapping[str, tuple[str, str]]] = {
    "missing": (
        "delivered, says our journal, and the server does not have it",
        "--resend sends it again under the same id",
    ),
    "claimed": (
        (
            "sent again and taken, and the server still does not have it: it notes an id before it "
            "writes the event (openmeter#5118)"
        ),
        (
            "wait until the claim expires (24 hours, unless configured), then --resend; or remove it "
            "from the server's Redis, then --resend --force; deduplicate in the sink worker instead "
            "(sink.dedupe)"
        ),
    ),
    "doubled": (
        "counted more than once",
        "credit the subject; switch deduplication on (sink.dedupe in the server's configuration)",
    ),
    "invalid": (
        "stored, and a meter cannot read it",
        "look at the meter's property and at the dimension of that name",
    ),
    "different": (
        "the server has another event under this id",
        "somebody else sends under this source, or sent first; look at both",
    ),
    "collided": (
        "several recorded events share this id, and a server that deduplicates has one of them",
        "send events under their own ids: event_id=call",
    ),
    "dead": (
        "given up by this sink",
        (
            "`llm-metering dead list` says why; what is listed all the same needs nothing, the others "
            "`llm-metering dead retry` puts back"
        ),
    ),
    "unsettled": (
        "not listed, and the server may only be behind",
        "reconcile again later, or say with --lag how far it may be behind",
    ),
    "suspect": ("sent without a clear answer", "nothing: the journal offers it again"),
    "waiting": ("not delivered yet", "nothing, or `llm-metering drain`"),
    "not_owed": (
        "recorded when this sink was not there",
        "`llm-metering replay --since … --sink …` sends it",
    ),
    "recovered": ("missing, sent again, and there now", "nothing"),
}
_STYLES: Final = {"well": "green", "unsettled": "yellow", "faults": "bold red"}


def reconciled_view(report: Mapping[str, Any]) -> Iterator[RenderableType]:
    """How far the bill is off, for whom and why; then each kind of finding, and what to do."""
    tokens = report["tokens"]
    yield Text(
        f"{amount(report['records'])} events of {plain(report['source'])} from {report['since']} to "
        f"{report['until']}, against {plain(report['sink']['name'])} ({plain(report['sink']['url'])})"
    )
    yield Text(
        _summary(report), style=_STYLES[report["verdict"]] if report["records"] else "yellow"
    )
    if tokens["by_subject"]:
        yield Text()
        yield Listing(
            ("subject",),
            ("tokens recorded", "the server is off by"),
            [
                (plain(each["subject"]), _shown(each["recorded"]), _signed(each["off"]))
                for each in tokens["by_subject"][:_NAMED]
            ],
            ("total", _shown(tokens["recorded"]), _signed(tokens["off"])),
        )
        if len(tokens["by_subject"]) > _NAMED:
            left = amount(len(tokens["by_subject"]) - _NAMED)
            yield Text(f"  and {left} more subjects, which --format json names")
    for kind, count in report["counts"].items():
        if count:
            yield from _kind_view(kind, count, report)
    if report["resent"]:
        yield Text()
        yield Text(_resent(report["resent"]))
    yield from _meters_view(report["meters"])
    yield from remarks_view(report["notes"])


def _summary(report: Mapping[str, Any]) -> str:
    listed = f"{amount(report['well'])} of {amount(report['events'])} are listed as they were sent"
    if report["verdict"] == "well" and not report["records"]:
        return "nothing was compared"
    if report["verdict"] == "well":
        every = report["well"] == report["events"]
        return f"{listed}; {'all' if every else 'the others'} are accounted for"
    if report["verdict"] == "unsettled":
        return f"{listed}; of {amount(report['counts']['unsettled'])} it is not sure yet"
    if not any(each["is_fault"] for each in report["findings"]):
        return f"{listed}; the totals are not those of this ledger"
    return f"{listed}; the bill is off by {_signed(report['tokens']['off'])} tokens"


def _kind_view(kind: str, count: int, report: Mapping[str, Any]) -> Iterator[RenderableType]:
    found = [each for each in report["findings"] if each["kind"] == kind]
    means, advice = _MEANS[kind]
    yield Text()
    yield Text.assemble((f"{kind}: {amount(count)}", "bold"), f" ({means})")
    yield Padding(Text(f"to do: {advice}"), (0, 0, 0, 2), expand=False)
    # Ids and times are to be read, and copied, in a terminal of 80 columns: a reason that all of
    # them have stands above them once.
    named = found[:_NAMED]
    reasons = {_why(each) for each in named}
    is_shared = len(reasons) == 1
    if is_shared and reasons - {"", means}:
        yield Padding(Text(f"why: {reasons.pop()}"), (0, 0, 0, 2), expand=False)
    yield Listing(
        ("id", "subject", "time") if is_shared else ("id", "subject", "time", "why"),
        ("tokens", "listed", "off by"),
        [
            (
                plain(each["id"]),
                plain(each["subject"]),
                each["time"],
                *(() if is_shared else (_why(each),)),
                _shown(each["tokens"]),
                amount(each["listed"]),
                _signed(each["tokens_off"]),
            )
            for each in named
        ],
    )
    if count > _NAMED:
        yield Text(f"  and {amount(count - _NAMED)} more, which --format json names")


def _why(finding: Mapping[str, Any]) -> str:
    differs = ", ".join(map(plain, finding["differs"]))
    parts = [plain(finding["reason"])] if finding["reason"] else []
    return "; ".join([*parts, f"other {differs}"] if differs else parts)


def _resent(resent: Mapping[str, Any]) -> str:
    text = f"sent again: {amount(resent['taken'])} of {amount(resent['events'])} were taken"
    return f"{text}; {plain(resent['reason'])}" if resent["reason"] else text


def _meters_view(meters: Sequence[Mapping[str, Any]]) -> Iterator[RenderableType]:
    rows = [
        (
            plain(meter["slug"]),
            plain(each["subject"]),
            _shown(each["recorded"]),
            _shown(each["counted"]),
            _signed(each["explained"]),
            _shown(each["others"]),
            _signed(each["unexplained"]),
        )
        for meter in meters
        for each in meter["subjects"]
        if each["counted"] != each["recorded"]
    ]
    # What nobody can explain comes first.
    rows.sort(key=lambda row: row[-1] == "0")
    if meters:
        yield Text()
        compared = ", ".join(plain(meter["slug"]) for meter in meters)
        yield Text(f"totals of {compared}: " + ("" if rows else "as they were recorded"))
    if rows:
        yield Listing(
            ("meter", "subject"),
            ("recorded", "counted", "explained above", "of others", "unexplained"),
            rows[:_NAMED],
        )
    if len(rows) > _NAMED:
        yield Text(f"  and {amount(len(rows) - _NAMED)} more, which --format json names")
    for meter in meters:
        elsewhere = meter["elsewhere"]
        if elsewhere["subjects"]:
            yield Text(
                f"{plain(meter['slug'])} counts {_shown(elsewhere['counted'])} for "
                f"{amount(elsewhere['subjects'])} subjects that nothing was recorded of here"
            )


def _shown(value: int | str | None) -> str:
    return value if isinstance(value, str) else amount(value)


def _signed(value: int | str) -> str:
    if isinstance(value, str):
        return value if value.startswith("-") else f"+{value}"
    return format(value, "+,") if value else "0"
