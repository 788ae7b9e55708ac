"""The write that keeps the interpreter's lock, where that is safe enough."""

from __future__ import annotations

import contextlib
from pathlib import Path

from .. import system
from ..mounts import is_on_local_disk

__all__ = ["LocalHoldingWrite"]


class LocalHoldingWrite:
    """Gets what writes without giving the interpreter's lock up, for a folder on a local disk.

    A local disk may stall as well, and then holds up the whole process for that one write; a
    server that does not answer would do so for minutes.

    Args:
        folder: Where the segments are.

    Attributes:
        write: What writes; `None` until it was got, and where it is not to be had.
        is_untried: Whether nobody has tried to get it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.write: system.HoldingWrite | None = None
        self.is_untried = True

    def __repr__(self) -> str:
        return f"<LocalHoldingWrite untried={self.is_untried} there={self.write is not None}>"

    def get(self) -> None:
        """Try to get it: this reads the table of mounts and may load a library."""
        self.is_untried = False
        if is_on_local_disk(self._folder):
            with contextlib.suppress(OSError, ImportError):
                self.write = system.HoldingWrite()
