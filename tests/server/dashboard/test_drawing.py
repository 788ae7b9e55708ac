"""What draws charts, beside the server."""

from __future__ import annotations

import os
from pathlib import Path

import httpx

from tests.eventually import eventually

from .conftest import PAGE, call


def children(pid):
    """The processes that a process has begun, in any of its threads."""
    folder = Path(f"/proc/{pid}/task")
    return {
        int(child) for task in folder.iterdir() for child in (task / "children").read_text().split()
    }


def test_it_ends_with_the_server_however_that_ends(serve):
    """A server that is killed leaves no process behind."""
    server = serve()
    answer = httpx.post(f"{server.url}/api/v1/events", json=[call("1")])
    assert answer.status_code == 204
    eventually(
        lambda: httpx.get(server.url, headers=PAGE, timeout=60).text,
        lambda page: 'role="img"' in page,
    )
    begun = children(server.pid)
    assert begun
    server.kill()

    def is_gone(pid):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        # One that nobody waits for is over as well.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"

    eventually(lambda: [each for each in begun if not is_gone(each)], lambda left: not left)
