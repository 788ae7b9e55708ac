"""A server without what pages are made with."""

from __future__ import annotations

import sys

import pytest

from .conftest import call, get


@pytest.mark.parametrize("missing", ["altair", "babel", "jinja2"])
def test_without_the_extra_there_is_the_api_and_no_page(serving, monkeypatch, missing):
    """The first page says what to install, also to a browser."""
    for name in list(sys.modules):
        if name.startswith("llm_metering.server.dashboard") or name.partition(".")[0] == missing:
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    with serving() as client:
        answer = get(client, "/")
        assert answer.status_code == 501
        assert "llm-metering[dashboard]" in answer.json()["detail"]
        assert get(client, "/costs").status_code == 404
        assert client.post("/api/v1/events", json=[call("1")]).status_code == 204
