"""`%%metered`: a cell that runs under a subject, with what it used and cost underneath.

Read in IPython 9.18.1, `core/interactiveshell.py` (`run_cell_async`, `run_line_magic`) and
`core/inputtransformer2.py`, and in ipykernel 7.4.0, `ipkernel.py` (`do_execute`). A cell magic of
IPython's own kind is handed the text of its cell and has to run it itself, where no `await` works and
the last value is not shown. So the first line of the cell becomes a line magic that begins, the rest
stays a cell like any other, and an event of the shell ends it.
"""

from __future__ import annotations

import re
import shlex
import threading
from collections.abc import Sequence
from typing import Any, Final

from IPython.core.error import UsageError
from IPython.core.inputtransformer2 import cell_magic
from IPython.core.magic import Magics, line_cell_magic, magics_class
from IPython.core.magic_arguments import argument, magic_arguments
from IPython.display import display

from ..errors import MeteringError
from .budget import Budget
from .cells import MeteredCell

__all__ = ["MeteredMagic", "load_ipython_extension", "unload_ipython_extension"]

_FIRST_LINE: Final = re.compile(r"%%metered(?![\w?])")
_ATTRIBUTE: Final = "_llm_metering_magic"


def begins_metered(lines: list[str]) -> list[str]:
    """An input transformer: `%%metered …` in the first line is a line magic there."""
    if not lines or not _FIRST_LINE.match(lines[0]):
        return lines
    rest = lines[1:]
    blank = next((place for place, line in enumerate(rest) if line.strip()), len(rest))
    # Another cell magic below it goes on being one.
    return [lines[0][1:], *rest[:blank], *cell_magic(rest[blank:])]


@magics_class
class MeteredMagic(Magics):
    """Holds the cell that is being metered."""

    def __init__(self, shell: Any) -> None:
        super().__init__(shell)
        self._cell: MeteredCell | None = None
        self._thread = 0
        self._depth = 0

    @magic_arguments()
    @argument("subject", help="who pays")
    @argument(
        "--budget",
        metavar="AMOUNT",
        help="money that the cell may spend, such as 0.50 or 0.50EUR: once it is spent, calls of "
        "LangChain and LlamaIndex are refused before they are made",
    )
    @argument(
        "--dimension",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="what usage is grouped by besides; may be repeated",
    )
    @line_cell_magic
    def metered(self, line: str, cell: str | None = None) -> Any:
        """Run the cell under a subject, and show underneath what it used and cost.

        Calls of LangChain and LlamaIndex and what `record()` is handed are metered, in all threads
        that these start; `install()` need not be called. Calls that are in flight when the cell ends
        are counted by the meter, and not shown here. As a line, `%metered` holds from there to the
        end of the cell.
        """
        if self._cell is not None:
            raise UsageError("metered: this cell is metered already")
        asked = self.metered.parser.parse_args(_words(line))
        try:
            budget = None if asked.budget is None else Budget(asked.budget)
            begun = MeteredCell(asked.subject, _dimensions(asked.dimension), budget)
        except MeteringError as error:
            raise UsageError(f"metered: {error}") from None
        self._cell, self._thread, self._depth = begun, threading.get_ident(), 1
        if cell is None:
            # Ended by the event of the cell that this line stands in.
            return
        try:
            # It shows what the cell raises.
            assert self.shell is not None
            self.shell.run_cell(cell)
        finally:
            self._end()

    def cell_begins(self) -> None:
        """The shell runs a cell; perhaps one inside of that which is metered."""
        if self._cell is not None and threading.get_ident() == self._thread:
            self._depth += 1

    def cell_ended(self) -> None:
        """The shell has run a cell, however it ended."""
        if self._cell is not None and threading.get_ident() == self._thread:
            self._depth -= 1
            if self._depth == 0:
                self._end()

    def _end(self) -> None:
        cell, self._cell = self._cell, None
        if cell is not None:
            display(cell.end())


def load_ipython_extension(ipython: Any) -> None:
    """`%load_ext llm_metering`: adds `%%metered`."""
    if getattr(ipython, _ATTRIBUTE, None) is not None:
        return
    magic = MeteredMagic(ipython)
    setattr(ipython, _ATTRIBUTE, magic)
    ipython.register_magics(magic)
    ipython.input_transformers_cleanup.append(begins_metered)
    ipython.events.register("pre_execute", magic.cell_begins)
    ipython.events.register("post_execute", magic.cell_ended)


def unload_ipython_extension(ipython: Any) -> None:
    """`%unload_ext llm_metering`: takes it away."""
    magic = getattr(ipython, _ATTRIBUTE, None)
    if magic is None:
        return
    setattr(ipython, _ATTRIBUTE, None)
    ipython.events.unregister("pre_execute", magic.cell_begins)
    ipython.events.unregister("post_execute", magic.cell_ended)
    ipython.input_transformers_cleanup.remove(begins_metered)
    for kind in ("line", "cell"):
        ipython.magics_manager.magics[kind].pop("metered", None)


def _words(line: str) -> list[str]:
    # IPython's own leaves the quotes on.
    try:
        return shlex.split(line)
    except ValueError as error:
        raise UsageError(f"metered: {error} in {line!r}") from None


def _dimensions(given: Sequence[str]) -> dict[str, str]:
    dimensions = {}
    for each in given:
        key, sign, name = each.partition("=")
        if not (key and sign and name):
            raise UsageError(f"metered: a dimension is written KEY=VALUE, got {each!r}")
        dimensions[key] = name
    return dimensions
