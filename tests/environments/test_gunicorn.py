"""gunicorn: forked workers that are killed, replaced and stopped lose no answered request."""

from __future__ import annotations

import os
import signal

import pytest

from tests.transport.harness import ids_on_disk

from .children import assert_all_counted, eventually, sent, ships_at_its_end, web_server

KINDS = [
    pytest.param("sync", [], id="sync"),
    pytest.param("sync", ["--preload"], id="sync preloaded"),
    pytest.param("gthread", ["--threads", "2"], id="gthread"),
    pytest.param("gthread", ["--threads", "2", "--preload"], id="gthread preloaded"),
    pytest.param("gevent", ["--preload"], id="gevent preloaded"),
]


@pytest.mark.parametrize(("worker", "options"), KINDS)
def test_each_answered_request_is_metered_once(home, server, worker, options):
    """A worker that is stopped ships what it has; what a killed one had, another one ships.

    `preload_app` loads the application, and meters, before the workers are forked; gevent's
    workers are patched after that.
    """
    with web_server("--worker-class", worker, *options) as web:
        victim = web.ask_everybody()[0]
        web.ask(5)
        os.kill(victim, signal.SIGKILL)
        eventually(lambda: victim not in web.ask_everybody())
        web.ask(5)
        stderr = web.stop()

    assert "Traceback" not in stderr
    if ships_at_its_end(worker):
        # The replacement is known to have answered, and so to have looked for what was left.
        assert web.ids <= set(sent(server))
    assert_all_counted(home, server, {*web.ids, *sent(server), *ids_on_disk(home)})


@pytest.mark.parametrize("worker", ["sync", "gevent"])
def test_a_worker_that_has_had_enough_ships_before_it_goes(home, server, worker):
    """With `max_requests` workers end all the time, each with its events delivered."""
    options = ["--max-requests", "3", "--preload"]
    with web_server("--worker-class", worker, *options) as web:
        answered: set[int] = set()
        eventually(lambda: answered.update(web.ask()) or len(answered) > 2)
        assert server.wait_until(lambda: len(server.events) >= 4)
        stderr = web.stop()

    assert "Traceback" not in stderr
    if ships_at_its_end(worker):
        assert web.ids == set(sent(server))
    assert_all_counted(home, server, web.ids)
