"""What the fixtures promise every test: nothing of the developer's, nothing left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from llm_metering.settings import load_settings

release = threading.Event()


def test_default_home_is_temporary(tmp_path_factory):
    """Neither this process nor one it starts would write to the user's own data folder."""
    code = "from llm_metering.settings import load_settings; print(load_settings().home)"

    child = subprocess.check_output([sys.executable, "-c", code], text=True).strip()

    assert load_settings().home == Path(child)
    assert tmp_path_factory.getbasetemp() in load_settings().home.parents


def test_settings_of_the_developer_are_forgotten(pytester, monkeypatch):
    """A run starts without the settings around it; what is meant for the tests stays."""
    foreign = {"LLM_METERING_SINKS", "OPENMETER_TOKEN", "LANGSMITH_TRACING", "LLM_METERING_NEW"}
    for name in foreign:
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("LLM_METERING_RESPONSES", "/responses")
    pytester.makeconftest("from tests.conftest import pytest_configure")
    pytester.makepyfile("def test_passes(): pass")

    pytester.runpytest_inprocess().assert_outcomes(passed=1)

    assert os.environ.keys() & foreign == set()
    assert os.environ["LLM_METERING_RESPONSES"] == "/responses"


@pytest.mark.parametrize("daemon", [False, True], ids=["thread", "daemon thread"])
def test_thread_left_behind_fails_a_test(pytester, monkeypatch, daemon):
    """A thread that would keep the interpreter from ending fails the test that left it."""
    monkeypatch.setattr("tests.conftest._JOIN_TIMEOUT", 0.01)
    pytester.makeconftest("from tests.conftest import no_thread_left")
    pytester.makepyfile(
        f"""
        import threading
        from tests.test_isolation import release

        def test_leaves_a_thread():
            threading.Thread(target=release.wait, daemon={daemon}).start()
        """
    )
    release.clear()
    try:
        outcome = pytester.runpytest_inprocess()
    finally:
        release.set()

    outcome.assert_outcomes(passed=1, errors=0 if daemon else 1)


def test_home_is_private(home):
    """The home of a test has the mode the library gives to its own."""
    assert home.stat().st_mode & 0o777 == 0o700
