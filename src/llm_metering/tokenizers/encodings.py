"""`Encodings`: tiktoken's encodings, loaded once for the process."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final

from .. import system
from ..handoff import DaemonThread
from . import sources
from .bpe import Encoding
from .text import TextEncoding

__all__ = ["Encodings"]

logger = logging.getLogger("llm_metering")

_ALIKE: Final = {"o200k_harmony": "o200k_base", "p50k_edit": "p50k_base", "gpt2": "r50k_base"}
"""Encodings that differ in their special tokens alone, which text does not become."""


class _Load:
    """One encoding on its way, for which nobody waits longer than until `ends`."""

    def __init__(self, deadline: float) -> None:
        self.ends = time.monotonic() + deadline
        self.done = threading.Event()
        self.encoding: TextEncoding | None = None


class _Shared:
    """What all `Encodings` of the process share: an encoding takes up to 25 MB."""

    def __init__(self, loaded: dict[str, TextEncoding]) -> None:
        self.lock = threading.Lock()
        self.loaded = loaded
        self.loading: dict[tuple[str, bool], _Load] = {}


_shared = _Shared({})


class _FreshLoads:
    """Starts a forked child with what its parent had loaded, and none of its locks or threads."""

    def after_fork(self) -> None:
        global _shared
        _shared = _Shared(dict(_shared.loaded))


_fresh_loads: Final = _FreshLoads()
system.on_fork(_fresh_loads)


def _download(address: str) -> bytes:
    """The file of this address, with tiktoken's own reader."""
    from tiktoken.load import read_file

    return read_file(address)


class Encodings:
    """tiktoken's encodings by name.

    They are looked for, in this order, among those that the application has loaded itself; in the
    folder of `TIKTOKEN_CACHE_DIR`, or the one that tiktoken uses without it; in the folders that
    llama-index-core and LiteLLM bring along; and on the network, if that is allowed.

    Args:
        download: Whether a file that is on this machine nowhere may be loaded from OpenAI's server.
        deadline: Seconds that `get` waits for it, once; what arrives later is there for the next.
        retry_after: Seconds during which an encoding that could not be had is not tried again.
        clock: Tells the seconds of `retry_after`.
        fetch: Loads a file by its address.
    """

    def __init__(
        self,
        *,
        download: bool = False,
        deadline: float = 3.0,
        retry_after: float = 600.0,
        clock: Callable[[], float] = time.monotonic,
        fetch: Callable[[str], bytes] = _download,
    ) -> None:
        self._download = download
        self._deadline = deadline
        self._retry_after = retry_after
        self._clock = clock
        self._fetch = fetch
        self._failed: dict[str, float] = {}

    def get(self, name: str, /) -> TextEncoding | None:
        """The encoding, loaded now if need be; `None` if it cannot be had within the deadline.

        It may block, for a fifth of a second where the file is on this machine: it is for threads
        of ours. What could not be had is refused at once until `retry_after` is over.
        """
        name = _ALIKE.get(name, name)
        shared = _shared
        found = shared.loaded.get(name)
        if found is not None:
            return found
        if self._clock() < self._failed.get(name, 0.0):
            return None
        load, is_ours = self._join(shared, name)
        if is_ours:
            self._start(shared, name, load)
        load.done.wait(max(0.0, load.ends - time.monotonic()))
        if load.encoding is None:
            if not self._failed:
                self._tell(name)
            self._failed[name] = self._clock() + self._retry_after
        return load.encoding

    def _tell(self, name: str) -> None:
        """Say once what the estimates of this process are worth, and how to better them."""
        remedy = (
            "it could not be fetched"
            if self._download
            else "LLM_METERING_TOKENIZER_DOWNLOAD=on allows to fetch it"
        )
        logger.warning(
            "the encoding %s is nowhere on this machine, so calls without usage are estimated from "
            "their length; %s",
            name,
            remedy,
        )

    def preload(self, names: Iterable[str]) -> None:
        """Load these in the background."""
        todo = [name for name in names if _ALIKE.get(name, name) not in _shared.loaded]
        if todo:
            self._in_background(lambda: [self.get(name) for name in todo])

    def _join(self, shared: _Shared, name: str) -> tuple[_Load, bool]:
        """The load of an encoding, and whether it is for us to do."""
        with shared.lock:
            load = shared.loading.get((name, self._download))
            if load is not None:
                return load, False
            load = _Load(self._deadline)
            load.encoding = shared.loaded.get(name)
            if load.encoding is not None:  # finished a moment ago
                load.done.set()
                return load, False
            shared.loading[name, self._download] = load
            return load, True

    def _start(self, shared: _Shared, name: str, load: _Load) -> None:
        """Load from this machine here and now, from the network in the background."""
        goes_on = False
        try:
            if not self._try(shared, name, load, sources.local_file) and self._download:
                goes_on = self._in_background(lambda: self._from_network(shared, name, load))
        finally:
            if not goes_on:
                self._finish(shared, name, load)

    def _from_network(self, shared: _Shared, name: str, load: _Load) -> None:
        self._try(shared, name, load, self._read)
        self._finish(shared, name, load)

    def _read(self, address: str, sha256: str) -> bytes:
        data = self._fetch(address)
        if hashlib.sha256(data).hexdigest() != sha256:
            raise OSError("the file that was loaded is not the one")
        sources.keep(address, data)
        return data

    @staticmethod
    def _try(shared: _Shared, name: str, load: _Load, read: sources.Read) -> bool:
        with suppress(Exception):  # no tiktoken, no file, no memory: then there is no encoding
            load.encoding = _made(name, read)
        if load.encoding is None:
            return False
        shared.loaded[name] = load.encoding
        return True

    def _finish(self, shared: _Shared, name: str, load: _Load) -> None:
        with shared.lock:
            shared.loading.pop((name, self._download), None)
        load.done.set()

    @staticmethod
    def _in_background(work: Callable[[], object]) -> bool:
        # A daemon: tiktoken's reader knows no time-out, and must not keep an interpreter alive.
        thread = DaemonThread(work, name="llm-metering-encodings")
        try:
            thread.start()
        except RuntimeError:  # the interpreter is ending
            return False
        return True


def _made(name: str, read: sources.Read) -> TextEncoding | None:
    found: TextEncoding | None = sources.loaded_by_others(name)
    if found is not None:
        return found
    arguments = sources.definition(name, read)
    if arguments is None:
        return None
    return Encoding(name, pattern=arguments["pat_str"], ranks=arguments["mergeable_ranks"])
