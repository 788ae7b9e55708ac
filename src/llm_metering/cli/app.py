"""The commands put together, and how they fail."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from ..errors import MeteringError
from . import (
    bill,
    config,
    dead,
    demo,
    doctor,
    drain,
    export,
    forget,
    importing,
    ingest,
    late,
    meters,
    prune,
    reconcile,
    replay,
    reprice,
    serve,
    status,
    verify,
)
from .keys import keys
from .limits import limits
from .limits.balance import balance
from .limits.grant import grant
from .prices import prices
from .render import plain
from .top.command import top
from .usage.command import usage

__all__ = ["app"]


class _Commands(TyperGroup):
    """Ends every error of ours as one line and exit code 2, as a wrong option does."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except MeteringError as error:
            typer.echo(f"llm-metering: {plain(str(error))}", err=True)
            raise typer.Exit(2) from error


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    # A plain traceback: the pretty one can show local variables, and these hold prompts and keys.
    pretty_exceptions_enable=False,
)
app.command("usage")(usage)
app.command("top")(top)
app.command("bill")(bill.bill)
app.command("status")(status.status)
app.command("doctor")(doctor.doctor)
app.command("drain")(drain.drain)
app.add_typer(dead.dead, name="dead")
app.command("late")(late.late)
app.command("replay")(replay.replay)
app.command("reconcile")(reconcile.reconcile)
app.command("forget")(forget.forget)
app.command("ingest")(ingest.ingest)
app.command("meters")(meters.meters)
app.command("grant")(grant)
app.command("balance")(balance)
app.add_typer(limits, name="limits")
app.add_typer(prices, name="prices")
app.add_typer(keys, name="keys")
app.command("export")(export.export)
app.command("import")(importing.import_files)
app.command("reprice")(reprice.reprice)
app.command("prune")(prune.prune)
app.command("verify")(verify.verify)
app.command("serve")(serve.serve)
app.command("config")(config.config)
app.command("demo")(demo.demo)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"llm-metering {version('llm-metering')}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """See what LLM calls have used, and whether all of it has arrived."""
