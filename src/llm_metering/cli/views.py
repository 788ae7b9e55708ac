"""What each command shows to people, made of the data that `--format json` prints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from ..settings import mask_url
from .render import UNKNOWN, Listing, amount, duration, plain

__all__ = [
    "drained_view",
    "forgotten_view",
    "letters_view",
    "no_usage_found",
    "nothing_recorded",
    "process_names",
    "remarks_view",
    "retried_view",
    "settings_view",
    "status_view",
]

_STATE_STYLES = {"ok": "green", "backoff": "yellow", "paused": "red"}
_OUTCOMES = ("acked", "pending", "dead", "dropped")


def settings_view(rows: Sequence[tuple[str, Any, str]]) -> Listing:
    """The settings, their values and where these come from."""
    lines = [(name, _setting(value), plain(origin)) for name, value, origin in rows]
    return Listing(("setting", "value", "from"), (), lines)


def _setting(value: object) -> str:
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        return "\n".join(map(plain, value)) or "none"
    return plain(str(value))


def status_view(statistics: Mapping[str, Any]) -> Iterator[RenderableType]:
    """The counts of a home and of each of its sinks, and whether these add up."""
    sinks = statistics["sinks"]
    facts = {
        name.replace("_", " "): _fact(statistics[name]) for name in statistics if name != "sinks"
    }
    widest = max(map(len, facts))
    for name, value in facts.items():
        yield Text.assemble((f"{name:<{widest}}", "bold"), f"  {value}")
    names = _names(sinks)
    yield Text()
    yield Listing(
        ("sink", "state"),
        ("recorded", *_OUTCOMES, "oldest"),
        [
            (
                name,
                plain(sink["state"]),
                *(amount(sink[outcome]) for outcome in ("recorded", *_OUTCOMES)),
                _age(sink["oldest_pending_seconds"]),
            )
            for name, sink in zip(names, sinks, strict=True)
        ],
    )
    yield Text()
    for name, sink in zip(names, sinks, strict=True):
        yield from _remarks(name, sink)
    if all(map(_adds_up, sinks)):
        yield Text("recorded = acked + pending + dead + dropped: holds for every sink")


def _fact(value: object) -> str:
    if isinstance(value, Mapping):
        named = (f"{plain(name)} {amount(count)}" for name, count in value.items() if count)
        return ", ".join(named) or "none"
    return amount(value) if isinstance(value, int) else plain(str(value))


def _names(sinks: Sequence[Mapping[str, Any]]) -> list[str]:
    """What to call the sinks; a home may be owed to two of one name, from two configurations."""
    often = Counter(sink["name"] for sink in sinks)
    return [
        plain(
            sink["name"]
            if often[sink["name"]] == 1
            else f"{sink['name']} {mask_url(sink['url'])} {sink['account']}".rstrip()
        )
        for sink in sinks
    ]


def _remarks(name: str, sink: Mapping[str, Any]) -> Iterator[Text]:
    remarks = [plain(sink["reason"])] if sink["reason"] else []
    remarks += [f"{what} {amount(sink[what])}" for what in ("retries", "suspect") if sink[what]]
    if remarks or sink["state"] != "ok":
        state = (plain(sink["state"]), _STATE_STYLES.get(sink["state"], ""))
        yield Text.assemble(f"{name} is ", state, *(f"; {each}" for each in remarks))
    if not _adds_up(sink):
        parts = " + ".join(f"{amount(sink[outcome])} {outcome}" for outcome in _OUTCOMES)
        yield Text(
            f"{name} does not add up: {amount(sink['recorded'])} recorded, but {parts}; "
            "please report this",
            style="bold red",
        )


def _adds_up(sink: Mapping[str, Any]) -> bool:
    counts: list[int] = [sink[outcome] for outcome in _OUTCOMES]
    # A count below 0 is how a double acknowledgement would hide in a sum that fits.
    return sum(counts) == sink["recorded"] and min(counts) >= 0


def _age(seconds: float | None) -> str:
    return UNKNOWN if seconds is None else duration(seconds)


def drained_view(report: Mapping[str, Any]) -> Iterator[RenderableType]:
    """What each sink took and what is left for it, and why."""
    sinks = report["sinks"]
    names = _names(sinks)
    yield Listing(
        ("sink", "state"),
        ("delivered", "pending", "dead"),
        [
            (
                name,
                plain(sink["state"]) if sink["configured"] else "not configured",
                *(amount(sink[what]) for what in ("delivered", "pending", "dead")),
            )
            for name, sink in zip(names, sinks, strict=True)
        ],
    )
    yield Text()
    for name, sink in zip(names, sinks, strict=True):
        living = sum(each["events"] for each in sink["living"])
        if living:
            yield Text(
                f"{name}: {amount(living)} events are left to living processes, which deliver "
                f"them themselves: {process_names(sink['living'])}"
            )
        rest = sink["pending"] - living
        if rest and not sink["configured"]:
            yield Text(
                f"{name}: {amount(rest)} events are owed to a sink that is not configured; "
                "configure it, or give them up with `llm-metering forget`"
            )
        elif rest:
            reason = plain(sink["reason"]) if sink["reason"] else "time was up"
            yield Text(f"{name}: {amount(rest)} events are left: {reason}")
    yield Text("Nothing is left" if report["complete"] else "Something is left; it is kept")


def process_names(living: Sequence[Mapping[str, Any]]) -> str:
    """Processes as a person looks for them."""
    return ", ".join(
        f"process {each['pid']} on {plain(each['host'])} has {amount(each['events'])}"
        for each in living
    )


def forgotten_view(report: Mapping[str, Any]) -> Iterator[RenderableType]:
    """What was given up, and what was not."""
    name = plain(report["name"])
    yield Text(f"{amount(report['forgotten'])} events owed to {name} are given up")
    if report["pending"]:
        hands = process_names(report["living"]) or "another process is delivering them"
        yield Text(f"{amount(report['pending'])} are left: {hands}")


def letters_view(letters: Sequence[Mapping[str, Any]]) -> Iterator[RenderableType]:
    """Dead events, one a line."""
    if not letters:
        yield Text("No event is dead")
        return
    texts = ("sink", "id", "subject", "model", "refused", "reason")
    yield Listing(
        texts,
        ("attempts",),
        [
            (
                plain(letter["sink"]),
                plain(letter["id"]),
                *(
                    UNKNOWN if letter[what] is None else plain(letter[what])
                    for what in ("subject", "model")
                ),
                plain(letter["time"]),
                plain(letter["reason"]),
                amount(letter["attempts"]),
            )
            for letter in letters
        ],
    )


def retried_view(report: Mapping[str, Any]) -> Iterator[RenderableType]:
    """What was put back, and what was not."""
    for sink in report["sinks"]:
        yield Text(
            f"{amount(sink['retried'])} events are pending again for {plain(sink['name'])}; "
            "a process that has this sink delivers them, or `llm-metering drain`"
        )
    if not report["retried"]:
        yield Text("No event was put back")
    if report["still_pending"]:
        yield Text(f"{amount(report['still_pending'])} are pending anyway")
    if report["unknown_sink"]:
        yield Text(f"{amount(report['unknown_sink'])} are of sinks that this home forgot")


def nothing_recorded(home: Path) -> Text:
    """What there is to see of a home before the first call."""
    return Text(f"Nothing recorded yet in {plain(str(home))}")


def no_usage_found() -> Text:
    """The answer to a question that no event fits."""
    return Text("No usage found that fits the question")


def remarks_view(remarks: Sequence[str]) -> Iterator[RenderableType]:
    """Sentences that belong to the numbers above them."""
    if remarks:
        yield Text()
    for remark in remarks:
        yield Text(f"note: {remark}", style="yellow")
