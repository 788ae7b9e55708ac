"""The frameworks whose every call is metered, by `install()`.

A model of one framework may be called through another. Who asks the provider counts, and the other
has to know that it does.
"""

from __future__ import annotations

from typing import Final

__all__ = ["ENFORCED", "INSTALLED"]

INSTALLED: Final[set[str]] = set()
"""Their names: `langchain`, `llamaindex`."""

ENFORCED: Final[set[str]] = set()
"""Those whose every call is held to its payer's balance, by `install(enforce=True)`."""
