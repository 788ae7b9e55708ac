"""Where in a TOML file something stands."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_metering.errors import MeteringError, PriceError
from llm_metering.prices.toml_places import lines_of, parse_toml, read_toml

EVERYTHING = """\
currency = "USD" # the [currency]

[[prices]]
model = "a"  # line 4
per_million = { input = "0.25", "out.put" = 2.0, deep = { er = 1 } }
text = \"\"\"
[[prices]]
model = \\"no\\" key = "x"
ends in quotes\"\"\"\"\"
path = '''
[no.table]''\'\'\'
list = [ # ] no end
  "one",
  { b = [1, 2] }, # }
]

[[prices]]
model = 'b'
a.b."c d" = 1979-05-27T07:32:00Z
[prices.more]
x = 1
[[prices.parts]]
y = 1
[[prices.parts]]
y = 2
['last "one"'.here]
z = inf
"""


def test_every_key_has_its_line():
    """Tables, arrays of tables, inline tables, dotted and quoted keys, and strings that look like them."""
    lines = lines_of(EVERYTHING)

    expected = {
        ("currency",): 1,
        ("prices",): 3,
        ("prices", 0): 3,
        ("prices", 0, "model"): 4,
        ("prices", 0, "per_million"): 5,
        ("prices", 0, "per_million", "out.put"): 5,
        ("prices", 0, "per_million", "deep", "er"): 5,
        ("prices", 0, "text"): 6,
        ("prices", 0, "path"): 10,
        ("prices", 0, "list"): 12,
        ("prices", 0, "list", 0): 13,
        ("prices", 0, "list", 1, "b"): 14,
        ("prices", 1): 17,
        ("prices", 1, "model"): 18,
        ("prices", 1, "a", "b", "c d"): 19,
        ("prices", 1, "more", "x"): 21,
        ("prices", 1, "parts", 0, "y"): 23,
        ("prices", 1, "parts", 1): 24,
        ("prices", 1, "parts", 1, "y"): 25,
        ('last "one"', "here"): 26,
        ('last "one"', "here", "z"): 27,
    }
    assert {place: lines[place] for place in expected} == expected
    assert not any("no" in place for place in lines)


def walked(value, place=()):
    """The places of all that a document holds."""
    yield place
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, each in items:
            yield from walked(each, (*place, key))


keys = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=4)
texts = st.text(st.sampled_from("ab\"'\\\n#[]{}=,."), max_size=8)
leaves = st.one_of(texts, st.integers(0, 99), st.booleans())
trees = st.recursive(
    leaves, lambda each: st.lists(each, max_size=3) | st.dictionaries(keys, each, max_size=3)
)


def basic(text):
    """A text as a string of one line; JSON's escapes are TOML's."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def written(value):
    """A value as TOML, with a line break after each item of an array, and noise in comments."""
    if isinstance(value, dict):
        pairs = (f"{basic(key)} = {written(each)}" for key, each in value.items())
        return "{ " + ", ".join(pairs) + " }"
    if isinstance(value, list):
        return "[ # [ {\n" + "".join(f'{written(each)} , # ] "\n' for each in value) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if "\n" in value and "'''" not in value and not value.endswith("'"):
        return f"'''\n{value}'''"
    return basic(value)


@given(
    top=st.dictionaries(keys, trees, max_size=4),
    rows=st.lists(st.dictionaries(keys, trees, max_size=3), max_size=3),
)
def test_nothing_a_document_holds_is_without_a_line(top, rows):
    """Whatever a document holds, each of its keys has a line, in the order of the document."""
    top.pop("rows", None)
    text = "".join(f"{basic(key)} = {written(each)}\n" for key, each in top.items())
    starts = {}
    for position, row in enumerate(rows):
        starts["rows", position] = text.count("\n") + 1
        text += "[[rows]]\n"
        for key, each in row.items():
            starts["rows", position, key] = text.count("\n") + 1
            text += f"{basic(key)} = {written(each)}\n"

    file = parse_toml(text, "x.toml")

    places = [place for place in walked(file.data) if place]
    assert set(file.lines) == set(places)
    assert {place: file.lines[place] for place in starts} == starts
    assert [file.lines[place] for place in places] == sorted(file.lines[place] for place in places)


def test_a_missing_key_is_where_it_is_missing(tmp_path):
    """`where` names the line of a key, of the table that lacks it, or the first of the file."""
    path = tmp_path / "prices.toml"
    path.write_bytes(b"\xef\xbb\xbfa = 1\r\n\r\n[[prices]]\r\nb = 0.10\r\n")

    file = read_toml(path)

    assert file.data == {"a": 1, "prices": [{"b": Decimal("0.10")}]}
    assert str(file.data["prices"][0]["b"]) == "0.10"
    assert file.where("prices", 0, "b") == f"{path}:4"
    assert file.where("prices", 0, "model") == f"{path}:3"
    assert file.where("credits", 0) == f"{path}:1"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param(b"a = 1\nb = = 2\n", ":2: Invalid value", id="syntax"),
        pytest.param(b"a = 1\na = 2\n", ":2: Cannot overwrite a value", id="twice"),
        pytest.param(b"a = 1\n\nb = [1,\n", ":4: Invalid value", id="cut-off"),
        pytest.param(b"a = 1\nb = '\xff'\n", ":2: not UTF-8", id="not-utf-8"),
        pytest.param(None, ": cannot be read: No such file or directory", id="missing"),
    ],
)
def test_a_file_that_is_no_toml_is_refused_with_its_line(tmp_path, content, says):
    """A broken file is named, with the line; the error is the caller's."""
    path = tmp_path / "prices.toml"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(PriceError) as raised:
        read_toml(path)
    with pytest.raises(MeteringError):
        read_toml(path, raising=MeteringError)

    assert str(raised.value).startswith(f"{path}{says}")
