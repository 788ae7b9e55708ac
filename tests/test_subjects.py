"""Who pays: the order of precedence, scopes, and what a decorator covers."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import inspect
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_metering.errors import MeteringError, SubjectError
from llm_metering.events import UNATTRIBUTED
from llm_metering.subjects import Attribution, Rank, attribute, check_subject, subject

NO_SUBJECTS = [
    pytest.param("", id="empty"),
    pytest.param(" \t\n", id="blank"),
    pytest.param(None, id="None"),
    pytest.param(42, id="number"),
    pytest.param(b"acme", id="bytes"),
    pytest.param(["acme"], id="list"),
    pytest.param("acme\ud800", id="half a character"),
    pytest.param("a" * 1001, id="too long"),
    pytest.param("acme\0", id="NUL"),
]


def payer() -> str:
    """Who pays for a call here and now, with nothing but the scope to say so."""
    return attribute().subject


@pytest.fixture(autouse=True)
def scope_ends_with_the_test():
    """Every test leaves the scope as it found it."""
    assert payer() == UNATTRIBUTED
    yield
    assert payer() == UNATTRIBUTED


SAYS = {
    "handler": ("by-handler", Rank.HANDLER),
    "pinned": ("by-pinned-scope", Rank.PINNED_SCOPE),
    "metadata": ("by-metadata", Rank.METADATA),
    "scope": ("by-scope", Rank.SCOPE),
    "default": ("by-default", Rank.DEFAULT),
}


@given(present=st.sets(st.sampled_from(list(SAYS))))
def test_the_order_of_precedence(present):
    """Of any combination of sources the first in the fixed order pays."""
    expected = next((SAYS[name] for name in SAYS if name in present), (UNATTRIBUTED, Rank.NOBODY))
    with ExitStack() as scopes:
        # The pinned one outside: it holds inside, too.
        if "pinned" in present:
            scopes.enter_context(subject("by-pinned-scope", pinned=True))
        if "scope" in present:
            scopes.enter_context(subject("by-scope"))
        found = attribute(
            handler="by-handler" if "handler" in present else None,
            metadata={"subject": "by-metadata"} if "metadata" in present else None,
            default="by-default" if "default" in present else None,
        )

    assert (found.subject, found.rank) == expected
    odd = ("unattributed",) if not present else ()
    if {"handler", "pinned"} <= present:
        odd = ("subject_conflict",)
    assert found.flags == odd


def test_ranks_are_in_the_order_of_precedence():
    """The lower rank wins where two handlers see the same call."""
    assert [rank for _, rank in SAYS.values()] == sorted(Rank)[:-1]
    assert max(Rank) is Rank.NOBODY


def test_a_call_that_nobody_pays_for_is_kept_and_flagged():
    """It gets the subject for that, not an error and not an empty one."""
    assert attribute() == Attribution(
        subject="unattributed", rank=Rank.NOBODY, dimensions={}, flags=("unattributed",)
    )


@pytest.mark.parametrize(
    ("metadata", "expected", "flags"),
    [
        pytest.param({"subject": "a"}, "a", (), id="short key"),
        pytest.param({"llm_metering_subject": "a"}, "a", (), id="long key"),
        pytest.param({"subject": "a", "llm_metering_subject": "b"}, "b", (), id="long key first"),
        pytest.param({}, UNATTRIBUTED, ("unattributed",), id="empty"),
        pytest.param({"user": "a"}, UNATTRIBUTED, ("unattributed",), id="another key"),
        pytest.param({"subject": None}, UNATTRIBUTED, ("unattributed",), id="null"),
        pytest.param(
            {"llm_metering_subject": 7, "subject": "a"}, "a", ("invalid_subject",), id="second one"
        ),
        *(
            pytest.param(
                {"subject": case.values[0]},
                UNATTRIBUTED,
                ("invalid_subject", "unattributed"),
                id=f"bad: {case.id}",
            )
            for case in NO_SUBJECTS
            if case.values[0] is not None
        ),
    ],
)
def test_the_subject_in_the_metadata(metadata, expected, flags):
    """The first usable key pays; a value that can pay for nothing is passed over and flagged."""
    found = attribute(metadata=metadata)

    assert (found.subject, found.flags) == (expected, flags)


def test_a_bad_subject_in_the_metadata_falls_back_to_the_scope():
    """What a request carries wrongly does not make the call free."""
    with subject("acme"):
        found = attribute(metadata={"subject": ""}, default="house")

    assert (found.subject, found.flags) == ("acme", ("invalid_subject",))


json_values = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text())


@given(
    metadata=st.dictionaries(
        st.sampled_from(["subject", "llm_metering_subject", "x"]),
        st.one_of(json_values, st.binary(), st.lists(json_values)),
    )
)
def test_no_metadata_raises(metadata):
    """Whatever a request carries, somebody pays: it, or the default."""
    found = attribute(metadata=metadata, default="house")

    assert found.subject == "house" or found.subject in metadata.values()
    assert check_subject(found.subject) == found.subject


@pytest.mark.parametrize("name", NO_SUBJECTS)
def test_what_is_no_subject_is_refused(name):
    """At once, where it is written down, as an error of ours and a ValueError."""
    with pytest.raises(SubjectError) as raised:
        subject(name)

    assert isinstance(raised.value, MeteringError)
    assert isinstance(raised.value, ValueError)


@pytest.mark.parametrize(
    "dimensions",
    [
        pytest.param({"model": "x"}, id="a name of ours"),
        pytest.param({"feature": 7}, id="number"),
        pytest.param({"feature": None}, id="None"),
    ],
)
def test_a_bad_dimension_is_refused_when_the_scope_is_made(dimensions):
    """Not in the middle of a request, when the scope is entered."""
    with pytest.raises(SubjectError, match=next(iter(dimensions))):
        subject("acme", **dimensions)


def test_scopes_nest_and_end():
    """The inner subject pays inside; after it the outer one does again, an exception or not."""

    def fail():
        with subject("inner"):
            assert payer() == "inner"
            raise KeyError

    with subject("outer"):
        with pytest.raises(KeyError):
            fail()
        assert payer() == "outer"


@pytest.mark.parametrize(
    ("outer_pinned", "inner_pinned", "expected"),
    [
        pytest.param(False, False, "inner", id="neither"),
        pytest.param(True, False, "outer", id="outer"),
        pytest.param(False, True, "inner", id="inner"),
        pytest.param(True, True, "inner", id="both"),
    ],
)
def test_a_pinned_scope_gives_way_only_to_a_pinned_one(outer_pinned, inner_pinned, expected):
    """Code inside a pinned scope names another payer only if it pins it, too."""
    with subject("outer", pinned=outer_pinned), subject("inner", pinned=inner_pinned):
        found = attribute(metadata={"subject": "carried"})

    pinned = outer_pinned or inner_pinned
    assert found.subject == (expected if pinned else "carried")


def test_dimensions_add_up_and_the_inner_one_wins():
    """A scope's dimensions stay where its subject is overridden, by whomever."""
    with subject("outer", team="red", feature="search"), subject("inner", feature="chat"):
        scoped = attribute()
        handled = attribute(handler="mine", dimensions={"team": "blue", "step": "1"})
        carried = attribute(metadata={"subject": "carried"})

    assert scoped.dimensions == {"team": "red", "feature": "chat"}
    assert handled.dimensions == {"team": "blue", "feature": "chat", "step": "1"}
    assert (carried.subject, carried.dimensions) == ("carried", scoped.dimensions)


