"""The fake server in a process of its own: its command line, and how others reach into it."""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ..faults import fault_from
from ..received import Received
from .ingest import Answer, problem_answer
from .wire import ADMIN

if TYPE_CHECKING:
    from ..server import OpenMeterServer

__all__ = ["administer", "serve"]

_HELP: Final = f"""
The first line of the output is the server's address. Beside OpenMeter's paths there are:

  GET    {ADMIN}state    what was received and counted
  POST   {ADMIN}orders   {{"faults": [{{"fault": "Refuse", "status": 503}}], "times": 2}}
  DELETE {ADMIN}orders   forget all orders
  POST   {ADMIN}release  let requests that hang go on
  POST   {ADMIN}events   store an array of events as they are
  POST   {ADMIN}catch-up store what Lag held back
  DELETE {ADMIN}claims   forget the ids that ClaimBeforeWrite noted
  DELETE {ADMIN}ids      forget all ids that deduplication knows
"""
_ORDER: Final = frozenset(["faults", "times", "to", "chance", "seed"])


def administer(server: OpenMeterServer, method: str, path: str, body: bytes) -> Answer:
    """Answer a request that is about the server itself.

    Args:
        server: The server.
        method: The request's method.
        path: Its path.
        body: Its body.
    """
    match method, path.removeprefix(ADMIN):
        case "GET", "state":
            return _json(_state(server))
        case "POST", "orders":
            try:
                _order(server, json.loads(body))
            except (ValueError, TypeError) as error:
                return problem_answer("v1", 400, str(error))
            return _json({})
        case "DELETE", "orders":
            server.clear()
            return _json({})
        case "POST", "release":
            return _json({"released": server.release()})
        case "POST", "events":
            try:
                return _json({"stored": server.preload(json.loads(body))})
            except (ValueError, TypeError, KeyError) as error:
                return problem_answer("v1", 400, f"no array of events: {error}")
        case "POST", "catch-up":
            return _json({"stored": server.catch_up()})
        case "DELETE", "claims":
            return _json({"forgotten": server.forget_claims()})
        case "DELETE", "ids":
            server.forget_ids()
            return _json({})
    return problem_answer("v1", 404, f"no such path: {method} {path}")


def _order(server: OpenMeterServer, document: Any) -> None:
    if not isinstance(document, dict) or not document.keys() <= _ORDER:
        raise ValueError(f"an order is an object with {', '.join(sorted(_ORDER))}")
    faults = [fault_from(each) for each in document.pop("faults", [])]
    server.order(*faults, **document)


def _state(server: OpenMeterServer) -> dict[str, Any]:
    return {
        "events": server.events,
        "received": [_summary(each) for each in server.received],
        "violations": server.violations,
        "hanging": server.hanging,
    }


def _summary(request: Received) -> dict[str, Any]:
    return {
        "method": request.method,
        "path": request.path,
        "status": request.status,
        "detail": request.detail,
        "ids": request.ids,
    }


def _json(document: Any) -> Answer:
    return Answer(200, {"Content-Type": "application/json"}, json.dumps(document).encode())


def serve(make: type[OpenMeterServer], arguments: Sequence[str] | None) -> None:
    """Run a server until SIGINT or SIGTERM.

    Args:
        make: The class of the server.
        arguments: Of the command line; those of this process if left out.
    """
    parsed = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _leave)
    server = make(
        token=parsed.token,
        dedupe=not parsed.no_dedupe,
        port=parsed.port,
        file=parsed.file,
        meters=json.loads(Path(parsed.meters).read_text("utf-8")) if parsed.meters else (),
        customers=parsed.customer,
        cursors=parsed.cursors,
    )
    with contextlib.suppress(KeyboardInterrupt), server:
        sys.stdout.write(f"{server.url}\n")
        sys.stdout.flush()
        threading.Event().wait()


def _leave(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m llm_metering.testing.server",
        description="A fake OpenMeter server on 127.0.0.1, for tests.",
        epilog=_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--port", type=int, default=0, help="where to listen (default: any)")
    parser.add_argument("--token", help="the bearer token to ask for")
    parser.add_argument("--no-dedupe", action="store_true", help="count an event each time")
    parser.add_argument("--file", help="keep what is counted in this file as well")
    parser.add_argument("--meters", help="a JSON file with an array of its meters")
    parser.add_argument(
        "--customer", action="append", default=[], help="a subject that is a customer's; repeatable"
    )
    parser.add_argument(
        "--cursors", choices=["row", "id"], default="row", help="what cursors of lists are made of"
    )
    return parser
