"""The service and the container: what they name is there, and nothing runs as root."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import typer.main

from llm_metering.cli.app import app

ROOT = Path(__file__).parents[1]
UNIT = ROOT / "deploy" / "llm-metering.service"
CONTAINERFILE = (ROOT / "deploy" / "Containerfile").read_text("utf-8")


def settings_of(unit):
    """The settings of a unit, each with its values."""
    found = {}
    for line in unit.read_text("utf-8").splitlines():
        if re.match("[A-Z]", line):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def check_command(words):
    """The command takes these words."""
    command = typer.main.get_command(app)
    context = command.make_context("llm-metering", list(words), resilient_parsing=True)
    name, _, rest = command.resolve_command(context, list(words))
    serve = command.get_command(context, name)
    parsed = serve.make_context(name, list(words[1:]), parent=context).params
    return name, parsed, rest


def test_the_service_runs_as_a_user_of_its_own():
    """One that stays, since keys are made as this user; with a home that nobody else reads."""
    found = settings_of(UNIT)
    assert found["User"] == ["llm-metering"]
    assert "DynamicUser" not in found
    assert (found["StateDirectory"], found["StateDirectoryMode"]) == (["llm-metering"], ["0700"])
    assert "LLM_METERING_HOME=/var/lib/llm-metering" in found["Environment"]
    # Of several processes the first is told to stop, and tells the others.
    assert found["KillMode"] == ["mixed"]
    [start] = found["ExecStart"]
    name, parsed, _ = check_command(start.split()[1:])
    assert (name, parsed["host"], parsed["port"]) == ("serve", "127.0.0.1", 8787)


def test_systemd_finds_nothing_wrong_with_the_service(tmp_path):
    """Where there is one; its verdict on how much the service may do is no worse than OK."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        return
    unit = tmp_path / UNIT.name
    text = UNIT.read_text("utf-8")
    unit.write_text(text.replace("/opt/llm-metering/bin/llm-metering", "/bin/true"))
    verified = subprocess.run(
        [analyze, "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False
    )
    assert UNIT.name not in verified.stderr


def test_the_container_is_made_of_what_there_is():
    """Its extras, its command, what it copies; and it runs as nobody in particular."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    [extras] = re.findall(r'whl\)\[([a-z,]+)\]"', CONTAINERFILE)
    assert set(extras.split(",")) <= set(project["optional-dependencies"])
    [version] = set(re.findall(r"python:([0-9.]+)-slim", CONTAINERFILE))
    assert f"Programming Language :: Python :: {version}" in project["classifiers"]
    [user] = re.findall(r"^USER (\S+)$", CONTAINERFILE, re.MULTILINE)
    assert f"--uid {user}" in CONTAINERFILE
    assert int(user) > 0
    [words] = re.findall(r"^CMD \[(.*)\]$", CONTAINERFILE, re.MULTILINE)
    name, parsed, _ = check_command(re.findall('"([^"]+)"', words))
    assert (name, parsed["port"]) == ("serve", 8787)
    assert "/healthz" in CONTAINERFILE
    kept = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    assert kept[0] == "*"
    for needed in (project["readme"], "LICENSE", "pyproject.toml", "src"):
        assert f"!{needed}" in kept


@pytest.mark.parametrize("path", ["src/llm_metering/server", "src/llm_metering/ledger"])
def test_statements_are_packed_with_the_code_that_runs_them(path):
    """They lie in the package, which is what a wheel has."""
    assert list((ROOT / path).glob("*.sql"))
