"""The fixture `provider`, for every test of the project."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .client import Provider

__all__ = ["provider", "provider_process"]


@pytest.fixture(scope="session")
def provider_process() -> Iterator[Provider]:
    """The provider, started on the first test that asks for it."""
    with Provider() as provider:
        yield provider


@pytest.fixture
def provider(provider_process: Provider, monkeypatch: pytest.MonkeyPatch) -> Provider:
    """The provider, its books at this test's own page."""
    # Proxies of the environment are for the way out.
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    provider_process.begin()
    return provider_process
