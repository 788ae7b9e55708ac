"""The child process of `ModelServer`: llama.cpp's own HTTP server, for as long as its parent lives.

It is run as a script and imports nothing of this library, so that it starts at once and its
parent never loads xllamacpp. When the server answers, its address is in the file `address` of
the folder it was given. It ends when its stdin does, which the parent holds open, and when
the parent's process id is no longer its parent's: a process forked off the parent may hold a
copy of that pipe.

Source of the parameters: xllamacpp 2026.10.11549, `CommonParams` and `Server`
(https://github.com/xorbitsai/xllamacpp).
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

__all__ = ["main"]

PARENT_CHECK_INTERVAL = 0.5
"""Seconds between two looks at who our parent is."""


def main() -> None:
    """Serve until the parent is gone."""
    arguments = _parser().parse_args()
    # Ctrl-C goes to every process of the terminal; when to stop is the parent's decision.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_stdin, args=(arguments.folder,), daemon=True).start()
    server = _start(arguments)  # it serves for as long as this object lives
    _publish(arguments.folder, server.listening_address)
    while os.name != "posix" or os.getppid() == arguments.parent:
        time.sleep(PARENT_CHECK_INTERVAL)
    _end(arguments.folder)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--alias", required=True)
    parser.add_argument("--parallel", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--context", type=int, required=True)
    parser.add_argument("--answer-limit", type=int, required=True)
    return parser


def _start(arguments: argparse.Namespace) -> Any:
    # Imported here, so that tools which import every module load no hundred megabytes of it.
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(arguments.model)
    parameters.model_alias = {arguments.alias}
    parameters.hostnames = ["127.0.0.1"]
    # The kernel picks a free port while the server binds it: nobody can take it in between.
    parameters.port = 0
    parameters.n_parallel = arguments.parallel
    parameters.n_ctx = arguments.context * arguments.parallel
    parameters.n_predict = arguments.answer_limit
    parameters.cpuparams.n_threads = arguments.threads
    # Else it measures the machine's memory first and shrinks the context to fit.
    parameters.fit_params = False
    # The default lets prompts of finished requests take up 8 GiB.
    parameters.cache_ram_mib = 64
    parameters.offline = True
    parameters.ui = False
    parameters.endpoint_metrics = True
    # It shows prompts to whoever asks; `/metrics` says as well whether a request is running.
    parameters.endpoint_slots = False
    return xllamacpp.Server(parameters)


def _publish(folder: Path, address: str) -> None:
    unfinished = folder / "address.part"
    unfinished.write_text(address, encoding="ascii")
    # Renamed in one step, or the parent might read half an address.
    unfinished.replace(folder / "address")


def _end_with_stdin(folder: Path) -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    _end(folder)


def _end(folder: Path) -> None:
    # A killed parent cannot clear up after us; a living one finds nothing left to do.
    shutil.rmtree(folder, ignore_errors=True)
    # At once: the server's own shutdown waits for the answers it is generating.
    os._exit(0)


if __name__ == "__main__":
    main()
