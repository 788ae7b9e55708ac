"""The command line: which cells to fill, and the table of them."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from .clients import CLIENTS, CONTROL, OURS
from .harness import Outcome, run, versions_of
from .scenarios import SCENARIOS, quick


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.losses", description=__doc__)
    parser.add_argument(
        "--python",
        default=sys.executable,
        help="the interpreter that has the peers (benchmarks/requirements-peers.txt)",
    )
    parser.add_argument("--only", action="append", choices=CLIENTS, metavar="CLIENT")
    parser.add_argument("--scenario", action="append", choices=SCENARIOS, metavar="NAME")
    parser.add_argument("--quick", action="store_true", help="a tenth of the events and outages")
    parser.add_argument("--jobs", type=int, default=2, help="cells at a time")
    parser.add_argument("--format", choices=("table", "json"), default="table")
    return parser.parse_args()


def processor() -> str:
    """The processor's name, where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def cell(outcome: Outcome | None) -> str:
    """An outcome in a few words: lost, what the next start delivered, what came twice."""
    if outcome is None:
        return ""
    if outcome.errors:
        return "no result"
    words = [f"{outcome.lost:,}"]
    if outcome.pending > outcome.lost:
        words.append(f"({outcome.pending - outcome.lost:,} by the next start)")
    if outcome.duplicates:
        words.append(f"/ {outcome.duplicates:,} twice")
    if outcome.renamed:
        words.append(f"/ {outcome.renamed:,} renamed")
    if outcome.killed:
        words.append("(killed)")
    return " ".join(words)


def table(outcomes: Iterable[Outcome], versions: Mapping[str, str | None]) -> str:
    """Markdown: clients down, scenarios across."""
    cells = {(each.client, each.scenario): each for each in outcomes}
    columns = [name for name in SCENARIOS if any(column == name for _, column in cells)]
    rows = [["lost", *(SCENARIOS[name].title for name in columns)]]
    for client in CLIENTS:
        if any(row == client for row, _ in cells):
            title = f"{client} {versions[client] or ''}".strip()
            rows.append([title, *(cell(cells.get((client, name))) for name in columns)])
    rows.insert(1, ["---"] * len(rows[0]))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> int:
    """Fill the cells; 1 if ours lost anything or a cell could not be filled."""
    asked = arguments()
    pythons = {
        name: sys.executable if name in (OURS, CONTROL) else asked.python for name in CLIENTS
    }
    installed = {python: versions_of(python) for python in set(pythons.values())}
    versions = {name: installed[python][name] for name, python in pythons.items()}
    chosen = [name for name in CLIENTS if not asked.only or name in asked.only]
    for name in chosen:
        if versions[name] is None:
            print(f"{name}: {CLIENTS[name].distribution} is not installed", file=sys.stderr)
    cells = [
        (client, name)
        for client in chosen
        if versions[client] is not None
        for name in SCENARIOS
        if not asked.scenario or name in asked.scenario
    ]
    outcomes = fill(cells, pythons, short=asked.quick, jobs=asked.jobs)
    if asked.format == "json":
        print(json.dumps([asdict(outcome) for outcome in outcomes], indent=1))
    else:
        print(f"{processor()}, {os.cpu_count()} cores, {platform.platform()}")
        print(f"Python {platform.python_version()}{', quick' if asked.quick else ''}\n")
        print(table(outcomes, versions))
    failed = [each for each in outcomes if each.errors]
    for each in failed:
        print(f"{each.client}, {each.scenario}: {'; '.join(each.errors[:3])}", file=sys.stderr)
    ours = [each for each in outcomes if each.client == OURS]
    return int(bool(failed) or any(each.lost or each.renamed for each in ours))


def fill(
    cells: Sequence[tuple[str, str]], pythons: Mapping[str, str], *, short: bool, jobs: int
) -> list[Outcome]:
    """Run the cells, some at a time: most of the time they wait for something."""
    lock = threading.Lock()

    def one(cell_: tuple[str, str]) -> Outcome:
        client, name = cell_
        scenario = quick(SCENARIOS[name]) if short else SCENARIOS[name]
        outcome = run(pythons[client], client, name, scenario)
        with lock:
            print(json.dumps(asdict(outcome)), file=sys.stderr, flush=True)
        return outcome

    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(one, cells))


if __name__ == "__main__":
    sys.exit(main())
