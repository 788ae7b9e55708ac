"""Run the provider until its standard input ends; the first line it prints is its port."""

from __future__ import annotations

import sys
import threading

from .server import Server


def main() -> None:
    """Serve."""
    server = Server()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdout.write(f"{server.server_address[1]}\n")
    sys.stdout.flush()
    # It ends with the process that started it, however that one ends.
    sys.stdin.read()


if __name__ == "__main__":
    main()
