"""What the tests of counting share."""

from __future__ import annotations

import pytest

from llm_metering.tokenizers import Encodings, sources
from llm_metering.tokenizers import encodings as module
from tests.tokenizers.doubles import FILE


@pytest.fixture(scope="session")
def encodings() -> Encodings:
    """The real encodings, from the files that llama-index-core brings along."""
    return Encodings()


@pytest.fixture(scope="session")
def real():
    """The file of an encoding, as llama-index-core brings it along."""
    (folder,) = [f for f in sources.folders() if "llama_index" in f.parts]
    return (folder / FILE).read_bytes()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of tiktoken's, still empty, in a process that has loaded no encoding yet."""
    monkeypatch.setattr(module, "_shared", module._Shared({}))
    monkeypatch.setattr("tiktoken.registry.ENCODINGS", {})
    monkeypatch.setattr(sources, "_PACKAGES", ())
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path / "tiktoken"))
    (tmp_path / "tiktoken").mkdir()
    return tmp_path / "tiktoken"
