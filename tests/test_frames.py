"""A report as columns: data frames, Arrow and CSV."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pandas
import polars
import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_metering.errors import MissingExtraError
from llm_metering.meters import MeterDefinition, UsageReport, UsageRow, usage_query

BERLIN = ZoneInfo("Europe/Berlin")
# The hour that clocks in Berlin show twice.
TWICE = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)
READERS = ["to_pandas", "to_polars", "to_arrow"]


def report(*values, meter="tokens_total", groups=None, time_zone="UTC", **question):
    """A report with one row of an hour for each value."""
    query = usage_query(meter, time_zone=time_zone, **question)
    rows = tuple(
        UsageRow(
            value=value,
            window_start=TWICE + number * HOUR,
            window_end=TWICE + (number + 1) * HOUR,
            subject=f"customer-{number}" if query.by_subject else None,
            group_by=(groups or [{}])[number % len(groups or [{}])],
        )
        for number, value in enumerate(values)
    )
    return UsageReport(query=query, rows=rows)


def as_lists(table):
    """The columns of any of the three as lists, with what is missing as `None`."""
    if isinstance(table, pandas.DataFrame):
        plain = table.astype(object).where(table.notna(), None)
        return {name: list(plain[name]) for name in plain}
    columns = table.to_pydict() if isinstance(table, pyarrow.Table) else table.to_dict()
    return {name: list(column) for name, column in columns.items()}


def instants(cells):
    """Times in UTC: Python finds an hour that clocks show twice unequal to any in another zone."""
    return [cell.astimezone(UTC) for cell in cells]


def value_type(table):
    """The type of the values, in words."""
    if isinstance(table, pyarrow.Table):
        return str(table.schema.field("value").type)
    return str(table["value"].dtype)


@pytest.mark.parametrize("reader", READERS)
def test_a_table_has_the_rows(reader):
    """Windows, subject, keys and value stand in their columns, in the order of the rows."""
    asked = report(
        *(7, 0),
        group_by=["model", "subject", "provider"],
        groups=[{"model": "gpt-4o", "provider": "openai"}, {"model": "llama", "provider": None}],
    )

    table = getattr(asked, reader)()

    assert as_lists(table) == {
        "window_start": [TWICE, TWICE + HOUR],
        "window_end": [TWICE + HOUR, TWICE + 2 * HOUR],
        "subject": ["customer-0", "customer-1"],
        "model": ["gpt-4o", "llama"],
        "provider": ["openai", None],
        "value": [7, 0],
    }


def test_the_types_of_columns():
    """What a program relies on: times with a zone, texts, whole numbers."""
    asked = report(7, group_by="model", groups=[{"model": "gpt-4o"}], time_zone="Europe/Berlin")

    assert asked.to_pandas().dtypes.map(str).to_dict() == {
        "window_start": "datetime64[us, Europe/Berlin]",
        "window_end": "datetime64[us, Europe/Berlin]",
        "model": "string",
        "value": "int64",
    }
    assert asked.to_polars().schema == {
        "window_start": polars.Datetime("us", "Europe/Berlin"),
        "window_end": polars.Datetime("us", "Europe/Berlin"),
        "model": polars.String(),
        "value": polars.Int64(),
    }
    assert {each.name: str(each.type) for each in asked.to_arrow().schema} == {
        "window_start": "timestamp[us, tz=Europe/Berlin]",
        "window_end": "timestamp[us, tz=Europe/Berlin]",
        "model": "string",
        "value": "int64",
    }


@pytest.mark.parametrize("reader", READERS)
def test_an_empty_report_keeps_columns_and_types(reader):
    """A month without usage is a table without rows, which goes together with any other."""
    question = {"group_by": ["subject", "model"], "time_zone": "Europe/Berlin"}

    empty = getattr(report(**question), reader)()
    full = getattr(report(7, groups=[{"model": "gpt-4o"}], **question), reader)()

    assert len(empty) == 0
    if reader == "to_pandas":
        assert list(empty.dtypes.items()) == list(full.dtypes.items())
    else:
        assert empty.schema == full.schema


@pytest.mark.parametrize("reader", READERS)
def test_times_are_shown_where_they_were_asked_for(reader):
    """An hour that clocks show twice stays two hours, with two offsets."""
    table = getattr(report(1, 2, time_zone="Europe/Berlin", window="HOUR"), reader)()

    starts = as_lists(table)["window_start"]
    assert instants(starts) == [TWICE, TWICE + HOUR]
    assert [start.isoformat()[11:] for start in starts] == ["02:30:00+02:00", "02:30:00+01:00"]


@pytest.mark.parametrize(
    ("values", "types"),
    [
        pytest.param((), ("int64", "Int64", "int64"), id="none"),
        pytest.param((-(2**63), 2**63 - 1), ("int64", "Int64", "int64"), id="64 bits"),
        pytest.param(
            (2**63, 1),
            ("object", "Decimal(precision=38, scale=0)", "decimal128(38, 0)"),
            id="more than 64 bits",
        ),
        pytest.param((1, 0.5), ("float64", "Float64", "double"), id="a fraction"),
        pytest.param((2**130, 1), ("float64", "Float64", "double"), id="more than 38 digits"),
    ],
)
def test_the_type_of_values_holds_them_all(values, types):
    """Whole numbers stay exact as long as a type has room for them."""
    asked = report(*values)

    tables = [getattr(asked, reader)() for reader in READERS]

    assert tuple(map(value_type, tables)) == types
    assert [as_lists(table)["value"] for table in tables] == [list(values)] * 3


@pytest.mark.parametrize("reader", READERS)
def test_a_mean_is_a_float_even_where_it_is_whole(reader):
    """What is asked again every day does not change its type by chance."""
    mean = MeterDefinition(slug="mean", aggregation="AVG", value_property="$.total_tokens")

    assert value_type(getattr(report(7, meter=mean), reader)()) in ("float64", "Float64", "double")


@pytest.mark.parametrize("reader", [*READERS, "to_csv"])
@pytest.mark.parametrize(
    ("keys", "columns"),
    [
        pytest.param(
            ["value", "window_end", "data.value"],
            ["data.value", "data.window_end", "data.data.value"],
            id="ours first",
        ),
        pytest.param(["data.value", "value"], ["data.value", "data.data.value"], id="theirs first"),
    ],
)
def test_a_key_may_be_called_like_a_column(keys, columns, reader):
    """No column hides another: the user's own is told apart by what stands before its name."""
    asked = report(7, group_by=keys, groups=[{key: f"of {key}" for key in keys}])

    table = getattr(asked, reader)()

    if reader == "to_csv":
        (cells,) = csv.DictReader(io.StringIO(table))
    else:
        cells = {name: column[0] for name, column in as_lists(table).items()}
    assert list(cells) == ["window_start", "window_end", *columns, "value"]
    assert str(cells["value"]) == "7"
    assert [cells[column] for column in columns] == [f"of {key}" for key in keys]


