"""What a call that nobody reported usage for is delayed by, while tokenizer files cannot be had.

The model's encoding is nowhere on this machine, downloads are allowed, and the network either
refuses at once or leads to a proxy that accepts and never answers. Streams of thirty pieces
without usage are read from a model that costs nothing, with our handler and with one that does
nothing, in turn; the difference is the delay. Afterwards each call's event must be in the ledger.

    python benchmarks/no_network.py [CALLS]
"""

from __future__ import annotations

import gc
import importlib.abc
import os
import platform
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

CALLS = 400
GOAL_MS = 1.0
PROXIES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "https_proxy", "http_proxy", "all_proxy")


class NotHere(importlib.abc.MetaPathFinder):
    """Hides the packages that bring tokenizer files along."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Refuse them, pass on the rest."""
        if name in ("llama_index", "litellm"):
            raise ModuleNotFoundError(name)
        return None


def measure(calls: int) -> None:
    """One scenario, in a process of its own."""
    sys.meta_path.insert(0, NotHere())
    from langchain_core.callbacks import BaseCallbackHandler
    from langchain_core.language_models import GenericFakeChatModel
    from langchain_core.messages import AIMessage

    import llm_metering
    from llm_metering.langchain import MeteringHandler

    class NoOp(BaseCallbackHandler):
        def on_llm_new_token(self, *args: Any, **kwargs: Any) -> None:
            """Do nothing."""

    answer = " ".join(f"word{number}" for number in range(15))
    chat = GenericFakeChatModel(messages=iter([]))

    def stream(handler: BaseCallbackHandler) -> float:
        chat.messages = iter([AIMessage(answer)])
        metadata = {"ls_provider": "openai", "ls_model_name": "gpt-5-mini"}
        started = time.perf_counter()
        for _ in chat.stream("A question", {"callbacks": [handler], "metadata": metadata}):
            pass
        return (time.perf_counter() - started) * 1000

    with tempfile.TemporaryDirectory() as home:
        meter = llm_metering.configure(home=Path(home) / "home", sinks=(), tokenizer_download=True)
        handlers = {"no-op": NoOp(), "ours": MeteringHandler("customer-42")}
        for _ in range(5):
            stream(handlers["no-op"])
        times: dict[str, list[float]] = {name: [] for name in handlers}
        # A full collection takes 60 ms and strikes either of the two, whoever made the garbage.
        gc.collect()
        gc.disable()
        for _ in range(calls):
            for name in random.sample(list(handlers), 2):
                times[name].append(stream(handlers[name]))
        started = time.perf_counter()
        delivered = meter.flush(60)
        flushed = time.perf_counter() - started
        events = meter.usage("calls_total", group_by=["provenance", "count_method"]).rows
        report(times)
        print(f"  flush: {delivered} after {flushed:.2f} s; events in the ledger:")
        for row in events:
            print(f"    {row.value} {row.group_by}")
        if sum(row.value for row in events) != calls:
            raise SystemExit("events are missing")
        llm_metering.close()


def report(times: dict[str, list[float]]) -> None:
    """Print the two rows and their difference."""

    def at(share: float) -> Callable[[list[float]], float]:
        return lambda each: sorted(each)[min(int(len(each) * share), len(each) - 1)]

    statistics_of: dict[str, Callable[[list[float]], float]] = {
        "first": lambda each: each[0],
        "median": statistics.median,
        "p99": at(0.99),
        "max": max,
    }
    print(f"  {'milliseconds':14}" + "".join(f"{name:>9}" for name in statistics_of))
    rows = {
        name: [figure(each) for figure in statistics_of.values()] for name, each in times.items()
    }
    rows["delay"] = [ours - none for ours, none in zip(rows["ours"], rows["no-op"], strict=True)]
    for name, row in rows.items():
        print(f"  {name:14}" + "".join(f"{value:9.3f}" for value in row))
    print(f"  delay of the median: {rows['delay'][1] / GOAL_MS:.1%} of the {GOAL_MS:g} ms allowed")


def main() -> None:
    """Run both scenarios."""
    calls = sys.argv[1] if len(sys.argv) > 1 else str(CALLS)
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    print(f"{cpu}, {os.cpu_count()} cores, Python {platform.python_version()}, {calls} calls each")
    with socket.socket() as silent, socket.socket() as closed:
        silent.bind(("127.0.0.1", 0))
        silent.listen(100)
        closed.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        for name, listener in {
            "network refused": closed,
            "proxy that never answers": silent,
        }.items():
            proxy = f"http://127.0.0.1:{listener.getsockname()[1]}"
            environment = {**os.environ, **dict.fromkeys(PROXIES, proxy)}
            environment.pop("TIKTOKEN_CACHE_DIR", None)
            environment.pop("NO_PROXY", None)
            with tempfile.TemporaryDirectory() as cache:
                environment |= {"TMPDIR": cache, "LLM_METERING_HOME": cache}
                print(name, flush=True)
                command = [sys.executable, __file__, "--measure", calls]
                subprocess.run(command, env=environment, check=True)


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] == "--measure":
        measure(int(sys.argv[2]))
    else:
        main()
