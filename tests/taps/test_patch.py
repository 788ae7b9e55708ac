"""`Patch`: into somebody else's class and out again, whoever else was there."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from llm_metering.taps.patch import Patch


def around(theirs):
    return lambda self: f"[{theirs(self)}]"


class Library:
    """A library that may be loaded."""

    def __init__(self, monkeypatch):
        self._monkeypatch = monkeypatch
        self.module = ModuleType("some_library")

        class Response:
            def read(self):
                return "read"

        self.module.Response = self.response = Response

    def load(self):
        self._monkeypatch.setitem(sys.modules, "some_library", self.module)


@pytest.fixture
def library(monkeypatch):
    return Library(monkeypatch)


@pytest.fixture
def patch():
    return Patch("some_library", "Response", "read", around)


def test_it_waits_for_the_library(library, patch):
    """Nothing is imported: a patch is put once its library is there, and only once."""
    patch.put()
    waited = not patch.is_put
    library.load()
    patch.put()
    patch.put()

    assert waited
    assert library.response().read() == "[read]"
    assert "put" in repr(patch)


def test_it_comes_out(library, patch):
    """Taken out, everything is as before, and it can be put again."""
    library.load()
    before = library.response.__dict__["read"]

    patch.put()
    patch.take_out()
    after = library.response.__dict__["read"]
    patch.take_out()
    patch.put()

    assert after is before
    assert library.response().read() == "[read]"


def test_what_others_put_over_it_stays(library, patch):
    """Where another library has wrapped ours, taking ours out leaves theirs in place."""
    library.load()
    patch.put()
    ours = library.response.read
    library.response.read = lambda self: f"<{ours(self)}>"

    patch.take_out()

    assert library.response().read() == "<[read]>"


@pytest.mark.parametrize("change", ["no class", "no method", "no function"])
def test_a_library_that_changed(library, patch, change):
    """A version without the method is left alone."""
    if change == "no class":
        library.module.Response = None
    elif change == "no method":
        del library.response.read
    else:
        library.response.read = "text"
    library.load()

    patch.put()

    assert not patch.is_put