def test_csv_is_written_as_openmeter_writes_it():
    """Its titles and order; what needs quotes has them, and nothing is rounded."""
    asked = report(
        *(7, 0.1, 2**70),
        group_by=["subject", "model"],
        groups=[{"model": 'a "big", model'}, {"model": None}, {"model": "two\nlines"}],
    )

    assert asked.to_csv() == (
        "window_start,window_end,subject,model,value\n"
        '2026-10-25T00:30:00Z,2026-10-25T01:30:00Z,customer-0,"a ""big"", model",7\n'
        "2026-10-25T01:30:00Z,2026-10-25T02:30:00Z,customer-1,,0.1\n"
        "2026-10-25T02:30:00Z,2026-10-25T03:30:00Z,customer-2,"
        '"two\nlines",1180591620717411303424\n'
    )


def test_csv_in_a_time_zone_has_its_offsets():
    """A time can be read without knowing what was asked."""
    asked = report(1, 2, time_zone="Europe/Berlin")

    assert asked.to_csv() == (
        "window_start,window_end,value\n"
        "2026-10-25T02:30:00+02:00,2026-10-25T02:30:00+01:00,1\n"
        "2026-10-25T02:30:00+01:00,2026-10-25T03:30:00+01:00,2\n"
    )


@given(
    st.lists(
        st.tuples(
            st.datetimes(
                min_value=datetime(1970, 1, 2),
                max_value=datetime(2037, 1, 1),
                timezones=st.just(UTC),
            ),
            st.none() | st.text(st.characters(codec="utf-8", exclude_characters="\0")),
            st.integers(-(10**20), 10**20) | st.floats(allow_nan=False, allow_infinity=False),
        ),
        max_size=8,
    ),
    st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kolkata", "Pacific/Apia"]),
)
def test_all_tables_say_the_same(lines, zone):
    """Whatever the rows, the three tables and the CSV hold the same instants, texts and numbers."""
    asked = UsageReport(
        query=usage_query(group_by="key", time_zone=zone),
        rows=tuple(
            UsageRow(value=value, window_start=time, window_end=time, group_by={"key": key})
            for time, key, value in lines
        ),
    )
    exact = all(isinstance(value, int) for _, _, value in lines)
    written = list(csv.DictReader(io.StringIO(asked.to_csv(), newline="")))

    for reader in READERS:
        columns = as_lists(getattr(asked, reader)())
        times = [time for time, _, _ in lines]
        assert instants(columns["window_start"]) == times
        assert instants(columns["window_end"]) == times
        assert columns["key"] == [key for _, key, _ in lines]
        assert columns["value"] == [value if exact else float(value) for _, _, value in lines]
    assert [datetime.fromisoformat(line["window_start"]) for line in written] == [
        time for time, _, _ in lines
    ]
    assert [line["key"] for line in written] == [key or "" for _, key, _ in lines]
    assert [line["value"] for line in written] == [str(value) for _, _, value in lines]


