"""A network that refuses, or never answers, delays no call: a real process, a real socket."""

import json
import os
import socket
import subprocess
import sys
import threading

import pytest

# p50k_base is an encoding that no package brings along.
PROGRAM = """
import json, os, sys, threading, time
from llm_metering.exchange import Exchange, Output
from llm_metering.tokenizers import Encodings, count, guess

exchange = Exchange(
    model="text-davinci-003", request={"prompt": "a" * 40}, output=Output(texts=["b" * 80])
)
encodings = Encodings(download=True, deadline=float(sys.argv[1]))
counted = []
thread = threading.Thread(target=lambda: counted.append(count(exchange, encodings)))
thread.start()
guessed = [guess(exchange) for _ in range(100)]
was_waiting = thread.is_alive()
thread.join()
again = count(exchange, encodings)
print(json.dumps({
    "guessed": [guessed[0].input_tokens, guessed[0].output_tokens, guessed[0].method],
    "was_waiting": was_waiting,
    "counted": [counted[0].input_tokens, counted[0].output_tokens, counted[0].method],
    "again": again == counted[0],
    "folder": os.environ["TIKTOKEN_CACHE_DIR"],
}))
"""
ESTIMATE = [10, 20, "characters"]


def run(tmp_path, port, deadline):
    """Count in a process whose only way out is a proxy on this port."""
    proxy = f"http://127.0.0.1:{port}"
    environment = {
        **{name: value for name, value in os.environ.items() if "proxy" not in name.lower()},
        **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), proxy),
        "TIKTOKEN_CACHE_DIR": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(deadline)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    return json.loads(done.stdout)


@pytest.fixture
def silent_port():
    """A server that accepts connections and says nothing."""
    held = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept():
            while True:
                try:
                    held.append(server.accept()[0])
                except OSError:
                    return

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield server.getsockname()[1], held
        server.shutdown(socket.SHUT_RDWR)
    for connection in held:
        connection.close()
    thread.join()


def test_a_proxy_that_never_answers(tmp_path, silent_port):
    """`count` falls back after its deadline and does not wait again; `guess` never waited.

    The process ends, though its download has not.
    """
    port, held = silent_port

    found = run(tmp_path, port, deadline=2)

    assert len(held) == 1
    assert found["was_waiting"]
    assert found["guessed"] == ESTIMATE
    assert found["counted"] == ESTIMATE
    assert found["again"]
    assert found["folder"] == str(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_network_that_refuses(tmp_path):
    """`count` falls back at once: the deadline, of ten minutes, is never waited for."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

    found = run(tmp_path, port, deadline=600)

    assert found["counted"] == ESTIMATE
    assert found["again"]
