"""Tests that are selected by what LlamaIndex can do: on the latest none is left out unseen."""

from __future__ import annotations

from tests.installed import has
from tests.llamaindex.capabilities import CAPABILITIES, MODULES, missing


def test_the_latest_versions_have_everything():
    """Only on an older core may something be missing, and then something is."""
    is_latest = has("llama-index-core", 0, 14)

    assert bool(missing(*CAPABILITIES)) is not is_latest


def test_modules_name_what_exists():
    """A word that is misspelt would leave tests out."""
    assert set(MODULES.values()) <= set(CAPABILITIES)
