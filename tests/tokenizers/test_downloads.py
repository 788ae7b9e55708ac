"""Encodings from the network: only if allowed, kept, and waited for once."""

import threading

import pytest

from llm_metering.tokenizers import Encodings
from llm_metering.tokenizers import encodings as module
from tests.tokenizers.doubles import ADDRESS, FILE, NAME, Clock, Server


def test_nothing_is_downloaded_unasked(folder):
    """Without permission the network is not touched."""
    server = Server(b"")

    assert Encodings(fetch=server).get(NAME) is None
    assert server.asked == []


def test_what_is_downloaded_is_kept(folder, real):
    """The next process finds it where tiktoken would have put it."""
    server = Server(real)

    assert Encodings(download=True, fetch=server).get(NAME) is not None
    assert server.asked == [ADDRESS]
    assert (folder / FILE).read_bytes() == real
    assert [path.name for path in folder.iterdir()] == [FILE]


def test_a_file_that_is_there_is_not_replaced(folder, real):
    """A damaged file is its owner's to remove; the encoding is had all the same."""
    (folder / FILE).write_bytes(b"damaged")

    assert Encodings(download=True, fetch=Server(real)).get(NAME) is not None
    assert (folder / FILE).read_bytes() == b"damaged"


def test_a_folder_that_cannot_be_written_to_costs_nothing(folder, real, monkeypatch):
    """What cannot be kept is used once."""
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(folder / FILE / "below a file"))
    (folder / FILE).write_bytes(b"")

    assert Encodings(download=True, fetch=Server(real)).get(NAME) is not None


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"a page of a proxy", id="another file"),
        pytest.param(OSError("refused"), id="no network"),
        pytest.param(RuntimeError("odd"), id="another error"),
    ],
)
def test_a_download_that_fails_is_remembered(folder, data):
    """It is tried once, and again when the time is over."""
    clock, server = Clock(), Server(data)
    encodings = Encodings(download=True, fetch=server, clock=clock, retry_after=600)

    assert [encodings.get(NAME) for _ in range(3)] == [None, None, None]
    assert len(server.asked) == 1
    assert list(folder.iterdir()) == []
    clock.now += 601
    encodings.get(NAME)
    assert len(server.asked) == 2


def test_a_server_that_never_answers_is_waited_for_once(folder, real):
    """Whoever asks gets none after the deadline; what comes later is there for the next."""
    answers = threading.Event()
    asked = []

    def slow(address):
        asked.append(address)
        answers.wait(30)
        return real

    clock = Clock()
    encodings = Encodings(download=True, fetch=slow, deadline=0.05, clock=clock)
    assert encodings.get(NAME) is None
    clock.now += 601
    # Time is over for this load: the next to ask does not wait, and starts no second one.
    assert encodings.get(NAME) is None
    assert len(asked) == 1
    load = next(iter(module._shared.loading.values()))

    answers.set()
    load.done.wait(30)
    assert encodings.get(NAME) is not None
