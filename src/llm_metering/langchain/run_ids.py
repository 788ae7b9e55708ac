"""Run ids of LangChain, as keys of the call table."""

from __future__ import annotations

from uuid import UUID

from ..calls import Key

__all__ = ["key_of"]


def key_of(run_id: UUID | str) -> Key:
    """What the table knows a run by; the same for all hooks of it.

    Its number: to write an id out takes half a microsecond, and to hash one as long, since both are
    Python's own code (CPython 3.11, `uuid.py`), for each chunk of a stream as well.
    """
    # A user may give a run any id, whatever the annotations say.
    return run_id.int if type(run_id) is UUID else str(run_id)
