"""`make` finds a Python that works, or says what is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "find_python.sh"


@pytest.fixture
def bin_folder(tmp_path):
    """The only folder on the PATH: it has what the script itself runs, and no Python."""
    folder = tmp_path / "bin"
    folder.mkdir()
    os.symlink(shutil.which("cat"), folder / "cat")
    return folder


@pytest.fixture
def find_python(bin_folder):
    """Run the script with nothing but that folder."""

    def run(**environment):
        return subprocess.run(
            [shutil.which("sh"), SCRIPT],
            env={"PATH": str(bin_folder), **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def program(folder: Path, name: str, script: str) -> Path:
    """Put a shell script on the PATH."""
    path = folder / name
    path.write_text(f"#!{shutil.which('sh')}\n{script}\n")
    path.chmod(0o755)
    return path


def lacking(folder: Path, *modules: str) -> str:
    """A script that runs this very Python, with some modules gone."""
    hidden = folder / "hidden"
    hidden.mkdir()
    for module in modules:
        (hidden / f"{module}.py").write_text("raise ImportError\n")
    return f'PYTHONPATH={hidden} exec {sys.executable} "$@"'


def test_shim_that_fails_is_passed_over(bin_folder, find_python):
    """A python3.11 that is on the PATH and does not run is no Python; the next one is taken."""
    program(bin_folder, "python3.11", "exit 127")
    works = program(bin_folder, "python3", f'exec {sys.executable} "$@"')

    assert find_python().stdout == f"{works}\n"


def test_named_python_wins(bin_folder, find_python):
    """PYTHON names the one to take, whatever else is there."""
    program(bin_folder, "python3.11", f'exec {sys.executable} "$@"')
    named = program(bin_folder, "mine", f'exec {sys.executable} "$@"')

    assert find_python(PYTHON="mine").stdout == f"{named}\n"


def test_without_any_python_it_says_so(find_python):
    """The message says which version is wanted and how to name one."""
    done = find_python()

    assert done.returncode == 1
    assert "No Python of 3.11 or newer" in done.stderr
    assert "PYTHON=/path/to/python3" in done.stderr


def test_old_python_is_not_taken(bin_folder, find_python):
    """A Python that runs but is too old is passed over like one that does not."""
    program(bin_folder, "python3", 'case "$2" in *"(3, 11)"*) exit 1 ;; esac')

    assert "No Python of 3.11 or newer" in find_python().stderr


def test_python_without_ensurepip_names_the_package(bin_folder, find_python):
    """Debian's python3 makes environments only with the package python3.N-venv."""
    program(bin_folder, "python3", lacking(bin_folder, "ensurepip"))

    done = find_python()

    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert done.returncode == 1
    assert "lacks: ensurepip" in done.stderr
    assert f"apt-get install python{version}-venv" in done.stderr


def test_complete_python_is_preferred_to_one_that_lacks_something(bin_folder, find_python):
    """A later candidate that can make environments is taken before an earlier one that cannot."""
    program(bin_folder, "python3.11", lacking(bin_folder, "ensurepip"))
    works = program(bin_folder, "python3", f'exec {sys.executable} "$@"')

    assert find_python().stdout == f"{works}\n"


def test_python_without_sqlite_is_refused(bin_folder, find_python):
    """A Python that was built without SQLite could not run the ledger."""
    program(bin_folder, "python3", lacking(bin_folder, "sqlite3"))

    assert "lacks: sqlite3" in find_python().stderr
