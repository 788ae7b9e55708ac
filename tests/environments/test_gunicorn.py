"""gunicorn: forked workers that are killed, replaced and stopped lose no answered request."""

from __future__ import annotations

import os
import signal

import pytest

from .children import assert_all_counted, eventually, sent, web_server

WORKERS = ["sync", "gthread", "gevent"]


@pytest.mark.parametrize("preload", [[], ["--preload"]], ids=["loaded by each", "preloaded"])
@pytest.mark.parametrize("worker", WORKERS)
def test_each_answered_request_is_metered_once(home, server, worker, preload):
    """A worker that is stopped ships what it has; what a killed one had, another one ships.

    `preload_app` loads the application, and meters, before the workers are forked; gevent's
    workers are patched after that.
    """
    with web_server("--worker-class", worker, *preload) as web:
        victim = web.ask_everybody()[0]
        web.ask(5)
        os.kill(victim, signal.SIGKILL)
        eventually(lambda: victim not in web.ask_everybody())
        web.ask(5)
        stderr = web.stop()

    assert "Traceback" not in stderr
    # The replacement is known to have answered, and so to have looked for what was left.
    assert web.ids <= set(sent(server))
    assert_all_counted(home, server, {*web.ids, *sent(server)})


@pytest.mark.parametrize("worker", WORKERS)
def test_a_worker_that_has_had_enough_ships_before_it_goes(home, server, worker):
    """With `max_requests` workers end all the time, each with its events delivered."""
    options = ["--max-requests", "3", "--preload"]
    with web_server("--worker-class", worker, *options) as web:
        answered = web.ask(20)
        assert server.wait_until(lambda: len(server.events) >= 4)
        stderr = web.stop()

    assert "Traceback" not in stderr
    assert len(set(answered)) > 2
    assert web.ids == set(sent(server))
    assert_all_counted(home, server, web.ids)
