"""`llm-metering usage`: who used how much."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, get_args

import typer
from rich.console import RenderableType

from ...errors import QueryError
from ...meters import UsageQuery, Window
from ...settings import load_settings
from ..common import HomeOption, print_json, show
from ..views import no_usage_found, nothing_recorded, remarks_view
from ..watching.looking import watch as watch_it
from .answers import Answers, answers_from
from .asking import (
    BackendOption,
    EveryOption,
    FilterOption,
    FromOption,
    HumanOption,
    Question,
    SubjectOption,
    TimeZoneOption,
    ToOption,
    WatchOption,
    question_of,
)
from .overtime import OverTime
from .tables import COLUMNS, COST, DEFAULT_METER, UsageTable
from .watched import WatchedUsage

__all__ = ["usage", "usage_table"]

_KEYS = ("subject", "model")


class UsageFormat(StrEnum):
    """What `--format` offers."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


def usage(
    meter: Annotated[
        str | None,
        typer.Option(
            "--meter",
            metavar="METER",
            help="Show this meter alone, such as tokens_total; JSON and CSV show tokens_total by "
            "default.",
            show_default=False,
        ),
    ] = None,
    subject: SubjectOption = None,
    window: Annotated[
        str | None,
        typer.Option(
            "--window",
            metavar="SIZE",
            help="One row per MINUTE, HOUR, DAY or MONTH.",
            show_default=False,
        ),
    ] = None,
    start: FromOption = None,
    end: ToOption = None,
    group_by: Annotated[
        list[str] | None,
        typer.Option(
            "--group-by",
            metavar="KEY",
            help="One row per value of this key: subject, model, provider, provenance, status, "
            "a dimension; may be repeated. The table has subject and model by default.",
            show_default=False,
        ),
    ] = None,
    filters: FilterOption = None,
    time_zone: TimeZoneOption = "UTC",
    backend: BackendOption = None,
    sparkline: Annotated[
        bool,
        typer.Option(
            "--sparkline", help="One line per group, with a bar per window.", show_default=False
        ),
    ] = False,
    human: HumanOption = False,
    watch: WatchOption = False,
    every: EveryOption = 2.0,
    home: HomeOption = None,
    output: Annotated[
        UsageFormat, typer.Option("--format", help="For people, or for programs.")
    ] = UsageFormat.TABLE,
) -> None:
    """Show the tokens and calls of each subject."""
    settings = load_settings(home=home)
    question = question_of(
        settings.meters, subject=subject, start=start, end=end, filters=filters, time_zone=time_zone
    )
    with answers_from(settings, backend) as answers:
        # A question that makes no sense is refused even where there is nobody to ask.
        query = question.about(meter or DEFAULT_METER, group_by or (), window=_window(window))
        if sparkline and query.window is None:
            raise QueryError("--sparkline shows usage over time; say --window hour, day or month")
        if output is not UsageFormat.TABLE:
            if watch or sparkline or human:
                raise QueryError(
                    f"--format {output} is for programs; leave out --watch, --sparkline and --human"
                )
            report = answers.report(query)
            if output is UsageFormat.JSON:
                print_json(report.to_dict())
            else:
                typer.echo(report.to_csv(), nl=False)
            return
        look = _look(
            question, query, meter, sparkline=sparkline, human=human, money=answers.currency
        )
        if watch:
            watch_it(WatchedUsage(answers, look, settings.home), "llm-metering usage", every=every)
        else:
            answers.take_in()
            show(usage_table(answers, look, settings.home))


def _window(text: str | None) -> str | None:
    """A window in any case; what is none stays as it was written, for the error to name."""
    known = text.upper() if text else None
    return known if known in get_args(Window) else text


def _look(
    question: Question,
    query: UsageQuery,
    meter: str | None,
    *,
    sparkline: bool,
    human: bool,
    money: str | None,
) -> UsageTable | OverTime:
    keys = query.group_by or (_KEYS[:1] if sparkline else _KEYS)
    if question.subjects:
        # The rows tell chosen subjects apart, so the table has to as well.
        keys = tuple(dict.fromkeys(("subject", *keys)))
    if sparkline and query.window is not None:
        return OverTime(
            question=question,
            meter=query.meter.slug,
            title=meter or COLUMNS[DEFAULT_METER],
            keys=keys,
            window=query.window,
            human=human,
        )
    return UsageTable(
        question=question,
        columns=(
            {meter: meter}
            if meter is not None
            else {**COLUMNS, COST: f"cost {money}"}
            if money is not None
            else COLUMNS
        ),
        keys=keys,
        window=query.window,
        human=human,
    )


def usage_table(
    answers: Answers, look: UsageTable | OverTime, home: Path
) -> Iterable[RenderableType]:
    """Ask for all that the table shows.

    Args:
        answers: Whom to ask.
        look: What to ask, and how to show it.
        home: Where usage is recorded.
    """
    reports = answers.ask(look.queries(), main=look.main_place)
    lines = look.lines(reports)
    remarks = [*look.remarks(reports, lines), *answers.remarks()]
    if lines:
        return look.view(reports, lines, remarks)
    if remarks or look.question.is_narrow or look.main != DEFAULT_METER:
        return [no_usage_found(), *remarks_view(remarks)]
    return [nothing_recorded(home)]
