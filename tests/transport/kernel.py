"""The kernel as a killed process sees it: calls that break off, files that are closed, a full disk.

While a process of the test runs, what it does to the files of the home goes through here. It may
be killed at any of these calls: before it, in the middle of a write, or right behind it. From then
on nothing it tries has an effect, as little as `finally` and `except` have in a real one.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

_HOOKS = (
    *("open", "close", "dup", "write", "pwrite", "ftruncate", "fsync", "fdatasync"),
    *("mkdir", "rename", "replace", "unlink"),
)
_REAL: dict[str, Callable[..., Any]] = {name: getattr(os, name) for name in _HOOKS}


class Killed(BaseException):
    """What ends the code of a process that is killed."""


@dataclass(frozen=True)
class Doom:
    """A process is killed at its `at`-th call; in the middle of it, that `part` of it is done.

    Attributes:
        of: The calls that count, such as `write .seg`; all, if it is empty.
    """

    at: int
    of: str
    where: Literal["before", "within", "behind"]
    part: float = 0.5


@dataclass(frozen=True)
class Turn:
    """Others have their turn right before the `at`-th call of a process, of those that count."""

    at: int
    of: str
    action: Callable[[], None]


@dataclass
class Running:
    """What the kernel knows of a process.

    Attributes:
        files: Its open files.
        plan: What will happen to it; it lasts until then.
        calls: Its calls that counted for this plan.
        is_dead: Whether it was killed.
    """

    files: set[int] = field(default_factory=set)
    plan: Doom | Turn | None = None
    calls: int = 0
    is_dead: bool = False


class Kernel:
    """Stands between the processes of a test and one home.

    Attributes:
        room: Bytes that the disk still takes; `None` for enough.
        before: What the acknowledgements held before they were last written.
        on_spoiled: Called with the path of an acknowledgement that was not, or torn, written.
    """

    def __init__(self, home: Path, on_spoiled: Callable[[Path], None]) -> None:
        self._home = f"{home}{os.sep}"
        self._runs: list[Running] = []
        self._all: list[Running] = []
        self._paths: dict[int, str] = {}
        self.room: int | None = None
        self.before: dict[Path, bytes] = {}
        self.on_spoiled = on_spoiled

    def begin(self) -> Running:
        """A new process."""
        process = Running()
        self._all.append(process)
        return process

    def kill(self, process: Running) -> None:
        """End a process: its files are closed, and its locks with them."""
        for descriptor in process.files:
            _REAL["close"](descriptor)
        process.files.clear()
        self._all = [each for each in self._all if each is not process]

    def is_running(self, process: Running) -> bool:
        """Whether a process is in the middle of something."""
        return any(each is process for each in self._runs)

    @contextlib.contextmanager
    def running(self, process: Running) -> Iterator[None]:
        """Let a process run."""
        self._runs.append(process)
        if len(self._runs) == 1:
            for name in _HOOKS:
                setattr(os, name, self._hook(name))
        try:
            yield
        finally:
            self._runs.pop()
            if not self._runs:
                for name, real in _REAL.items():
                    setattr(os, name, real)

    def _hook(self, name: str) -> Callable[..., Any]:
        ours, real, thread = getattr(self, f"_{name}"), _REAL[name], threading.get_ident()

        def hook(*arguments: Any, **options: Any) -> Any:
            # What other tests have left to run in their threads is none of ours.
            chosen = ours if threading.get_ident() == thread else real
            return chosen(*arguments, **options)

        return hook

    def _call(
        self,
        name: str,
        action: Callable[[], Any],
        within: Callable[[float], None] | None = None,
    ) -> Any:
        run = self._runs[-1]
        if run.is_dead:
            raise Killed
        if run.plan is None or run.plan.of not in ("", name):
            return action()
        run.calls += 1
        if run.calls != run.plan.at:
            return action()
        if isinstance(run.plan, Turn):
            turn, run.plan = run.plan, None
            turn.action()
            return action()
        if run.plan.where == "behind":
            action()
        elif run.plan.where == "within" and within is not None:
            within(run.plan.part)
        run.is_dead = True
        raise Killed

    def _is_ours(self, path: object) -> bool:
        return isinstance(path, str | Path) and str(path).startswith(self._home)

    def _open(self, path: Any, flags: int, mode: int = 0o777, **options: Any) -> int:
        def action() -> int:
            if is_new and self.room == 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            descriptor: int = _REAL["open"](path, flags, mode, **options)
            for process in self._all:
                process.files.discard(descriptor)
            if not flags & os.O_TRUNC:  # else it is of a file object, which closes it
                self._runs[-1].files.add(descriptor)
            self._paths[descriptor] = str(path)
            return descriptor

        if not self._is_ours(path):
            return int(_REAL["open"](path, flags, mode, **options))
        is_new = bool(flags & os.O_CREAT) and not Path(path).exists()
        return int(self._call("open", action))

    def _close(self, descriptor: int) -> None:
        self._runs[-1].files.discard(descriptor)
        self._paths.pop(descriptor, None)
        _REAL["close"](descriptor)

    def _dup(self, descriptor: int) -> int:
        copy: int = _REAL["dup"](descriptor)
        if descriptor in self._paths:
            self._paths[copy] = self._paths[descriptor]
            self._runs[-1].files.add(copy)
        return copy

    def _write(self, descriptor: int, data: bytes) -> int:
        def action() -> int:
            fits = self._take(len(data), least=1)
            return int(_REAL["write"](descriptor, data[:fits]))

        def within(part: float) -> None:
            _REAL["write"](descriptor, data[: int(part * len(data))])

        if descriptor not in self._paths:
            return int(_REAL["write"](descriptor, data))
        return int(self._call(f"write {Path(self._paths[descriptor]).suffix}", action, within))

    def _pwrite(self, descriptor: int, data: bytes, offset: int) -> int:
        def action() -> int:
            grows = max(offset + len(data) - os.fstat(descriptor).st_size, 0)
            try:
                self._take(grows, least=grows)
            except OSError:
                self.on_spoiled(path)
                raise
            self.before[path] = path.read_bytes() if path.exists() else b""
            return int(_REAL["pwrite"](descriptor, data, offset))

        def within(part: float) -> None:
            self.on_spoiled(path)
            _REAL["pwrite"](descriptor, data[: int(part * len(data))], offset)

        path = Path(self._paths[descriptor])
        return int(self._call(f"pwrite {path.suffix}", action, within))

    def _fsync(self, descriptor: int) -> None:
        def action() -> None:
            size = os.fstat(descriptor).st_size
            self._take(size, least=size)

        def within(part: float) -> None:
            _REAL["ftruncate"](descriptor, int(part * os.fstat(descriptor).st_size))

        # Power stays on here. Of what a file object writes this is the first that is seen.
        if self._paths.get(descriptor, "").endswith(".tmp"):
            self._call("fsync", action, within)

    def _fdatasync(self, descriptor: int) -> None:
        pass

    def _ftruncate(self, descriptor: int, size: int) -> None:
        self._call("ftruncate", lambda: _REAL["ftruncate"](descriptor, size))

    def _mkdir(self, path: Any, mode: int = 0o777, **options: Any) -> None:
        if self._is_ours(path) and not Path(path).exists():
            self._call("mkdir", lambda: _REAL["mkdir"](path, mode, **options))
        else:
            _REAL["mkdir"](path, mode, **options)

    def _rename(self, source: Any, target: Any) -> None:
        self._call(f"rename {Path(source).suffix}", lambda: _REAL["rename"](source, target))

    def _replace(self, source: Any, target: Any) -> None:
        self._call(f"replace {Path(target).suffix}", lambda: _REAL["replace"](source, target))

    def _unlink(self, path: Any) -> None:
        self._call(f"unlink {Path(path).suffix}", lambda: _REAL["unlink"](path))

    def _take(self, size: int, *, least: int) -> int:
        """How much of so many bytes there is room for."""
        if self.room is None:
            return size
        fits = min(size, self.room)
        if fits < least:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.room -= fits
        return fits