def test_dimensions_stay_where_a_pinned_scope_overrides_the_subject():
    """What is pinned is the payer; what the inner scope groups by holds."""
    with subject("outer", pinned=True, team="red"), subject("inner", feature="chat"):
        found = attribute()

    assert (found.subject, found.dimensions) == ("outer", {"team": "red", "feature": "chat"})


def test_one_scope_may_be_entered_again_inside_itself():
    """A recursive function under one scope object leaves as many as it entered."""
    scope = subject("acme")

    with scope:
        with scope, subject("other"):
            assert payer() == "other"
        assert payer() == "acme"


def test_one_scope_may_be_shared_by_threads_and_tasks():
    """A scope object at module level is entered and left by many at once."""
    scope = subject("acme")
    barrier = threading.Barrier(8, timeout=20)

    def work(_):
        with scope:
            barrier.wait()
            inside = payer()
        barrier.wait()
        return inside, payer()

    async def step():
        with scope:
            await asyncio.sleep(0)
            return payer()

    async def steps():
        return await asyncio.gather(*(step() for _ in range(8)))

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(8))) == [("acme", UNATTRIBUTED)] * 8
    assert asyncio.run(steps()) == ["acme"] * 8


def test_a_bare_thread_has_no_scope():
    """A thread that copies no context is not billed to whoever started it."""
    seen = []
    with subject("acme"):
        thread = threading.Thread(target=lambda: seen.append(payer()))
        thread.start()
        thread.join()

    assert seen == [UNATTRIBUTED]


