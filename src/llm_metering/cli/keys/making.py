"""`llm-metering keys create` and `rotate`: a new key, whose text is shown once."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ...errors import QueryError
from ...settings import load_settings
from ..common import FormatOption, HomeOption, OutputFormat, print_json, show
from ..periods import moment_of
from ..render import plain
from .views import bounds, key_json

if TYPE_CHECKING:
    from ...access import ApiKey

__all__ = ["create", "rotate"]

_SPAN: Final = re.compile(r"([0-9]{1,6})([dhm])")
_UNITS: Final = {"d": "days", "h": "hours", "m": "minutes"}


class ScopeName(StrEnum):
    """What a key may do."""

    INGEST = "ingest"
    READ = "read"
    ADMIN = "admin"


def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is for.")],
    scope: Annotated[
        list[ScopeName],
        typer.Option(
            "--scope",
            help="What it may do: send usage and reserve for calls, read usage and balances, or "
            "everything. Can be given several times.",
        ),
    ],
    source: Annotated[
        list[str] | None,
        typer.Option(
            "--source",
            metavar="SOURCE",
            help="Only events of this CloudEvents source; can be given several times.",
            show_default=False,
        ),
    ] = None,
    subject: Annotated[
        list[str] | None,
        typer.Option(
            "--subject",
            metavar="SUBJECT",
            help="Only usage of this subject; can be given several times.",
            show_default=False,
        ),
    ] = None,
    signed_subjects: Annotated[
        bool,
        typer.Option(
            "--signed-subjects",
            help="It names who pays by a signed token alone, so that it cannot make a subject up.",
        ),
    ] = False,
    rate: Annotated[
        int | None,
        typer.Option(
            "--rate",
            metavar="NUMBER",
            help="Requests a minute; as the server says by default.",
            show_default=False,
        ),
    ] = None,
    expires: Annotated[
        str | None,
        typer.Option(
            "--expires",
            metavar="TIME",
            help="When it ends: in 90d or 12h, a day, or ISO 8601 with offset; never by default.",
            show_default=False,
        ),
    ] = None,
    home: HomeOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Make an API key, and show it this once: its secret is kept nowhere."""
    settings = load_settings(home=home)
    now = datetime.now(UTC)
    from ...access import ApiKeys, AuditLog
    from ...access.audit import person

    key, text = ApiKeys(settings.home).create(
        name,
        [each.value for each in scope],
        sources=source,
        subjects=subject,
        signed_subjects=signed_subjects,
        requests_per_minute=rate,
        expires_at=_end("--expires", expires, now),
    )
    AuditLog(settings.home).note(
        "key.create",
        actor=person(),
        key=key.id,
        scopes=key.scopes,
        sources=key.sources,
        subjects=key.subjects,
        signed_subjects=key.signed_subjects or None,
    )
    _show(key, text, now, output)


def rotate(
    id: Annotated[str, typer.Argument(metavar="KEY", help="The id of the key to replace.")],
    overlap: Annotated[
        str,
        typer.Option(
            "--overlap",
            metavar="SPAN",
            help="How long the old one holds beside it: such as 30m, 24h or 7d.",
        ),
    ] = "0m",
    home: HomeOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Make a key in the place of another, with the same rights, and show it this once."""
    settings = load_settings(home=home)
    now = datetime.now(UTC)
    from ...access import ApiKeys, AuditLog
    from ...access.audit import person

    key, text = ApiKeys(settings.home).rotate(id, overlap=_span("--overlap", overlap))
    AuditLog(settings.home).note(
        "key.rotate", actor=person(), key=id, successor=key.id, overlap=overlap
    )
    _show(key, text, now, output)


def _show(key: ApiKey, text: str, now: datetime, output: OutputFormat) -> None:
    shown: dict[str, Any] = {**key_json(key, now), "key": text}
    if output is OutputFormat.JSON:
        print_json(shown)
        return
    may = ", ".join(sorted(key.scopes))
    show(
        [
            text,
            "",
            f"This is {plain(key.name)} ({key.id}): {may}; for {bounds(key)}.",
            "Keep it now: nobody can show it again.",
        ]
    )


def _end(option: str, text: str | None, now: datetime) -> datetime | None:
    if text is not None and _SPAN.fullmatch(text):
        return now.replace(microsecond=0) + _span(option, text)
    return moment_of(option, text, UTC, now)


def _span(option: str, text: str) -> timedelta:
    found = _SPAN.fullmatch(text)
    if found is None:
        raise QueryError(f"{option} {text!r} is no span; write 30m, 24h or 7d")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})
