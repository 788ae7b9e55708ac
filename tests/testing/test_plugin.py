"""The pytest plugin, in test runs of its own."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path

import pytest

PLUGIN = ("-p", "llm_metering.testing.plugin", "-p", "no:cacheprovider")


@pytest.fixture
def run(pytester, monkeypatch):
    """Runs tests in a process of its own, as a user's project does; nothing may go wrong."""
    # The entry point would bring the same plugin in a second time.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")

    def run(tests: str, conftest: str = "", *arguments: str, **outcomes: int) -> pytest.RunResult:
        pytester.makepyfile(tests)
        pytester.makeconftest(conftest)
        result = pytester.runpytest_subprocess(*PLUGIN, "-W", "error", *arguments)
        result.assert_outcomes(**(outcomes or {"passed": tests.count("def test_")}))
        return result

    return run


def test_the_meter_is_the_default_and_shows_its_events(run):
    """What the application records is there in the test, and gone in the next one."""
    run(
        """
        import llm_metering

        def test_one(meter):
            assert llm_metering.get_meter() is meter
            llm_metering.record(quantity=3, unit="images", subject="customer-42")
            assert [event.data["quantity"] for event in meter.events] == [3]

        def test_two(meter):
            assert meter.events == []
        """
    )


def test_each_meter_has_a_home_of_its_own(run):
    """Apart from the test's own folder, and the default home is never touched."""
    run(
        """
        import os
        from pathlib import Path

        homes = set()

        def test_one(meter, tmp_path):
            meter.record(quantity=1, unit="images", subject="c")
            assert list(tmp_path.iterdir()) == []
            homes.add(meter.settings.home)

        def test_two(meter):
            homes.add(meter.settings.home)
            assert len(homes) == 2
            assert not list(Path(os.environ["XDG_DATA_HOME"]).iterdir())
        """
    )


def test_the_default_is_restored_and_the_meter_closed(run):
    """Whatever became of the test."""
    run(
        """
        import pytest
        import llm_metering
        from llm_metering import default_meter

        seen = []

        @pytest.fixture(scope="module")
        def own(tmp_path_factory):
            meter = llm_metering.configure(home=tmp_path_factory.mktemp("own"), sinks=())
            yield meter
            llm_metering.close()

        @pytest.mark.xfail(strict=True)
        def test_fails(own, meter):
            seen.append(meter)
            assert False

        def test_after(own):
            assert llm_metering.get_meter() is own
            assert not vars(own)["_closed"]
            assert vars(seen[0])["_closed"]
        """,
        xfailed=1,
        passed=1,
    )


def test_settings_are_overridden_by_a_fixture(run):
    """A project says once what its meters are made with."""
    run(
        """
        def test_it(meter, openmeter_server):
            meter.record(quantity=1, unit="images")
            assert meter.flush()
            [event] = openmeter_server.events
            assert (event["subject"], event["source"]) == ("acme", "shop")
            assert [each.subject for each in meter.events] == ["acme"]
        """,
        """
        import pytest

        @pytest.fixture
        def llm_metering_settings(openmeter_server):
            return {"sinks": [openmeter_server.sink_url], "subject": "acme", "source": "shop"}
        """,
    )


def test_a_projects_own_fixtures_go_first(run):
    """A `meter` that means something else stays what it is, and ours has a name of its own."""
    run(
        """
        def test_own(meter):
            assert meter == "electricity"

        def test_ours(llm_metering_meter, meter):
            assert llm_metering_meter.events == []
            assert meter == "electricity"
        """,
        """
        import pytest

        @pytest.fixture
        def meter():
            return "electricity"
        """,
    )


def test_a_server_is_there_for_the_test(run):
    """And gone after it."""
    run(
        """
        import socket
        import pytest

        ports = []

        def test_one(openmeter_server):
            ports.append(openmeter_server.port)
            assert openmeter_server.dedupe
            socket.create_connection(("127.0.0.1", ports[0])).close()

        def test_two():
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", ports[0]))
        """
    )


def test_a_run_that_asks_for_nothing_loads_nothing(run):
    """The plugin is in everybody's test runs: it imports next to nothing at their start."""
    run(
        """
        import sys

        def test_it():
            ours = {name for name in sys.modules if name.partition(".")[0] == "llm_metering"}
            assert ours == {
                "llm_metering", "llm_metering.testing", "llm_metering.testing.plugin"
            }
            assert not {"httpx", "msgspec", "sqlite3", "http.server"} & set(sys.modules)
        """
    )


def test_no_extra_is_needed(run):
    """Without the frameworks and all else that is optional, the fixtures work."""
    run(
        """
        def test_it(meter, openmeter_server):
            meter.record(quantity=1, unit="images", subject="c")
            assert len(meter.events) == 1
        """,
        """
        import sys

        for name in ("langchain_core", "llama_index", "openai", "opentelemetry", "xllamacpp"):
            sys.modules[name] = None
        """,
    )


def test_the_fixtures_are_listed_with_what_they_are(run):
    """`pytest --fixtures` is where people look."""
    result = run("", "", "--fixtures", passed=0)

    result.stdout.fnmatch_lines(
        [
            "llm_metering_settings -- *",
            "    What `meter` is made with*",
            "llm_metering_meter -- *",
            "meter -- *",
            "openmeter_server -- *",
        ]
    )


def examples() -> list[str]:
    """The examples of the how-to page that are tests."""
    page = Path(__file__).parents[2] / "docs" / "how-to" / "test-your-metering.md"
    blocks = re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    return [block for block in blocks if "def test_" in block]


@pytest.mark.parametrize("example", examples(), ids=["events", "settings"])
def test_the_documentations_tests_pass(run, example):
    """As they stand there, each in a file of its own."""
    run(example)


def test_the_entry_point_is_declared():
    """An installed package brings the fixtures by itself."""
    [entry] = importlib.metadata.entry_points(group="pytest11", name="llm_metering")
    assert entry.value == "llm_metering.testing.plugin"
