"""`Patch`: a method of somebody else's class, with something of ours around it, and back."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Final

__all__ = ["Patch"]

Method = Callable[..., Any]
_IT: Final = "it"


class Patch:
    """Puts a method in the place of another one, once its module is loaded.

    Args:
        module: Where the class is; it is not imported.
        owner: The class.
        name: The method.
        around: Makes our method of theirs.

    Attributes:
        module: Where the class is.
        placed: Theirs and ours, while ours is in place; else empty.
    """

    __slots__ = ("_around", "_name", "_owner", "module", "placed")

    def __init__(
        self, module: str, owner: str, name: str, around: Callable[[Method], Method]
    ) -> None:
        self.module = module
        self._owner = owner
        self._name = name
        self._around = around
        self.placed: dict[str, tuple[type, Method, Method]] = {}

    def __repr__(self) -> str:
        where = f"{self.module}.{self._owner}.{self._name}"
        return f"<Patch {where}{' put' if self.placed else ''}>"

    @property
    def is_put(self) -> bool:
        """Whether it is in place."""
        return bool(self.placed)

    def put(self) -> None:
        """Put it, if the module is loaded and has such a method; idempotent."""
        if self.placed or (module := sys.modules.get(self.module)) is None:
            return
        owner = getattr(module, self._owner, None)
        if not isinstance(owner, type):
            return
        theirs = owner.__dict__.get(self._name)
        if callable(theirs):
            ours = self._around(theirs)
            # Of threads that put it at once, one does.
            if self.placed.setdefault(_IT, (owner, theirs, ours))[2] is ours:
                setattr(owner, self._name, ours)

    def take_out(self) -> None:
        """Take it out; if somebody has put something over ours since, that stays."""
        taken = self.placed.pop(_IT, None)
        if taken is not None:
            owner, theirs, ours = taken
            if owner.__dict__.get(self._name) is ours:
                setattr(owner, self._name, theirs)