@pytest.mark.parametrize(
    ("reader", "package", "extra"),
    [
        pytest.param("to_pandas", "pandas", "pandas", id="pandas"),
        pytest.param("to_polars", "polars", "polars", id="polars"),
        pytest.param("to_arrow", "pyarrow", "arrow", id="pyarrow"),
    ],
)
def test_a_missing_package_is_named_with_its_extra(reader, package, extra, monkeypatch):
    """The error says what to install; nothing else of a report needs it."""
    monkeypatch.setitem(sys.modules, package, None)

    with pytest.raises(MissingExtraError, match=rf"{package} is not.*llm-metering\[{extra}\]"):
        getattr(report(7), reader)()

    assert report(7).to_csv()


@pytest.mark.parametrize(
    ("reader", "others"),
    [
        pytest.param("to_pandas", ["polars", "pyarrow"], id="pandas"),
        pytest.param("to_polars", ["pandas", "pyarrow", "numpy"], id="polars"),
        pytest.param("to_arrow", ["pandas", "polars", "numpy"], id="pyarrow"),
        pytest.param("to_csv", ["pandas", "polars", "pyarrow", "numpy"], id="csv"),
    ],
)
def test_one_extra_is_enough(reader, others):
    """Each kind of table is made without the packages of the others."""
    code = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name in {others!r}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
from datetime import UTC, datetime
from llm_metering.meters import UsageReport, UsageRow, usage_query
moment = datetime(2026, 11, 21, tzinfo=UTC)
row = UsageRow(value=7, window_start=moment, window_end=moment, group_by={{"model": None}})
query = usage_query(group_by="model", time_zone="Europe/Berlin")
for rows in ((), (row,), (row, row)):
    table = UsageReport(query=query, rows=rows).{reader}()
    lines = table.count("\\n") - 1 if isinstance(table, str) else len(table)
    assert lines == len(rows), table
"""

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")


def test_what_is_not_asked_for_is_not_imported():
    """A report brings none of the packages along until it is made a table."""
    code = (
        "import sys, llm_metering.meters;"
        "print(sorted({'pandas', 'polars', 'pyarrow', 'numpy'} & set(sys.modules)))"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
