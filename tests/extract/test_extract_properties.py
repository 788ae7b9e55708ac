"""Whatever a provider sends, no count comes out that is not in what came in.

The law. Every count of a usage is a whole number of the input, or the sum of at most `TERMS` whole
numbers of it: providers whose parts stand beside each other are summed up (Anthropic: input, cache
read, cache written; Gemini: prompt and tool use, candidates and thoughts; Perplexity: prompt and
citations; xAI: completion and reasoning; Vertex: the texts of one request). Beside that stands the
0 that a total proves.
"""

from __future__ import annotations

import base64
import contextlib
import copy
import json
import re
from itertools import combinations

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from llm_metering.errors import InvalidUsageError, UnknownUsageError
from llm_metering.extract import StreamReader, output, read, read_usage
from llm_metering.extract.reading import Reading
from tests.extract.recorded import ANSWERS
from tests.extract.test_bodies import BODIES

TERMS = 4
CASES = [case for file in BODIES.values() for case in file["cases"]]
UNSTREAMED = [case["body"] for case in CASES if "body" in case]
STREAMS = [case["chunks"] for case in CASES if "chunks" in case]
RECORDED = [json.loads(each.text) for each in ANSWERS if not each.is_stream and each.expected]
RECORDED_STREAMS = [each.chunks for each in ANSWERS if each.is_stream and each.expected]

FLAG = re.compile(r"[a-z_]+(:[A-Za-z0-9_.,-]+)?")
REASON = re.compile(r"\S{0,64}")


def numbers_in(value):
    """Every whole number of a tree, those of texts that are JSON or numbers included."""
    if isinstance(value, dict):
        for each in value.values():
            yield from numbers_in(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from numbers_in(each)
    elif isinstance(value, bytes):
        yield from numbers_in(value.decode(errors="replace"))
    elif isinstance(value, str):
        if value.isascii() and value.isdigit() and len(value) < 20:
            yield int(value)
        elif value.startswith(("{", "[", "ey")):
            yield from numbers_in(_parsed(value))
    elif type(value) is int or (type(value) is float and value.is_integer()):
        yield int(value)


def _parsed(text):
    """What JSON in a text holds, in base64 too, as Bedrock's chunks are written down."""
    for decode in (str, base64.b64decode):
        with contextlib.suppress(ValueError, RecursionError):
            return json.loads(decode(text))
    return None


def is_derivable(count, numbers):
    """Whether `count` is a sum of at most `TERMS` of the numbers."""
    candidates = [each for each in numbers if 0 < each <= count]
    if count == 0 or count in candidates:
        return True
    pairs = {sum(each) for each in combinations(candidates, 2)} | set(candidates)
    return any(count - each in pairs or count == each for each in pairs)


def check(reading, source):
    """Hold a reading against the law."""
    assert isinstance(reading, Reading)
    assert all(FLAG.fullmatch(flag) for flag in reading.flags)
    assert REASON.fullmatch(reading.reason)
    check_usage(reading.usage, source)
    usage = reading.usage
    if usage is not None and reading.shape.startswith("openai."):
        numbers = set(numbers_in(source))
        proven = usage.input_tokens is not None and usage.input_tokens == (
            usage.reported_total_tokens
        )
        assert usage.output_tokens != 0 or 0 in numbers or proven


def check_usage(usage, source):
    if usage is None:
        return
    numbers = list(numbers_in(source))
    total = usage.reported_total_tokens
    for count in (*usage.counts().values(), *(() if total is None else (total,))):
        assert is_derivable(count, numbers), count


# --- mangling what is real

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 5),
    st.integers(-(10**13), 10**13),
    st.sampled_from([10**400, -1, 2**63, 0]),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(
        ["7", "1e3", "error", "message", "response.completed", "\ud800", b"\xff", b"7"]
    ),
)
TREES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=6,
)


def paths_of(tree, path=()):
    yield path
    items = (
        tree.items()
        if isinstance(tree, dict)
        else enumerate(tree)
        if isinstance(tree, list)
        else ()
    )
    for key, value in items:
        yield from paths_of(value, (*path, key))


def mangle(draw, tree):
    """Delete, null, replace, retype, nest, rename or repeat one node of a tree."""
    path = draw(st.sampled_from(sorted(paths_of(tree), key=str)))
    if not path:
        return draw(TREES) if draw(st.integers(0, 20)) == 0 else tree
    *parents, last = path
    holder = tree
    for key in parents:
        holder = holder[key]
    node = holder[last]
    match draw(st.sampled_from(["delete", "null", "replace", "retype", "nest", "move", "repeat"])):
        case "delete":
            del holder[last]
        case "null":
            holder[last] = None
        case "replace":
            holder[last] = draw(TREES)
        case "retype":
            kinds = [str(node), [node], {"x": node}, bool(node)]
            if isinstance(node, int | float) and abs(node) < 1e15:
                kinds += [float(node), -node]
            holder[last] = draw(st.sampled_from(kinds))
        case "nest":
            holder[last] = {"usage": node, "raw": copy.deepcopy(node), "data": node}
        case "move":
            names = ["usage", "choices", "error", "response", "x_groq", "message", "data", "object"]
            if isinstance(holder, dict):
                holder[draw(st.sampled_from(names))] = holder.pop(last)
        case "repeat":
            holder[last] = [copy.deepcopy(node) for _ in range(3)]
    return tree


