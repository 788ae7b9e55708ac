"""Amberflo's own metering client, recording and shipping to a local server.

Run by `backlog.py` with the interpreter of an environment that has `amberflo-metering-python`.
It reads numbers of calls from standard input, one a line, and answers each with the seconds from
the first record to the end of `flush`, and the calls that it did not take whole. One record of its
API is one number of one meter: a call of which input and output are priced apart is two records.

    python amberflo_worker.py PORT total|kinds
"""

from __future__ import annotations

import importlib
import sys
import time
from typing import Any

METERS = {
    "total": {"total_tokens": 120},
    "kinds": {"input_tokens": 100, "output_tokens": 20},
}


def main(port: str, meters: str) -> None:
    """Meter as its documentation does: the client's defaults, from one thread."""
    ingest: Any = importlib.import_module("metering.ingest")
    session: Any = importlib.import_module("metering.session")
    counts = tuple(METERS[meters].items())
    session.IngestSession.root_url = f"http://127.0.0.1:{port}"
    client = ingest.create_ingest_client(api_key="none")
    print("ready", flush=True)
    for line in sys.stdin:
        begun = time.perf_counter()
        refused = 0
        for number in range(int(line)):
            now = int(time.time() * 1000)
            # Its queue holds 100,000 and refuses the rest.
            taken = [
                client.meter(
                    name,
                    count,
                    now,
                    f"customer-{number % 100}",
                    {"model": "gpt-5-mini", "provider": "openai", "feature": "search"},
                )
                for name, count in counts
            ]
            refused += not all(taken)
        client.flush()
        print(time.perf_counter() - begun, refused, flush=True)
    client.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
