"""The command line: `llm-metering`, or `python -m llm_metering`."""

from __future__ import annotations

import io
import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line of this process and exit."""
    # Imported here: the command line brings typer, pydantic and rich, and importing this
    # package to look at a part of it should not.
    from .app import app

    for stream in (sys.stdout, sys.stderr):
        # A subject in letters the terminal's encoding lacks is shown escaped, not a crash.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    app(prog_name="llm-metering")
