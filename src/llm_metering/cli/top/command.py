"""`llm-metering top`: the largest users of a period."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Annotated

import typer

from ...errors import QueryError
from ...settings import load_settings
from ..common import FormatOption, HomeOption, OutputFormat, print_json, show
from ..usage.answers import answers_from
from ..usage.asking import (
    BackendOption,
    EveryOption,
    FilterOption,
    FromOption,
    HumanOption,
    SubjectOption,
    TimeZoneOption,
    ToOption,
    WatchOption,
    question_of,
)
from ..usage.tables import DEFAULT_METER
from ..views import nothing_recorded
from ..watching.looking import watch as watch_it
from .ranked import WatchedTop, ranking_view
from .ranking import Ranking

__all__ = ["top"]

_DAY = timedelta(days=1)


def top(
    key: Annotated[
        str,
        typer.Argument(
            metavar="[KEY]",
            help="Who is ranked: subject, model, provider, a dimension.",
            show_default=True,
        ),
    ] = "subject",
    meter: Annotated[
        str, typer.Option("--meter", metavar="METER", help="What is counted.")
    ] = DEFAULT_METER,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many to name.")] = 10,
    subject: SubjectOption = None,
    start: FromOption = None,
    end: ToOption = None,
    filters: FilterOption = None,
    time_zone: TimeZoneOption = "UTC",
    backend: BackendOption = None,
    human: HumanOption = False,
    watch: WatchOption = False,
    every: EveryOption = 2.0,
    home: HomeOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Show who used the most, of the last 24 hours if no period is named."""
    settings = load_settings(home=home)
    question = question_of(
        settings.meters, subject=subject, start=start, end=end, filters=filters, time_zone=time_zone
    )
    until = question.end or question.asked_at
    since = question.start or (until - _DAY).replace(second=0, microsecond=0)
    with answers_from(settings, backend) as answers:
        # A question that makes no sense is refused even where there is nobody to ask.
        query = replace(question, start=since).about(meter, (key,))
        ranking = Ranking(
            question=question, start=since, end=until, meter=query.meter.slug, key=key, limit=limit
        )
        if output is OutputFormat.JSON and (watch or human):
            raise QueryError("--format json is for programs; leave out --watch and --human")
        if watch:
            title = f"llm-metering top {key}"
            watch_it(WatchedTop(answers, ranking, human=human), title, every=every)
            return
        answers.take_in(whole=output is OutputFormat.JSON)
        reports = answers.ask(ranking.queries())
        found = ranking.top(reports)
        if output is OutputFormat.JSON:
            print_json(ranking.to_dict(found))
        elif not answers.is_there:
            show([nothing_recorded(settings.home)])
        else:
            remarks = [*ranking.remarks(reports), *answers.remarks()]
            show(ranking_view(ranking, found, remarks, human=human))