def test_tasks_inherit_the_scope_and_keep_theirs_apart():
    """A task starts in the scope it was made in, and what it opens is its own."""

    async def work(name):
        inherited = payer()
        with subject(name):
            await asyncio.sleep(0)
            seen = payer()
            await asyncio.sleep(0)
            return inherited, seen, payer()

    async def main():
        with subject("acme"):
            tasks = [asyncio.create_task(work(f"task-{n}")) for n in range(5)]
        assert payer() == UNATTRIBUTED
        return await asyncio.gather(*tasks), await asyncio.to_thread(payer)

    in_tasks, in_thread = asyncio.run(main())

    assert in_tasks == [("acme", f"task-{n}", f"task-{n}") for n in range(5)]
    assert in_thread == UNATTRIBUTED


def test_a_generator_may_be_left_in_another_context():
    """Web frameworks run each step of a sync stream in a fresh copy of the context."""

    def stream():
        with subject("acme"):
            yield payer()
            yield payer()

    steps = stream()

    first = contextvars.copy_context().run(next, steps)
    contextvars.copy_context().run(next, steps)
    contextvars.copy_context().run(steps.close)

    assert first == "acme"


def test_an_async_generator_may_be_left_in_another_context():
    """The loop closes a dropped async generator in a task of its own, without an error."""
    errors = []

    async def stream():
        with subject("acme"):
            yield payer()
            yield payer()

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
        steps = stream()
        # Advanced in a task of its own, as an SSE response does; then dropped here.
        first = await asyncio.create_task(anext_of(steps))
        del steps
        gc.collect()
        for _ in range(3):
            await asyncio.sleep(0)
        return first

    async def anext_of(steps):
        return await anext(steps)

    assert asyncio.run(main()) == "acme"
    assert errors == []


def test_a_generator_that_is_left_late_does_not_end_anothers_scope():
    """Scopes that overlap instead of nesting, as undecorated generators make them, end each."""

    def stream():
        with subject("streamer"):
            yield

    steps = stream()
    next(steps)
    with subject("consumer"):
        steps.close()
        assert payer() == "consumer"
    assert payer() == UNATTRIBUTED


def test_a_decorated_function_runs_in_its_scope():
    """It keeps its name, its result and its errors; each call has a scope of its own."""

    @subject("acme", feature="search")
    def work(number, *, depth=0):
        """Docstring."""
        if depth:
            return work(number, depth=depth - 1)
        if number < 0:
            raise ValueError(number)
        return attribute().subject, attribute().dimensions, number

    assert work(1, depth=3) == ("acme", {"feature": "search"}, 1)
    with pytest.raises(ValueError, match="-1"):
        work(-1)
    assert (work.__name__, work.__doc__) == ("work", "Docstring.")


