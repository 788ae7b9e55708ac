"""The distribution of the LlamaIndex front end under the name of an integration."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import textwrap
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

import llm_metering

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "packages" / "llama-index-observability-llm-metering"
MODULE = "llama_index/observability/llm_metering"
NAME = "llama_index_observability_llm_metering-0.1.0"

USED = """
    import llama_index.core, llm_metering.llamaindex
    import llama_index.observability.llm_metering as package
    from llama_index.core.callbacks import CallbackManager
    from llama_index.core.llms import MockLLM

    exported = {name: getattr(package, name) for name in package.__all__}
    for name, ours in exported.items():
        assert ours is getattr(llm_metering.llamaindex, name, None) or ours is getattr(llm_metering, name)
    print(*sorted(exported))
    handler = package.MeteringHandler("customer-42")
    MockLLM(callback_manager=CallbackManager([handler])).complete("Hello")
    package.install()
    with package.subject("customer-7"):
        MockLLM().complete("Hello")
    package.uninstall()
    llm_metering.flush()
    for row in llm_metering.usage("calls_total", group_by="subject"):
        print(row.subject, row.value)
    """


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A folder with the wheel and the sdist, built by the backend itself: nothing is downloaded."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "hatchling", "build", "--directory", str(folder), cwd=FOLDER)
    return folder


def run(*command: str, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_adds_one_module_to_the_namespace(built):
    """It has no `__init__.py` above its own, which would hide LlamaIndex's other packages."""
    with zipfile.ZipFile(built / f"{NAME}-py3-none-any.whl") as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}

    assert names == {f"{MODULE}/__init__.py", f"{MODULE}/py.typed"}


def test_the_wheel_brings_the_front_end_and_llamaindex(built):
    """It depends on this library with its extra, in the version that is here."""
    with zipfile.ZipFile(built / f"{NAME}-py3-none-any.whl") as wheel:
        metadata = Parser().parsestr(wheel.read(f"{NAME}.dist-info/METADATA").decode())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    assert metadata.get_all("Requires-Dist") == [f"llm-metering[llamaindex]>={project['version']}"]
    assert metadata["Version"] == project["version"]
    assert metadata["License-Expression"] == project["license"]
    assert metadata["Requires-Python"] == project["requires-python"]


def test_the_sdist_can_be_built_from(built, tmp_path):
    """What is published as source holds all that the wheel is made of."""
    with tarfile.open(built / f"{NAME}.tar.gz") as sdist:
        sdist.extractall(tmp_path, filter="data")
    unpacked = tmp_path / NAME
    run(sys.executable, "-m", "hatchling", "build", "--target", "wheel", cwd=unpacked)

    with (
        zipfile.ZipFile(unpacked / "dist" / f"{NAME}-py3-none-any.whl") as again,
        zipfile.ZipFile(built / f"{NAME}-py3-none-any.whl") as wheel,
    ):
        assert again.namelist() == wheel.namelist()


def test_llamahub_finds_what_it_asks_for():
    """The module that the listing names is the one that is in the package, and has the class."""
    listing = tomllib.loads((FOLDER / "pyproject.toml").read_text())["tool"]["llamahub"]

    assert listing["import_path"] == MODULE.replace("/", ".")
    assert listing["contains_example"] is False
    assert set(listing["class_authors"]) == {"MeteringHandler"}


def test_it_is_the_same_front_end_once_installed(built, tmp_path):
    """Beside LlamaIndex's own packages, its names are this library's objects, and they meter."""
    target = tmp_path / "site"
    wheel = str(built / f"{NAME}-py3-none-any.whl")
    pip = (sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet")
    run(*pip, "--target", str(target), wheel, cwd=tmp_path)
    package = Path(llm_metering.__file__).parent.parent

    printed = run(
        *(sys.executable, "-c", textwrap.dedent(USED)),
        cwd=tmp_path,
        PYTHONPATH=os.pathsep.join([str(target), str(package)]),
        LLM_METERING_HOME=str(tmp_path / "home"),
        LLM_METERING_SINKS="",
    )

    assert printed.splitlines() == [
        "MeteringHandler bind install metered_stream subject uninstall",
        "customer-42 1",
        "customer-7 1",
    ]
