"""Where the files of tiktoken's encodings are found without the network, and what is made of them.

Sources: `tiktoken/load.py` of tiktoken 0.14 (file names, the folder it keeps its files in),
`llama_index/core/utils.py` of llama-index-core 0.14 and `litellm/__init__.py` of LiteLLM (each
ships some of the files in a folder of the same form, and points all of the process at it when it
is imported).

A file counts only if its SHA-256 is the one that tiktoken names; no file is ever changed or
removed. The environment is read, never written: tiktoken would otherwise look, and delete, in a
folder that is not its own.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import FunctionType
from typing import Any, Final

from .. import system
from .bpe import read_ranks

__all__ = [
    "Read",
    "definition",
    "file_name",
    "folders",
    "keep",
    "loaded_by_others",
    "local_file",
    "tiktoken_folder",
]

Read = Callable[[str, str], bytes]
"""Reads the file of this address and this SHA-256, or raises `OSError`."""

_PACKAGES: Final = (
    ("llama_index", ("core", "_static", "tiktoken_cache")),
    ("litellm", ("litellm_core_utils", "tokenizers")),
)


def tiktoken_folder() -> Path | None:
    """The folder in which tiktoken itself keeps its files; `None` if it was told to keep none."""
    for name in ("TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR"):
        folder = os.environ.get(name)
        if folder is not None:
            return Path(folder) if folder else None
    return Path(tempfile.gettempdir(), "data-gym-cache")


def folders() -> Iterator[Path]:
    """Where to look, in this order."""
    own = tiktoken_folder()
    if own is not None:
        yield own
    for package, steps in _PACKAGES:
        for location in _locations(package):
            yield Path(location, *steps)


def _locations(package: str) -> list[str]:
    """The folders of a package, of which no line is executed."""
    try:
        spec = find_spec(package)
        return [] if spec is None else list(spec.submodule_search_locations or ())
    except (ImportError, ValueError, AttributeError):
        return []


def file_name(address: str) -> str:
    """What tiktoken names its copy of the file of this address."""
    return hashlib.sha1(address.encode(), usedforsecurity=False).hexdigest()


def local_file(address: str, sha256: str) -> bytes:
    """The file of this address.

    Raises:
        FileNotFoundError: If no folder has it, whole.
    """
    for folder in folders():
        with suppress(OSError):
            data = (folder / file_name(address)).read_bytes()
            if hashlib.sha256(data).hexdigest() == sha256:
                return data
    raise FileNotFoundError(address)


def keep(address: str, data: bytes) -> None:
    """Put a file where tiktoken will find it the next time; quietly not, where that cannot be."""
    folder = tiktoken_folder()
    if folder is None:
        return
    path = folder / file_name(address)
    temporary = folder / f"{path.name}.{uuid.uuid4()}.tmp"
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(data)
            os.link(temporary, path)  # fails where there is one: what is there stays as it is
        finally:
            temporary.unlink(missing_ok=True)


def definition(name: str, read: Read) -> dict[str, Any] | None:
    """The arguments of `tiktoken.Encoding` for this encoding; `None` if tiktoken has none of it.

    Patterns and special tokens stay tiktoken's: its own constructors are called, as copies that
    find our reader where they would find tiktoken's, which loads from the network. Nothing is
    patched for anybody else.

    Raises:
        OSError: If `read` does.
    """
    with system.undisturbed():
        module = importlib.import_module("tiktoken_ext.openai_public")
        importlib.import_module("regex")  # which `Encoding` needs
    constructor = module.ENCODING_CONSTRUCTORS.get(name)
    if constructor is None:
        return None
    originals = vars(module)
    copies = {**originals, "load_tiktoken_bpe": partial(_ranks, read)}
    for key, value in originals.items():
        if isinstance(value, FunctionType) and value.__module__ == module.__name__:
            copies[key] = FunctionType(
                value.__code__, copies, value.__name__, value.__defaults__, value.__closure__
            )
    # `data_gym_to_mergeable_bpe_ranks`, of gpt2 alone, would load too; r50k_base is the same.
    copies["data_gym_to_mergeable_bpe_ranks"] = _refuse
    made: dict[str, Any] = copies[constructor.__name__]()
    return made


def _ranks(read: Read, address: str, expected_hash: str | None = None) -> dict[bytes, int]:
    if expected_hash is None:
        raise OSError("a file without a known hash is not read")
    return read_ranks(read(address, expected_hash))


def _refuse(*_args: object, **_named: object) -> dict[bytes, int]:
    raise OSError("of two files, which are not read")


def loaded_by_others(name: str) -> Any:
    """This encoding, if the application has loaded it with tiktoken already; `None` if not."""
    registry = sys.modules.get("tiktoken.registry")
    return getattr(registry, "ENCODINGS", {}).get(name)
