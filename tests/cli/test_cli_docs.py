"""The page about the command line has every command and every option, and no other."""

import re
from pathlib import Path

import pytest
import typer

from llm_metering.cli.app import app

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")
COMMANDS = typer.main.get_command(app).commands


def sections():
    """The text below each second-level heading, by heading."""
    parts = re.split(r"^## (.+)$", PAGE, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_every_command_has_a_section():
    """Commands and sections are the same, and the table at the top names each."""
    assert set(sections()) == {"What all commands share", *COMMANDS}
    for name in COMMANDS:
        assert f"[`{name}`](#{name})" in PAGE


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_documented(name):
    """The table of a command's section has its options, all of them and no other."""
    given = {option for each in COMMANDS[name].params for option in each.opts}
    options = {each for each in given if each.startswith("--")}  # the others are arguments

    assert set(re.findall(r"^\| `(--[a-z-]+)", sections()[name], re.MULTILINE)) == options


def test_global_options_are_documented():
    """What stands before a command is on the page, too."""
    for each in typer.main.get_command(app).params:
        assert f"llm-metering {each.opts[0]}`" in PAGE
