"""Pages, as a browser asks for them."""

from __future__ import annotations

import re
from html import unescape

import pytest

from ..conftest import bearer, event

PAGE = {"Accept": "text/html"}
OURS = {"Sec-Fetch-Site": "same-origin"}
FORM = {"Content-Type": "application/x-www-form-urlencoded", **OURS, **PAGE}


def get(client, path, **headers):
    """A page."""
    return client.get(path, headers={**PAGE, **headers}, follow_redirects=False)


def text_of(response):
    """What a reader sees of a page: no tags, and no blanks twice."""
    body = re.sub(r"<(script|style|svg).*?</\1>", " ", response.text, flags=re.DOTALL)
    return " ".join(unescape(re.sub("<[^>]*>", " ", body)).split())


@pytest.fixture
def post():
    """Send a form, as a page of the server does."""

    def post(client, path, fields=(), **headers):
        return client.post(
            path, data=dict(fields), headers={**FORM, **headers}, follow_redirects=False
        )

    return post


@pytest.fixture
def send(living):
    """Send events, and wait until the ledger has them."""

    def send(client, *events, key=None):
        headers = bearer(key) if key else {}
        response = client.post("/api/v1/events", json=list(events), headers=headers)
        assert response.status_code == 204, response.text
        assert living[0].sources.flush(30)

    return send


def call(id, **changes):
    """An event of a call just now."""
    data = changes.pop("data", {})
    made = event(id, **changes)
    made.pop("time") if "time" not in changes else None
    return {**made, "data": {**made["data"], **data}}
