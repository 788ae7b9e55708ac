"""What the package shows to the outside: light to import, listed, and true."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import llm_metering

from . import light_import


def public_modules() -> list[str]:
    """Every module without a leading underscore anywhere in its name."""
    found = pkgutil.walk_packages(llm_metering.__path__, "llm_metering.")
    names = ["llm_metering", *(module.name for module in found)]
    return [name for name in names if "._" not in name]


def test_import_is_light():
    """Importing the package loads no framework, HTTP client or database, and starts no thread."""
    done = subprocess.run(
        [sys.executable, light_import.__file__], capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")


def test_import_loads_nothing_heavy_inside():
    """Nor does anything the import loads pull one of them in under another name."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "import llm_metering"],
        capture_output=True,
        text=True,
        check=True,
    )

    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "llm_metering" in imported
    assert not {name for name in imported if name.partition(".")[0] in light_import.HEAVY}


@pytest.mark.parametrize("name", public_modules())
def test_all_is_true(name):
    """Every module that defines something lists its names, each once, and each of them exists."""
    module = importlib.import_module(name)
    defines = any(getattr(each, "__module__", None) == name for each in vars(module).values())
    listed = module.__all__ if defines else getattr(module, "__all__", [])

    assert len(listed) == len(set(listed))
    assert [each for each in listed if not hasattr(module, each)] == []


@pytest.mark.parametrize("name", llm_metering.__all__)
def test_public_name_is_documented(name):
    """What a user imports from the package says what it is."""
    if name != "__version__":
        assert getattr(llm_metering, name).__doc__


def test_unknown_name_is_an_attribute_error():
    """A name that does not exist fails as it does in any module."""
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = llm_metering.no_such_name


def test_package_is_typed():
    """The marker that tells type checkers to trust our annotations is shipped."""
    assert (Path(llm_metering.__file__).parent / "py.typed").exists()
