"""Who pays, carried along with a workflow to where no context variable reaches.

Workflows that run in another task, thread or process take with them what span handlers hand out
(llama-index-instrumentation 0.6.0, `dispatcher.py`, `capture_propagation_context`;
llama-index-workflows 2.26.1, `plugins/basic.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ..errors import MeteringError
from ..subjects import (
    Scope,
    check_subject,
    current_scope,
    enter_scope,
    plain_dimensions,
    ticket_of,
    watcher_of,
)

__all__ = ["capture", "restore"]

_KEY: Final = "llm_metering"


def capture() -> dict[str, Any]:
    """What of `subject()` holds here, as JSON; empty where nothing does."""
    scope = current_scope()
    if scope is None:
        return {}
    kept: dict[str, Any] = {
        "subject": scope.subject,
        "pinned": scope.pinned,
        "dimensions": dict(scope.dimensions),
    }
    if scope.watchers:
        kept["watchers"] = [ticket_of(each) for each in scope.watchers]
    return {_KEY: kept}


def restore(context: Mapping[str, Any]) -> None:
    """From here on in this context, what `capture` has found holds.

    What cannot be a subject is passed over: a context may come from another process.
    """
    kept = context.get(_KEY)
    if not isinstance(kept, Mapping):
        return
    here = current_scope()
    try:
        subject = check_subject(kept.get("subject"))
        dimensions = plain_dimensions(dict(kept.get("dimensions") or {}))
    except MeteringError:
        return
    pinned = kept.get("pinned") is True
    if here is not None and (here.subject, here.pinned, here.dimensions) == (
        subject,
        pinned,
        dimensions,
    ):
        return  # it came here by itself
    # In another process nobody has these tickets.
    tickets = kept.get("watchers")
    found = map(watcher_of, tickets if isinstance(tickets, list) else ())
    watchers = tuple(each for each in found if each is not None)
    enter_scope(Scope(_KEY, None, subject, pinned, dimensions, watchers=watchers))
