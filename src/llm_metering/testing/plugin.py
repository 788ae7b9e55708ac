"""Fixtures for pytest; the entry point `llm_metering` brings them into every test run.

Nothing of the library is imported until a test asks for a fixture. `-p no:llm_metering` leaves
them out; a fixture of the same name in a `conftest.py` goes before them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .meter import RecordedMeter
    from .server import OpenMeterServer

pytest.register_assert_rewrite("llm_metering.testing.contract")

__all__ = ["llm_metering_meter", "llm_metering_settings", "meter", "openmeter_server"]


@pytest.fixture
def llm_metering_settings() -> dict[str, Any]:
    """What `meter` is made with, as `Meter` takes it; override it to say something else."""
    return {}


@pytest.fixture
def llm_metering_meter(
    llm_metering_settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RecordedMeter]:
    """`meter` under a name that nothing else has, for projects with a `meter` of their own."""
    from .meter import RecordedMeter, as_default

    home = tmp_path_factory.mktemp("llm-metering")
    with RecordedMeter(**{"home": home, **llm_metering_settings}) as meter, as_default(meter):
        yield meter


@pytest.fixture
def meter(llm_metering_meter: RecordedMeter) -> RecordedMeter:
    """A meter on a home of its own, the process's default during the test; see `meter.events`."""
    return llm_metering_meter


@pytest.fixture
def openmeter_server() -> Iterator[OpenMeterServer]:
    """A fake OpenMeter server that counts each event once."""
    from .server import OpenMeterServer

    with OpenMeterServer() as server:
        yield server
