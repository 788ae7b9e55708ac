"""Guessing from lengths, on the application's thread."""

import subprocess
import sys
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_metering.exchange import Counted, Exchange, Output
from llm_metering.tokenizers import guess
from tests.tokenizers.doubles import answer, chat, user


def test_it_guesses_four_characters_a_token():
    """Of English, as OpenAI says; and four tokens for each message."""
    few, many = guess(chat(user("a" * 400))), guess(chat(user("a" * 4000), user("a")))

    assert few == Counted(input_tokens=104, output_tokens=0, method="characters")
    assert many.input_tokens == 4 + 1000 + 4 + 1


@pytest.mark.parametrize(
    ("character", "tokens"),
    [("a", 100), ("я", 200), ("的", 300), ("😀", 400)],
    ids=["Latin", "Cyrillic", "Chinese", "emoji"],
)
def test_it_goes_by_bytes(character, tokens):
    """Scripts of more bytes a character are more tokens a character."""
    assert guess(answer(character * 400)).output_tokens == tokens


def test_it_never_loads_an_encoding():
    """tiktoken is not even imported."""
    program = (
        "import sys\n"
        "from llm_metering.exchange import Exchange\n"
        "from llm_metering.tokenizers import Encodings, guess\n"
        "Encodings()\n"
        "guess(Exchange(model='gpt-4o', request={'messages': [{'role': 'user', 'content': 'hi'}]}))\n"
        "print('tiktoken' in sys.modules)"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == "False"


class Visited(Mapping):
    """A mapping that counts how often somebody looks into one of its kind."""

    looks = 0

    def __init__(self, fields):
        self.fields = fields

    def __getitem__(self, name):
        return self.fields[name]

    def __iter__(self):
        type(self).looks += 1
        return iter(self.fields)

    def __len__(self):
        return len(self.fields)


def test_it_looks_at_each_message_once(monkeypatch):
    """Its work grows with the number of messages, not with their length."""
    monkeypatch.setattr(Visited, "looks", 0)
    messages = [Visited({"role": "user", "content": "word " * 100_000}) for _ in range(10)]

    guess(Exchange(request={"messages": messages}))

    assert Visited.looks == 10


def test_it_looks_at_a_bounded_number_of_parts(monkeypatch):
    """A request of a million parts is guessed from the first of them."""
    monkeypatch.setattr(Visited, "looks", 0)
    parts = [Visited({"type": "text", "text": "a"})] * 1_000_000

    guess(Exchange(request={"messages": parts}))

    assert Visited.looks <= 2000


@pytest.mark.parametrize(
    "part",
    [
        pytest.param(
            {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 10**6}},
            id="openai",
        ),
        pytest.param(
            {"type": "image", "source": {"type": "base64", "data": "A" * 10**6}}, id="anthropic"
        ),
        pytest.param({"inlineData": {"data": "A" * 10**6}}, id="gemini"),
        pytest.param({"image": {"source": {"bytes": b"A" * 10**6}}}, id="bedrock"),
    ],
)
def test_it_leaves_media_out(part):
    """A picture in base64 is no million characters of text."""
    assert guess(chat(user([part, {"type": "text", "text": "What is this?"}]))).input_tokens < 30


def test_nothing_is_nothing():
    """No request is no count; an empty answer is a count of none."""
    assert guess(Exchange()) == Counted(output_tokens=0, method="characters")


def test_it_counts_all_that_came_out():
    """Texts, shown reasoning and calls of tools."""
    output = Output(texts=["a" * 40], reasoning=["b" * 80], tool_calls=[("f", "c" * 39)])

    counted = guess(Exchange(output=output))

    assert (counted.output_tokens, counted.reasoning_output_tokens) == (40, 20)


@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.text() | st.integers() | st.binary(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_nothing_is_too_odd(value):
    """Whatever stands in a request, it guesses."""
    counted = guess(Exchange(request={"messages": value, "prompt": value}))

    assert counted.input_tokens >= 0


def test_a_request_that_raises_is_not_guessed():
    """Nothing is known of it; nothing is raised either."""

    class Broken(Mapping):
        def __getitem__(self, name):
            raise RuntimeError

        def __iter__(self):
            raise RuntimeError

        def __len__(self):
            return 1

    assert guess(Exchange(request=Broken())) == Counted(method="characters")