def test_a_decorated_coroutine_runs_in_its_scope():
    """Over its awaits, and not in the code that awaits it."""

    @subject("acme")
    async def work():
        before = payer()
        await asyncio.sleep(0)
        return before, payer()

    async def main():
        task = asyncio.create_task(work())
        assert payer() == UNATTRIBUTED
        return await task, payer()

    assert asyncio.run(main()) == (("acme", "acme"), UNATTRIBUTED)


def test_a_decorated_generator_does_not_leak_into_its_consumer():
    """The scope holds while its own code runs: in each step, with `send` and `throw` and `close`."""
    seen = []

    @subject("acme")
    def work():
        try:
            seen.append((payer(), (yield 1)))
            try:
                yield 2
            except KeyError:
                seen.append((payer(), "thrown"))
                yield 3
        finally:
            seen.append((payer(), "closed"))

    with subject("consumer"):
        steps = work()
        assert (next(steps), payer()) == (1, "consumer")
        assert (steps.send("sent"), payer()) == (2, "consumer")
        assert (steps.throw(KeyError()), payer()) == (3, "consumer")
        steps.close()
        assert payer() == "consumer"

    assert seen == [("acme", "sent"), ("acme", "thrown"), ("acme", "closed")]


def test_a_decorated_generator_returns_and_raises_as_before():
    """`yield from` gets its value, the consumer its exception, in the consumer's own scope."""

    @subject("acme")
    def work(error=None):
        yield payer()
        if error is not None:
            raise error
        return "result"

    def consumer():
        result = yield from work()
        return result, payer()

    steps = consumer()
    assert next(steps) == "acme"
    with pytest.raises(StopIteration) as stop:
        next(steps)
    assert stop.value.value == ("result", UNATTRIBUTED)
    with pytest.raises(KeyError):
        list(work(KeyError()))


def test_a_decorated_async_generator_does_not_leak_into_its_consumer():
    """As a generator, with `asend`, `athrow` and `aclose`."""
    seen = []

    @subject("acme")
    async def work():
        try:
            seen.append((payer(), (yield 1)))
            await asyncio.sleep(0)
            try:
                yield 2
            except KeyError:
                seen.append((payer(), "thrown"))
                yield 3
        finally:
            await asyncio.sleep(0)
            seen.append((payer(), "closed"))

    async def main():
        with subject("consumer"):
            steps = work()
            assert (await anext(steps), payer()) == (1, "consumer")
            assert (await steps.asend("sent"), payer()) == (2, "consumer")
            assert (await steps.athrow(KeyError()), payer()) == (3, "consumer")
            await steps.aclose()
            assert payer() == "consumer"
            assert [number async for number in work()] == [1, 2]

    asyncio.run(main())

    assert seen[:3] == [("acme", "sent"), ("acme", "thrown"), ("acme", "closed")]
    assert seen[3:] == [("acme", None), ("acme", "closed")]


def test_two_decorated_generators_interleave():
    """Each step is billed to its own generator's subject, whoever runs in between."""

    def work():
        while True:
            yield payer()

    one, two = subject("one")(work)(), subject("two")(work)()

    assert [next(steps) for steps in (one, two, one, two)] == ["one", "two", "one", "two"]
    one.close()
    two.close()


def test_a_decorated_function_stays_of_its_kind():
    """Frameworks ask `inspect` what they were given, and call a generator otherwise."""

    def function():
        return 1

    async def coroutine():
        return 1

    def generator():
        yield 1

    async def async_generator():
        yield 1

    kinds = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)
    for each in (function, coroutine, generator, async_generator):
        decorated = subject("acme")(each)
        assert [kind(decorated) for kind in kinds] == [kind(each) for kind in kinds]
        assert inspect.signature(decorated) == inspect.signature(each)


def test_an_attribution_is_frozen_when_it_is_made():
    """What the scope or the metadata become later does not change who pays."""
    metadata = {"subject": "acme"}
    with subject("outer", feature="search"):
        found = attribute(metadata=metadata)
    metadata["subject"] = "somebody else"

    assert (found.subject, found.dimensions) == ("acme", {"feature": "search"})
