"""Runs a file of Flink SQL in a cluster of its own, until it is killed.

usage: python run_statements.py FILE KEY=VALUE…

It takes what Flink's own SQL client takes as far as the documentation uses it: `SET` and one
statement after another, each up to a semicolon at the end of its line. A failed job ends it.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from pyflink.table import EnvironmentSettings, TableEnvironment

_SETTING = re.compile(r"SET '([^']+)' = '([^']+)'")


def main(path: str, *options: str) -> None:
    table_environment = TableEnvironment.create(EnvironmentSettings.in_streaming_mode())
    config = table_environment.get_config()
    for option in options:
        config.set(*option.split("=", 1))
    for statement in statements(Path(path).read_text("utf-8")):
        if setting := _SETTING.fullmatch(statement):
            config.set(*setting.groups())
            continue
        if statement.startswith("INSERT"):
            sys.stdout.write(table_environment.explain_sql(statement))
        result = table_environment.execute_sql(statement)
        if statement.startswith("INSERT"):
            result.wait()


def statements(text: str) -> list[str]:
    """The statements of a file, without comments that have a line of their own."""
    code = "".join(
        line for line in text.splitlines(keepends=True) if not line.lstrip().startswith("--")
    )
    return [each.strip() for each in re.split(r";\n", code) if each.strip()]


if __name__ == "__main__":
    main(*sys.argv[1:])
