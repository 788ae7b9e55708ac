"""Where encodings come from, and that nobody waits for them who must not."""

import hashlib
import importlib
import os
import sys
import threading
from pathlib import Path

import pytest
import tiktoken
import tiktoken_ext.openai_public

from llm_metering.tokenizers import Encodings, sources
from llm_metering.tokenizers import encodings as module
from tests.forking import in_child
from tests.tokenizers.doubles import ADDRESS, FILE, NAME, Clock, Server


def hollow_package(site, name, *steps):
    """A package that must not be imported, with a folder in it."""
    folder = site.joinpath(name, *steps)
    folder.mkdir(parents=True)
    (site / name / "__init__.py").write_text("raise AssertionError('imported')")
    return folder


def test_the_order_in_which_folders_are_searched(tmp_path, monkeypatch):
    """tiktoken's own folder, llama-index-core's, LiteLLM's; and neither package is imported."""
    llama = hollow_package(tmp_path, "llama_index", "core", "_static", "tiktoken_cache")
    lite = hollow_package(tmp_path, "litellm", "litellm_core_utils", "tokenizers")
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path / "own"))
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("llama_index", "litellm"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    importlib.invalidate_caches()

    assert list(sources.folders()) == [tmp_path / "own", llama, lite]
    assert {"llama_index", "litellm"}.isdisjoint(sys.modules)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        pytest.param(
            {"TIKTOKEN_CACHE_DIR": "/a", "DATA_GYM_CACHE_DIR": "/b"}, Path("/a"), id="set"
        ),
        pytest.param({"DATA_GYM_CACHE_DIR": "/b"}, Path("/b"), id="its old name"),
        pytest.param({"TIKTOKEN_CACHE_DIR": ""}, None, id="none, as tiktoken has it"),
        pytest.param({"TMPDIR": "/t"}, Path("/t/data-gym-cache"), id="not set"),
    ],
)
def test_the_folder_of_tiktoken(monkeypatch, environment, expected):
    """It is the one in which tiktoken itself would look."""
    monkeypatch.setattr("tempfile.tempdir", None)
    for name in ("TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR", "TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("tempfile.gettempdir", lambda: os.environ.get("TMPDIR", "/tmp"))

    assert sources.tiktoken_folder() == expected


def test_a_file_is_found_by_its_name(folder, real):
    """The file is the SHA-1 of its address, as tiktoken names it."""
    (folder / FILE).write_bytes(real)

    assert sources.file_name(ADDRESS) == FILE
    assert Encodings().get(NAME).encode_ordinary("hello world") == [15339, 1917]


def test_a_damaged_file_is_passed_over_and_left_alone(folder, tmp_path, real, monkeypatch):
    """The next folder is asked; tiktoken would delete the file here."""
    damaged = folder / FILE
    damaged.write_bytes(b"cut off in the middle")
    other = hollow_package(tmp_path, "elsewhere")
    (other / FILE).write_bytes(real)
    monkeypatch.setattr(sources, "_PACKAGES", (("elsewhere", ()),))
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()

    assert Encodings().get(NAME) is not None
    assert damaged.read_bytes() == b"cut off in the middle"


def test_the_environment_is_left_alone(folder):
    """Nothing we do changes where tiktoken looks for the rest of the process."""
    before = dict(os.environ)

    Encodings(download=True, fetch=Server(b"nothing")).get(NAME)

    assert dict(os.environ) == before
    assert os.environ["TIKTOKEN_CACHE_DIR"] == str(folder)


def test_what_the_application_has_loaded_is_used(folder, monkeypatch):
    """Seventy megabytes need not be there twice."""
    theirs = object()
    monkeypatch.setattr("tiktoken.registry.ENCODINGS", {NAME: theirs})

    assert Encodings().get(NAME) is theirs


@pytest.mark.parametrize("name", ["cl100k_base", "o200k_base"])
def test_a_definition_is_that_of_tiktoken(name, monkeypatch):
    """Pattern, ranks and special tokens are those that tiktoken itself loads, unpatched."""
    (folder,) = [f for f in sources.folders() if "llama_index" in f.parts]
    reader = tiktoken_ext.openai_public.load_tiktoken_bpe

    ours = sources.definition(name, sources.local_file)

    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(folder))
    theirs = tiktoken.get_encoding(name)
    assert ours["name"] == theirs.name
    assert ours["pat_str"] == theirs._pat_str
    assert ours["special_tokens"] == theirs._special_tokens
    assert ours["mergeable_ranks"] == theirs._mergeable_ranks
    assert tiktoken_ext.openai_public.load_tiktoken_bpe is reader


