"""Applications that die or live on, and the command line beside them, as an operator sees both."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from contextlib import contextmanager

APPLICATION = """
    import sys
    from llm_metering import Meter, TokenUsage
    from llm_metering.settings import load_settings
    from llm_metering.sinks import Delivery, open_sink

    def refuse(batch):
        return Delivery(rejected=frozenset((each.id, "400 Bad Request") for each in batch))

    meter = Meter()
    if sys.argv[3] == "refused":
        # Not by the server: how many tries it takes to be sure that it refuses is not the matter.
        settings = load_settings()
        sink = open_sink(settings.sinks[0], source=settings.source)
        sink.deliver = refuse
        meter.close()
        meter = Meter(sinks=[sink])
    for number in range(int(sys.argv[2])):
        meter.record(
            TokenUsage(input_tokens=10, output_tokens=number), sys.argv[1], model="tiny"
        )
    if sys.argv[3]:
        meter.flush(20)
    print("recorded", flush=True)
    sys.stdin.read()
    """


class Site:
    """A home, and the processes of one application on it.

    Args:
        home: The home.
        sink_url: Where its usage goes, besides the ledger.
    """

    def __init__(self, home, sink_url=""):
        self.home = home
        self.environment = {
            **os.environ,
            "LLM_METERING_HOME": str(home),
            "LLM_METERING_SINKS": sink_url,
            "NO_PROXY": "127.0.0.1",
        }

    @contextmanager
    def application(self, events, subject="acme", how=""):
        """A process that has recorded so many events, and lives until it is killed at the end."""
        command = [sys.executable, "-c", textwrap.dedent(APPLICATION), subject, str(events), how]
        with subprocess.Popen(
            command,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as process:
            assert process.stdout.readline() == "recorded\n"
            try:
                yield process
            finally:
                process.send_signal(signal.SIGKILL)

    def crash(self, events, subject="acme", how=""):
        """Have a process record so many events, and kill it."""
        with self.application(events, subject, how):
            pass

    def run(self, *arguments, stdin=subprocess.DEVNULL, **variables):
        """Run a command of `llm-metering` in a process of its own."""
        return subprocess.run(
            [sys.executable, "-m", "llm_metering", *map(str, arguments)],
            env={**self.environment, **variables},
            cwd=self.home.parent,
            stdin=stdin,
            capture_output=True,
            text=True,
            check=False,
        )

    def ask(self, *arguments, code=0, **variables):
        """Run a command that ends with that exit code; its JSON."""
        done = self.run(*arguments, "--format", "json", **variables)
        assert (done.returncode, done.stderr) == (code, "")
        return json.loads(done.stdout)

    def refused(self, *arguments, **variables):
        """Run a command that cannot be done; the one line that says why."""
        done = self.run(*arguments, **variables)
        assert (done.returncode, done.stdout) == (2, "")
        assert "Traceback" not in done.stderr
        return done.stderr

    def counts(self, name="openmeter"):
        """The counts of one sink, from `status`; they add up."""
        (row,) = (row for row in self.ask("status")["sinks"] if row["name"] == name)
        counts = {key: row[key] for key in ("acked", "pending", "dead", "dropped")}
        assert row["recorded"] == sum(counts.values())
        assert min(counts.values()) >= 0
        return {key: count for key, count in counts.items() if count}
