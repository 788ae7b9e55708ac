"""Work in a forked child."""

from __future__ import annotations

import os
import signal
import traceback
import warnings
from collections.abc import Callable

TIMEOUT = 20
"""Seconds."""


def in_child(work: Callable[[], bool]) -> bool:
    """Do `work` in a child that was forked here; whether it said True, and did not fail."""
    with warnings.catch_warnings():
        # Python 3.12 warns of a fork beside threads. That is what is tested.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        status = 1
        # A child that hangs ends, and is no success. pytest's own timeout is in its parent.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(TIMEOUT)
        try:
            status = 0 if work() else 2
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    return status == 0
