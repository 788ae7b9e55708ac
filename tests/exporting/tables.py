"""Reading tables back."""

from __future__ import annotations

import csv
import io
from pathlib import Path


def rows_of_csv(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text("utf-8"), newline="")))
