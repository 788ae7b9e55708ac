"""A server that all tests of stores share."""

import pytest

from .servers import server


@pytest.fixture(scope="session")
def databases():
    with server() as found:
        yield found
