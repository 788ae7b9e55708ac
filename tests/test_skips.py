"""The plugin that counts skips, run by a pytest of its own."""

from __future__ import annotations

import pytest

SKIPPING = """
    import pytest

    def test_passes():
        pass

    def test_skips():
        pytest.skip({reason!r})

    @pytest.mark.skip(reason={reason!r})
    @pytest.mark.parametrize("number", [1, 2])
    def test_is_skipped(number):
        pass
"""


@pytest.fixture(autouse=True)
def plain_run(monkeypatch, pytester):
    """The suite around us may demand that nothing is skipped; the ones in here say so each."""
    monkeypatch.delenv("LLM_METERING_REQUIRE_ALL", raising=False)
    # Plugins of the suite around us would only slow these runs down.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


@pytest.fixture
def run(pytester):
    """Run pytest with the plugin."""

    def run(*arguments):
        return pytester.runpytest("-p", "tests.skips", *arguments)

    return run


def last_line(result):
    return result.stdout.lines[-1]


def test_nothing_skipped(pytester, run):
    """A run without skips says so in its last line, after pytest's own."""
    pytester.makepyfile("def test_passes(): pass")

    result = run()

    assert result.ret == 0
    assert "1 passed" in result.stdout.lines[-2]
    assert last_line(result) == "skipped: none"


def test_skips_are_counted_by_reason(pytester, run):
    """Each reason has its count, the most frequent first, however the test was skipped."""
    pytester.makepyfile(
        test_one=SKIPPING.format(reason="no browser"),
        test_two="import pytest\npytest.skip('no server', allow_module_level=True)",
        test_three="import pytest\npytest.importorskip('not_a_module', reason='no\\n  module')",
    )

    result = run()

    assert result.ret == 0
    assert last_line(result) == "skipped: 5 (no browser: 3; no module: 1; no server: 1)"


def test_expected_failure_is_no_skip(pytester, run):
    """A test that is expected to fail did run."""
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.xfail
        def test_fails():
            assert False
        """
    )

    assert last_line(run()) == "skipped: none"


def test_skip_fails_the_run_where_all_is_required(pytester, run, monkeypatch):
    """With LLM_METERING_REQUIRE_ALL=1 a skip makes an otherwise good run fail."""
    monkeypatch.setenv("LLM_METERING_REQUIRE_ALL", "1")
    pytester.makepyfile(SKIPPING.format(reason="no browser"))

    result = run()

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert last_line(result) == (
        "skipped: 3 (no browser: 3) - FAILED: LLM_METERING_REQUIRE_ALL=1 allows none of 3 of them"
    )


def test_recorded_traffic_may_be_absent(pytester, run, monkeypatch):
    """Recorded traffic is no part of the repository: its absence is counted and allowed."""
    monkeypatch.setenv("LLM_METERING_REQUIRE_ALL", "1")
    pytester.makepyfile(SKIPPING.format(reason="recorded traffic not present"))

    result = run()

    assert result.ret == 0
    assert last_line(result) == "skipped: 3 (recorded traffic not present: 3)"


def test_failure_stays_a_failure(pytester, run, monkeypatch):
    """A run that stops early keeps its own exit status."""
    monkeypatch.setenv("LLM_METERING_REQUIRE_ALL", "1")
    pytester.makepyfile("import pytest\n\ndef test_stops():\n    pytest.exit('enough')")

    assert run().ret == pytest.ExitCode.INTERRUPTED