def test_a_definition_that_needs_another_file_is_refused():
    """gpt2 would be loaded from the network by a reader that is not replaced."""
    with pytest.raises(OSError, match="two files"):
        sources.definition("gpt2", sources.local_file)


def test_no_tiktoken_no_encoding(folder, monkeypatch):
    """A process without tiktoken counts characters."""
    monkeypatch.setitem(sys.modules, "tiktoken", None)

    assert Encodings().get(NAME) is None


@pytest.mark.parametrize("alias", ["o200k_harmony"])
def test_encodings_that_differ_in_special_tokens_are_one(alias, encodings):
    """Text does not become special tokens, so the same object serves both."""
    assert encodings.get(alias) is encodings.get("o200k_base")


@pytest.mark.parametrize("name", ["", "no such encoding", "r50k_base"])
def test_what_is_nowhere_is_none(folder, name):
    """An encoding that is not on this machine, or nowhere at all, is none."""
    assert Encodings().get(name) is None


def test_a_failure_is_remembered_for_a_while(folder, real):
    """Until the time is over nobody looks again, though the file is there by now."""
    clock = Clock()
    encodings = Encodings(retry_after=600, clock=clock)
    assert encodings.get(NAME) is None
    (folder / FILE).write_bytes(real)

    clock.now += 599
    assert encodings.get(NAME) is None
    clock.now += 2
    assert encodings.get(NAME) is not None


def test_an_encoding_is_loaded_once_for_the_process(folder, real, monkeypatch):
    """Threads and instances that ask at the same time get the same object, of one load."""
    (folder / FILE).write_bytes(real)
    loads = []
    local_file = sources.local_file
    monkeypatch.setattr(sources, "local_file", lambda *a: (loads.append(a), local_file(*a))[1])
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(Encodings().get(NAME))) for _ in range(8)
    ]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(loads) == 1
    assert len({id(encoding) for encoding in found}) == 1
    assert found[0] is not None


def test_preloading_is_done_by_the_time_it_is_asked_for(folder, real):
    """`preload` returns at once; whoever asks then waits for that load."""
    (folder / FILE).write_bytes(real)
    encodings = Encodings()

    encodings.preload([NAME, "no such encoding"])

    assert encodings.get(NAME) is not None


def test_a_fork_forgets_loads_and_locks_of_its_parent(folder, real):
    """A child that was forked in the middle of a load does not wait for a thread it has not."""
    encodings = Encodings(deadline=0.05)
    locked, finish = threading.Event(), threading.Event()

    def hold():
        with module._shared.lock:
            locked.set()
            finish.wait(30)

    module._shared.loading[NAME, False] = module._Load(30)
    thread = threading.Thread(target=hold)
    thread.start()
    locked.wait(30)
    (folder / FILE).write_bytes(real)
    try:
        assert in_child(lambda: encodings.get(NAME) is not None)
    finally:
        finish.set()
        thread.join()


def test_a_fork_keeps_what_was_loaded(folder, real):
    """Memory is shared with the parent; nothing is loaded twice."""
    (folder / FILE).write_bytes(real)
    encodings = Encodings()
    assert encodings.get(NAME) is not None
    (folder / FILE).unlink()

    assert in_child(lambda: encodings.get(NAME) is not None)


def test_hashes_are_those_of_the_files(real):
    """What we load is what tiktoken's authors published."""
    expected = "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7"

    assert hashlib.sha256(real).hexdigest() == expected
    assert sources.local_file(ADDRESS, expected) == real


def test_what_the_estimates_are_worth_is_said_once(folder, caplog):
    """Whoever reads the log learns that a file is missing, and how to get it."""
    encodings = Encodings()
    for _ in range(3):
        assert encodings.get(NAME) is None
        assert encodings.get("p50k_base") is None

    (record,) = caplog.records
    assert NAME in record.getMessage()
    assert "LLM_METERING_TOKENIZER_DOWNLOAD=on" in record.getMessage()
