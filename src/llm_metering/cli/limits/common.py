"""What the commands about balances share."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final

import typer

from ...errors import ConfigurationError
from ...settings import Settings
from ..common import console, existing_spool, on_disk
from ..render import plain

if TYPE_CHECKING:
    from ...limiting import Limiting

__all__ = [
    "LEFT",
    "Unburnt",
    "UnitOption",
    "burn",
    "end",
    "opened",
    "say_what_is_new",
]

LEFT: Final = 3
"""Exit code: what finished processes recorded is not all burnt, so more seems to be left than is."""

_PATIENCE: Final = 10.0
"""Seconds in which what finished processes left should be burnt."""

UnitOption = Annotated[
    str,
    typer.Option(
        "--unit", metavar="UNIT", help="Of what: tokens, credits, money, or a feature of yours."
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unburnt:
    """What was recorded here and no balance shows yet.

    Attributes:
        events: How many events.
        living: How many of them living processes have in hand.
        reason: Why the others were not taken, if it is known.
    """

    events: int = 0
    living: int = 0
    reason: str | None = None

    @property
    def is_late(self) -> bool:
        """Whether some are left that nobody else has in hand."""
        return self.events > self.living

    def remarks(self) -> list[str]:
        """In sentences."""
        said = []
        if self.living:
            said.append(
                f"{self.living:,} events are on their way: living processes burn them themselves"
            )
        if self.is_late:
            why = plain(self.reason) if self.reason else "time was up"
            said.append(
                f"{self.events - self.living:,} events are not burnt, so more seems to be left than "
                f"is: {why}; `llm-metering status` says more"
            )
        return said


@contextlib.contextmanager
def opened(settings: Settings) -> Iterator[Limiting]:
    """The balances of the settings, with nothing made where nobody was granted anything.

    Raises:
        ConfigurationError: If limits are off, or a setting cannot be used.
        MissingExtraError: If they are in PostgreSQL and psycopg is not installed.
    """
    from ...limiting import quiet_limiting

    if settings.limits == "off":
        raise ConfigurationError(
            "limits",
            f"they are off ({settings.origins['limits']}), so nobody has a balance; "
            "set LLM_METERING_LIMITS=on",
        )
    limiting = quiet_limiting(settings)
    try:
        yield limiting
    finally:
        limiting.close()
        limiting.sink.close()


def burn(settings: Settings, limiting: Limiting) -> Unburnt:
    """Have balances take what finished processes left, as `usage` has the ledger; nothing else is sent.

    Raises:
        HomeError: If the home cannot be used.
    """
    from ...limiting import are_limits_on
    from ...opening import retention_of
    from ...transport.operations import drain_home

    # Without a journal there is nothing to take, and to look must not make one.
    if not are_limits_on(settings) or existing_spool(settings.home) is None:
        return Unburnt()
    # What is left is said below the answer.
    logging.getLogger("llm_metering").addHandler(logging.NullHandler())
    with on_disk(settings.home):
        drained = drain_home(
            settings.home,
            source=settings.source,
            sinks=[limiting.sink],
            timeout=_PATIENCE,
            retention=retention_of(settings),
        )[0]
    owed = drained.owed
    return Unburnt(events=owed.pending, living=owed.in_living, reason=drained.reason)


def say_what_is_new(settings: Settings, *, was_on: bool) -> None:
    """Tell, on the standard error, who does not know yet that there are limits here."""
    if not was_on:
        console(stderr=True).print(
            "these are the first limits of this home: processes that run already take part after "
            "their next start, unless they run with LLM_METERING_LIMITS=on"
        )


def end(unburnt: Unburnt) -> None:
    """End the command where its answer lacks something.

    Raises:
        typer.Exit: With `LEFT`.
    """
    if unburnt.is_late:
        raise typer.Exit(LEFT)
