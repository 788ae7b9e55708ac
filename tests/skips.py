"""A pytest plugin that lets no skipped test go unnoticed.

It ends each run with one line that counts the skips by reason. With LLM_METERING_REQUIRE_ALL=1
in the environment, as continuous integration sets it, a run that skipped anything fails; only
recorded traffic of real providers may be absent, since it is no part of the repository.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Generator

import pytest

__all__ = ["SkipReport", "pytest_configure"]

REQUIRE_ALL = "LLM_METERING_REQUIRE_ALL"
MAY_BE_ABSENT = "recorded traffic"


def pytest_configure(config: pytest.Config) -> None:
    """Watch this run."""
    config.pluginmanager.register(SkipReport(config), "llm-metering-skips")


class SkipReport:
    """The skips of one run."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._reasons: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        # An expected failure is reported as skipped, too.
        if report.skipped and not hasattr(report, "wasxfail"):
            self._reasons[_reason(report)] += 1

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped:
            self._reasons[_reason(report)] += 1

    # The outermost wrapper, so that pytest's own closing line comes before ours.
    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, None, None]:
        refused = sum(
            count for reason, count in self._reasons.items() if not reason.startswith(MAY_BE_ABSENT)
        )
        refused = refused if os.environ.get(REQUIRE_ALL) == "1" else 0
        if refused and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        try:
            return (yield)
        finally:
            self._print(refused)

    def _print(self, refused: int) -> None:
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.ensure_newline()
            reporter.write_line(self._line(refused), red=bool(refused))

    def _line(self, refused: int) -> str:
        if not self._reasons:
            return "skipped: none"
        reasons = "; ".join(f"{reason}: {count}" for reason, count in self._reasons.most_common())
        line = f"skipped: {self._reasons.total()} ({reasons})"
        if refused:
            line += f" - FAILED: {REQUIRE_ALL}=1 allows none of {refused} of them"
        return line


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    if isinstance(report.longrepr, tuple):
        text = report.longrepr[2].removeprefix("Skipped: ").removeprefix("Skipped")
    else:
        text = str(report.longrepr)
    # On one line, whatever the reason is made of.
    return " ".join(text.split()) or "no reason given"
