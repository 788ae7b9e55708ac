"""`python -m llm_metering` is the command `llm-metering`."""

from __future__ import annotations

from .cli import main

if __name__ == "__main__":
    main()
