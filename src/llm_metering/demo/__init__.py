"""`llm-metering demo`: real calls of a real model on this machine, metered and checked.

A model server runs here, LangChain calls it for three subjects, and what the ledger then holds
is set beside what the server itself counted. It needs no key and no network.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Final, Literal

from rich.console import Console

from ..settings import VARIABLES

__all__ = ["DEMO_SOURCE", "run_demo"]

DEMO_SOURCE: Final = "llm-metering-demo"
"""The event source of the demo, which tells its events from those of other applications."""


def run_demo(
    console: Console,
    home: Path | None,
    output: Literal["table", "json"],
    *,
    model: Path | None = None,
) -> int:
    """Run the demo and print what it found.

    Args:
        console: Where the result goes. With `json` that is nothing but one JSON object; the
            progress bar goes to the standard error then.
        home: The home to work in. Without it that of LLM_METERING_HOME, and without that a
            new one in the folder for temporary files, which stays there to be looked at.
        output: For people or for programs.
        model: Another model, in the GGUF format.

    Returns:
        The exit code: 0 if our totals and the server's agree, else 1.

    Raises:
        MeteringError: If something is not installed, cannot be used or fails; it says what.
    """
    # Imported here: LangChain takes seconds to load, and the model server is used without it.
    from ..meter import Meter
    from .model import MODEL_ALIAS, find_demo_model
    from .model_server import ModelServer
    from .report import ProgressBar, show
    from .scenario import run_scenario

    alias = MODEL_ALIAS if model is None else model.stem
    model = model or find_demo_model()
    with (
        ProgressBar(console if output == "table" else Console(stderr=True)) as progress,
        ModelServer(model, alias) as server,
        # No sinks, whatever the environment says: the demo's calls are on nobody's bill.
        Meter(_home(home), (), DEMO_SOURCE, ledger=True) as meter,
    ):
        result = run_scenario(meter, server, progress)
    if output == "json":
        text = json.dumps({"home": str(meter.settings.home), **result.to_dict()}, indent=2)
        console.print(text, markup=False, highlight=False, emoji=False, soft_wrap=True)
    else:
        show(console, result, meter.settings.home)
    return 0 if result.agree else 1


def _home(home: Path | None) -> Path | None:
    """The home to give to the meter; `None` leaves it to the environment."""
    if home is not None or any(variable in os.environ for variable in VARIABLES["home"]):
        return home
    return Path(tempfile.mkdtemp(prefix="llm-metering-demo-"))