@st.composite
def mangled(draw, originals):
    tree = copy.deepcopy(draw(st.sampled_from(originals)))
    for _ in range(draw(st.integers(1, 4))):
        tree = mangle(draw, tree)
    return tree


SLOW = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
THOROUGH = settings(SLOW, max_examples=400)


@THOROUGH
@given(mangled(UNSTREAMED))
@example({"choices": [], "usage": {"prompt_tokens": 8, "completion_tokens": 10**400}})
def test_mangled_bodies(body):
    """No body, however mangled, raises or gives a count that is not in it."""
    check(read(body), body)
    output(body)


@THOROUGH
@given(mangled(UNSTREAMED))
def test_mangled_bodies_as_text(body):
    """As JSON a body is read as it is as a dict, as far as it can be written as JSON."""
    try:
        text = json.dumps(body)
        body = json.loads(text)
    except (TypeError, ValueError):
        assume(False)
    reading = read(text)

    check(reading, body)
    if isinstance(body, dict):
        assert repr(reading) == repr(read(body))


@THOROUGH
@given(mangled(STREAMS))
def test_mangled_streams(chunks):
    """No stream, however mangled, raises or gives a count that is not in it."""
    reader = StreamReader()
    for chunk in chunks if isinstance(chunks, list) else [chunks]:
        reader.feed(chunk)
        assert isinstance(reader.has_ended, bool)

    check(reader.reading(), chunks)
    reader.output()


@pytest.mark.skipif(not RECORDED, reason="recorded traffic is not there")
@SLOW
@given(mangled(RECORDED or [{}]))
def test_mangled_recordings(body):
    """No recorded body, however mangled, raises or gives a count that is not in it."""
    check(read(body), body)
    output(body)


@pytest.mark.skipif(not RECORDED, reason="recorded traffic is not there")
@SLOW
@given(mangled(RECORDED_STREAMS or [[]]))
def test_mangled_recorded_streams(chunks):
    """No recorded stream, however mangled, raises or gives a count that is not in it."""
    reader = StreamReader()
    for chunk in chunks if isinstance(chunks, list) else [chunks]:
        reader.feed(chunk)

    check(reader.reading(), chunks)
    reader.output()


def _usages(tree):
    if isinstance(tree, dict):
        for key, value in tree.items():
            if "sage" in key and isinstance(value, dict):
                yield value
            yield from _usages(value)
    elif isinstance(tree, list):
        for each in tree:
            yield from _usages(each)


USAGES = list(_usages([UNSTREAMED, STREAMS]))


@THOROUGH
@given(mangled(USAGES))
def test_mangled_usages(usage):
    """A usage by itself, however mangled, gives counts that are in it or one of our two errors."""
    try:
        counts = read_usage(usage)
    except (UnknownUsageError, InvalidUsageError):
        return
    check_usage(counts, usage)


# --- what was never real

NAMES = sorted(
    {
        key
        for tree in (UNSTREAMED, STREAMS)
        for path in paths_of(tree)
        for key in path
        if isinstance(key, str)
    }
)
WORDS = sorted({value for case in CASES for value in re.findall(r'"([a-z_.]+)"', json.dumps(case))})
ANYTHING = st.recursive(
    SCALARS | st.sampled_from(WORDS) | st.integers(0, 9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=4), inner, max_size=6)
    ),
    max_leaves=25,
)


@THOROUGH
@given(ANYTHING)
def test_anything(tree):
    """No JSON made of the words of all providers raises or gives a count that is not in it."""
    check(read(tree), tree)
    output(tree)
    reader = StreamReader()
    reader.feed(tree)
    check(reader.reading(), tree)
    reader.output()
    try:
        check_usage(read_usage(tree), tree)
    except (UnknownUsageError, InvalidUsageError):
        return


@given(st.text() | st.binary())
def test_any_text(text):
    """No text and no bytes raise."""
    check(read(text), text)
    output(text)


# --- streams


@given(st.data())
@pytest.mark.parametrize(
    "chunks", [pytest.param(each, id=str(n)) for n, each in enumerate(STREAMS)]
)
def test_order_of_chunks(chunks, data):
    """In whatever order chunks come, no count appears that is not in them."""
    reader = StreamReader()
    for chunk in data.draw(st.permutations(chunks)):
        reader.feed(chunk)

    check(reader.reading(), chunks)


@given(st.data())
@pytest.mark.parametrize(
    "chunks", [pytest.param(each, id=str(n)) for n, each in enumerate(STREAMS)]
)
def test_repeated_chunks(chunks, data):
    """A chunk that comes twice in a row is not counted twice."""
    once, repeated = StreamReader(), StreamReader()
    for chunk in chunks:
        once.feed(chunk)
        for _ in range(data.draw(st.integers(1, 3))):
            repeated.feed(chunk)

    assert repeated.reading().usage == once.reading().usage
    assert repeated.reading().is_final == once.reading().is_final
    assert repeated.reading().measures == once.reading().measures
