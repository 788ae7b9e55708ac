"""The demo as a newcomer runs it, with the model that comes with it."""

import json
import subprocess
import sys


def test_the_demo_agrees_with_the_real_model(tmp_path):
    """`llm-metering demo`, twice in one home: both times our totals are the server's."""
    for _ in range(2):
        command = [sys.executable, "-m", "llm_metering", "demo", "--format", "json"]
        done = subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
            env={"LLM_METERING_HOME": str(tmp_path)},
        )

        assert done.returncode == 0, done.stderr
        result = json.loads(done.stdout)
        assert result["agree"]
        assert result["metered"]["calls"] == result["server"]["calls"] == 24
        assert result["abandoned"]["provenance"] == "estimated"
