"""Running the server: where it listens, with how many processes, and who may reach it without a key."""

from __future__ import annotations

import gc
import ipaddress
import json
import logging
import multiprocessing.connection
import os
import signal
import socket
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import uvicorn
from fastapi import FastAPI
from uvicorn.supervisors import Multiprocess

from ..access import ApiKeys
from ..errors import ConfigurationError
from ..handoff import DaemonThread
from ..meter import Meter
from .app import CLOSE_TIMEOUT, create_app
from .measures import SHARED_FOLDER
from .options import ServerOptions
from .protocol import TimedProtocol

__all__ = ["Address", "check_reachable", "is_loopback", "log_to_stderr", "run", "worker"]

_WORK: Final = "LLM_METERING_SERVER_WORK"
_MOST_CONNECTIONS: Final = 1000
_BACKLOG: Final = 1024

SWITCH_INTERVAL: Final = 0.001
"""Seconds; of `sys.setswitchinterval`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a server listens.

    Attributes:
        host: A name or an address.
        port: 0 is any that is free.
        certificate: A file with the certificate, and those between; without it, plain HTTP.
        private_key: The file with its key.
    """

    host: str = "127.0.0.1"
    port: int = 8787
    certificate: Path | None = None
    private_key: Path | None = None


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a host."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def run(home: Path | None, address: Address, options: ServerOptions, *, workers: int = 1) -> None:
    """Serve until somebody says to stop; requests under way are answered first.

    Args:
        home: The home; as the settings say, if left out.
        address: Where.
        options: How much is taken.
        workers: How many processes.

    Raises:
        OSError: If it cannot listen there.
    """
    work = json.dumps({"home": None if home is None else str(home), "options": asdict(options)})
    config = uvicorn.Config(
        f"{__name__}:worker",
        factory=True,
        http=TimedProtocol,
        ws="none",
        loop="asyncio",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        workers=workers,
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=int(CLOSE_TIMEOUT),
        ssl_certfile=address.certificate,
        ssl_keyfile=address.private_key,
    )
    listening = _listen(address)
    os.environ[_WORK] = work
    host, port = listening.getsockname()[:2]
    kind = "http" if address.certificate is None else "https"
    shown = f"[{host}]" if ":" in host else host
    logging.getLogger("llm_metering").info("listening on %s://%s:%s", kind, shown, port)
    # uvicorn ends what it does in an orderly way, and raises the signal again: then all is done.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    if workers == 1:
        uvicorn.Server(config).run(sockets=[listening])
        return
    with tempfile.TemporaryDirectory(prefix="llm-metering-") as folder:
        # Before a worker imports prometheus_client, which looks for it then.
        os.environ[SHARED_FOLDER] = folder
        Multiprocess(config, sockets=[listening]).run()


def check_reachable(home: Path, host: str) -> bool:
    """Whether keys are required of all who reach a host.

    Raises:
        ConfigurationError: If they are, and there is none.
    """
    if is_loopback(host):
        return False
    if not ApiKeys(home).all():
        raise ConfigurationError(
            "host",
            f"other machines reach {host}, and there is no API key: make one first "
            "(llm-metering keys create), or listen on 127.0.0.1",
        )
    return True


def log_to_stderr() -> None:
    """Have warnings, and where it listens, on the standard error, where systemd and containers look."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    for name in ("httpx", "uvicorn"):
        logging.getLogger(name).setLevel(logging.WARNING)


def worker() -> FastAPI:
    """The application of one process of the server."""
    log_to_stderr()
    _end_with_parent()
    # A thread that computes gives the interpreter up after this long, not after 5 ms: an answer is a few
    # changes of threads, and the ledger's computes most of the time. What was imported is looked through
    # by no collection any more, which took some 60 ms. Measured: the slowest of a hundred requests waits
    # for 75 ms instead of 100.
    sys.setswitchinterval(SWITCH_INTERVAL)
    gc.collect()
    gc.freeze()
    work: dict[str, Any] = json.loads(os.environ[_WORK])
    meter = Meter(home=work["home"])
    options = ServerOptions(**{**work["options"], "hosts": tuple(work["options"]["hosts"])})
    return create_app(meter, options, closes_meter=True)


def _end_with_parent() -> None:
    """Have a worker stop when the process that minds it is gone: nobody else would ever stop it."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def wait() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)

    DaemonThread(wait, name="llm-metering-parent").start()


def _listen(address: Address) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((address.host.strip("[]"), address.port))
        listening.set_inheritable(True)
        # From here on who connects waits until the application is there, and is not refused.
        listening.listen(_BACKLOG)
    except BaseException:
        listening.close()
        raise
    return listening
