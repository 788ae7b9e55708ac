"""`llm-metering verify`: whether anybody has tampered with the ledger."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.text import Text

from ..errors import ConfigurationError, LedgerError
from ..meters.moments import rfc3339
from ..settings import load_settings
from .common import FormatOption, HomeOption, OutputFormat, exists, print_json, show
from .render import amount, plain
from .views import nothing_recorded

if TYPE_CHECKING:
    from ..ledger import Head, Tampering, Verification

__all__ = ["verify"]

_SAID: Final = {
    "changed": "changed, or what signs it",
    "removed": "removed",
    "inserted": "without a signature: somebody without the key has put it in",
    "body_removed": "without the body, and nobody has pruned that",
    "seal": "changed; it says when signing began, with which key, and what may be pruned",
    "truncated": "cut off: the head names it",
    "replaced": "not what the head names",
    "unsigned": "without a signature: nobody has signed here yet, or somebody has removed all of that",
}


def verify(
    head: Annotated[
        Path | None,
        typer.Option(
            "--head",
            metavar="FILE",
            help="An earlier end of the ledger, kept elsewhere: finds what was cut off since then.",
            show_default=False,
        ),
    ] = None,
    write_head: Annotated[
        Path | None,
        typer.Option(
            "--write-head",
            metavar="FILE",
            help="Write the present end there, if nothing is wrong. Keep it elsewhere.",
            show_default=False,
        ),
    ] = None,
    home: HomeOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Find what somebody has changed in the ledger; exit code 1 if there is anything."""
    settings = load_settings(home=home)
    if not settings.ledger:
        raise LedgerError(f"the ledger is switched off ({settings.origins['ledger']})")
    given = None if head is None else _read_head(head)
    # Imported here, so that `--help` and a mistyped option answer at once.
    from ..ledger import Ledger

    path = settings.home / "ledger.db"
    is_there = exists(settings.home) and path.exists()
    if not is_there and given is None and output is OutputFormat.TABLE:
        show([nothing_recorded(settings.home)])
        return
    found = Ledger(path, keys=settings.ledger_keys).verify(head=given)
    written = None
    if write_head is not None and found.is_intact:
        if found.head is None:
            raise LedgerError("the ledger is not signed, so it has no head; set ledger_keys")
        _write_head(write_head, found.head)
        written = str(write_head)
    report = _report(str(settings.home), found, written)
    if output is OutputFormat.JSON:
        print_json(report)
    else:
        show([Text(line) for line in _lines(found, is_keyed=bool(settings.ledger_keys))])
        if written is not None:
            show([Text(f"the end of the ledger is in {plain(written)}; keep it elsewhere")])
    if not found.is_intact:
        raise typer.Exit(1)


def _read_head(path: Path) -> Head:
    from ..ledger.verification import read_head

    try:
        return read_head(path.read_bytes())
    except OSError as error:
        raise ConfigurationError("--head", f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigurationError("--head", f"{path} holds no head: {error}") from error


def _write_head(path: Path, head: Head) -> None:
    text = json.dumps({**_head_json(head), "time": rfc3339(datetime.now(UTC))}, indent=2) + "\n"
    try:
        path.write_text(text, "utf-8")
    except OSError as error:
        raise ConfigurationError(
            "--write-head", f"cannot write {path}: {error.strerror}"
        ) from error


def _head_json(head: Head) -> dict[str, Any]:
    return {
        "place": head.place,
        "link": head.link,
        "seal": head.seal,
        "seal_mac": head.seal_mac,
        "key_id": head.key_id,
    }


def _report(home: str, found: Verification, written: str | None) -> dict[str, Any]:
    return {
        "home": home,
        "intact": found.is_intact,
        "events": found.events,
        "signed": found.signed,
        "pruned": found.pruned,
        "tampering": [
            {"kind": each.kind, "first": each.first, "last": each.last} for each in found.tampering
        ],
        "more": found.more,
        "wrong_sums": None
        if found.wrong_sums is None
        else [
            {
                "table": each.table,
                "key": _values(each.key),
                "found": _values(each.found),
                "counted": _values(each.counted),
            }
            for each in found.wrong_sums
        ],
        "damage": found.damage,
        "head": None if found.head is None else _head_json(found.head),
        "head_written": written,
    }


def _values(values: tuple[object, ...] | None) -> list[object] | None:
    # Where somebody has put bytes in, JSON has no way to say so.
    if values is None:
        return None
    return [each.hex() if isinstance(each, bytes) else each for each in values]


def _lines(found: Verification, *, is_keyed: bool) -> list[str]:
    lines = [_line(each) for each in found.tampering]
    if found.more:
        lines.append(f"and {amount(found.more)} more")
    if found.damage is not None:
        lines.append(f"the file cannot be read to its end: {found.damage}")
    if found.wrong_sums:
        tables = sorted({each.table for each in found.wrong_sums})
        lines.append(f"sums differ from the events in {', '.join(tables)}")
    if found.wrong_sums is None:
        lines.append("the ledger is of an older schema, and has no sums that could be counted anew")
    if found.is_intact:
        lines.append("nothing was changed" if found.head else "sums are right")
    if found.head is None:
        if not is_keyed:
            lines.append(
                f"the {amount(found.events)} events are not signed, so changes to them cannot be "
                "found; see the setting ledger_keys"
            )
    elif found.damage is None:
        pruned = f", {amount(found.pruned)} of them without a body" if found.pruned else ""
        lines.append(
            f"{amount(found.signed)} of {amount(found.events)} events are as they were signed{pruned}"
        )
    return lines


def _line(each: Tampering) -> str:
    if each.kind == "seal":
        return f"seal {each.first} was {_SAID[each.kind]}"
    is_one = each.first == each.last
    which = (
        f"event {amount(each.first)}"
        if is_one
        else f"events {amount(each.first)} to {amount(each.last)}"
    )
    is_past = each.kind in ("changed", "removed", "truncated")
    verb = ("was" if is_one else "were") if is_past else ("is" if is_one else "are")
    return f"{which} {verb} {_SAID[each.kind]}"
