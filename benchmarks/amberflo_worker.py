"""Amberflo's own metering client, recording and shipping to a local server.

Run by `backlog.py` with the interpreter of an environment that has `amberflo-metering-python`.
It reads numbers of records from standard input, one a line, and answers each with the seconds
from the first record to the end of `flush`, and the records that it did not take.

    python amberflo_worker.py PORT
"""

from __future__ import annotations

import importlib
import sys
import time
from typing import Any


def main(port: str) -> None:
    """Meter as its documentation does: the client's defaults, from one thread."""
    ingest: Any = importlib.import_module("metering.ingest")
    session: Any = importlib.import_module("metering.session")
    session.IngestSession.root_url = f"http://127.0.0.1:{port}"
    client = ingest.create_ingest_client(api_key="none")
    print("ready", flush=True)
    for line in sys.stdin:
        begun = time.perf_counter()
        refused = 0
        for number in range(int(line)):
            # Its queue holds 100,000 and refuses the rest.
            refused += not client.meter(
                "total_tokens",
                120,
                int(time.time() * 1000),
                f"customer-{number % 100}",
                {"model": "gpt-5-mini", "provider": "openai"},
            )
        client.flush()
        print(time.perf_counter() - begun, refused, flush=True)
    client.shutdown()


if __name__ == "__main__":
    main(sys.argv[1])
