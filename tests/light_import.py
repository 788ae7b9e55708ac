"""Import the package and check that nothing heavy came along and no thread was started.

Run as a script in a fresh interpreter: by a test, and by nox in an environment without extras.
"""

from __future__ import annotations

import sys
import threading

HEAVY = (
    "IPython",
    "altair",
    "httpx",
    "langchain_core",
    "llama_index",
    "numpy",
    "pandas",
    "polars",
    "pyarrow",
    "pydantic",
    "rich",
    "sqlite3",
    "typer",
)


def main() -> None:
    """Exit with a message if the import brought more than it should."""
    import llm_metering  # noqa: F401  # importing it is what is tested

    loaded = [name for name in HEAVY if name in sys.modules]
    if loaded:
        sys.exit(f"import llm_metering imports {', '.join(loaded)}")
    if threading.active_count() != 1:
        sys.exit(f"import llm_metering starts threads: {threading.enumerate()}")


if __name__ == "__main__":
    main()
