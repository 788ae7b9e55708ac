"""Tests that are selected by what LangChain can do: on the latest none is left out unseen."""

from __future__ import annotations

from importlib.metadata import version

from tests.langchain.capabilities import CAPABILITIES, GONE, MODULES, missing


def test_the_latest_versions_have_everything():
    """Only on langchain-core 0.3 may something be missing; what is gone is named."""
    absent = set(missing(*CAPABILITIES))

    if version("langchain-core").startswith("0."):
        assert absent.isdisjoint(GONE)
        assert absent
    else:
        assert absent == GONE


def test_modules_name_what_exists():
    """A word that is misspelt would leave tests out."""
    assert set(MODULES.values()) <= set(CAPABILITIES)
