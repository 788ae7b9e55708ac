"""The documentation builds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from llm_metering import Meter

ROOT = Path(__file__).parents[1]


@pytest.mark.timeout(300)
def test_documentation_builds_without_a_warning(tmp_path):
    """Every page is reachable, every reference resolves, all of `Meter` is there."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going"),
            *("-d", tmp_path / "doctrees", ROOT / "docs", tmp_path / "html"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
    shown = (tmp_path / "html" / "reference" / "api.html").read_text()
    public = [name for name in dir(Meter) if not name.startswith("_")]
    assert [name for name in public if f'id="llm_metering.Meter.{name}"' not in shown] == []
