"""The metadata of the run around a run.

Read in langchain-core 1.7.2, `langchain_core/runnables/config.py` (`ensure_config`): a run that is
given callbacks and metadata of its own, inside another, has these *in place of* the other's, so that
what the other's metadata said is not in what a handler is told. LangChain keeps the other's
configuration at hand, in the context variable that `ensure_config` reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_core.runnables.config import var_child_runnable_config

__all__ = ["enclosing_metadata"]


def enclosing_metadata() -> Mapping[str, Any] | None:
    """What the run around this one passes on to the runs in it, if there is one."""
    config = var_child_runnable_config.get()
    if config is None:
        return None
    # The manager has what came down from all levels, the configuration that of the last one only.
    inherited = getattr(config.get("callbacks"), "inheritable_metadata", None)
    own = config.get("metadata")
    return {**inherited, **own} if inherited and own else inherited or own
