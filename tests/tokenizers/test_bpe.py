"""`bpe.Encoding`: the same tokens as tiktoken's, one for one, without standing in anybody's way."""

from __future__ import annotations

import base64

import pytest
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_metering.tokenizers import bpe, sources
from llm_metering.tokenizers.bpe import Encoding, read_ranks

NAMES = ("cl100k_base", "o200k_base")


@pytest.fixture(scope="module", params=NAMES)
def pair(request):
    """Ours and tiktoken's, of the same file."""
    arguments = sources.definition(request.param, sources.local_file)
    ours = Encoding(request.param, pattern=arguments["pat_str"], ranks=arguments["mergeable_ranks"])
    return ours, tiktoken.Encoding(**arguments)


TEXTS = [
    pytest.param("", id="nothing"),
    pytest.param("The quick brown fox doesn't jump; it's 12345 years old!\n\n\t ok", id="English"),
    pytest.param("Fünf große Wörter: Straßenbahnhaltestellenüberdachung", id="German"),
    pytest.param("東京都は日本の首都です。今日はいい天気ですね。", id="Japanese"),
    pytest.param("مرحبا بالعالم، كيف حالك؟", id="Arabic"),
    pytest.param("👩‍👩‍👧‍👦 🏳️‍🌈 e\u0301 \u200b\u00a0", id="joined characters"),
    pytest.param("def f(x):\n    return {**x, 'a': [1, 2.5e-3]}  # ok\r\n", id="code"),
    pytest.param("<|endoftext|><|im_start|>user", id="special tokens as text"),
    pytest.param("\ud83d", id="half a character"),
    pytest.param("\ud83d\ude00 whole again", id="two halves"),
    pytest.param("\x00\x01\x7f\ufffd\U0010ffff", id="odd characters"),
    pytest.param("a" * 3000, id="a long run"),
    pytest.param(" " * 3000, id="many spaces"),
    pytest.param("=-" * 2000, id="a long pattern"),
    pytest.param("ab1" * 700 + "\n" * 500, id="mixed runs"),
]


@pytest.mark.parametrize("text", TEXTS)
def test_the_tokens_are_those_of_tiktoken(pair, text):
    """In every script, and for what nobody would write."""
    ours, theirs = pair

    assert ours.encode_ordinary(text) == theirs.encode_ordinary(text)


# Each of the two libraries knows another Unicode: what the newer calls a letter is, to the older,
# a character that nobody has assigned yet.
ASSIGNED = st.characters(exclude_categories=["Cn", "Cs"])


@settings(max_examples=300, deadline=None)
@given(text=st.text(ASSIGNED, max_size=200))
def test_any_text_has_the_tokens_of_tiktoken(pair, text):
    """Whatever it is made of."""
    ours, theirs = pair

    assert ours.encode_ordinary(text) == theirs.encode_ordinary(text)


@settings(max_examples=200, deadline=None)
@given(text=st.text(alphabet="ab \n1'sTé世", max_size=400))
def test_few_characters_in_any_order(pair, text):
    """Words that are no tokens are merged in the same order, ties too."""
    ours, theirs = pair

    assert ours.encode_ordinary(text) == theirs.encode_ordinary(text)


def test_a_megabyte_without_a_boundary_is_no_quadratic_work(pair, monkeypatch):
    """The looks into the table of ranks grow with the length, not with its square."""
    ours, _ = pair
    looks = 0

    class Counting(dict):
        def get(self, key, default=None):
            nonlocal looks
            looks += 1
            return dict.get(self, key, default)

    monkeypatch.setattr(bpe, "_BREATH", 0)
    monkeypatch.setattr(ours, "_ranks", Counting(ours._ranks))
    size = 100_000
    assert ours.encode_ordinary("a" * size)
    assert size < looks < 5 * size


def test_it_gives_the_lock_back_while_it_works(pair, monkeypatch):
    """Loading, many words and one long word: each pauses again and again."""
    pauses = []
    monkeypatch.setattr(bpe.time, "sleep", pauses.append)
    ours, _ = pair

    read_ranks(b"\n".join(base64.b64encode(b"%d" % n) + b" %d" % n for n in range(5000)))
    assert len(pauses) == 10
    ours.encode_ordinary("word " * 5000)
    assert 10 < len(pauses) < 40
    before = len(pauses)
    ours.encode_ordinary("q" * 50_000)
    assert len(pauses) > before + 5
    assert all(pause > 0 for pause in pauses)


def test_what_it_remembers_is_bounded(pair, monkeypatch):
    """A service that runs for months meets words without end."""
    ours, theirs = pair
    monkeypatch.setattr(bpe, "_REMEMBERED", 10)
    text = " ".join(f"xq{number}zj" for number in range(100))

    assert ours.encode_ordinary(text) == theirs.encode_ordinary(text)
    assert len(ours._known) <= 10


@pytest.mark.parametrize("content", [b"YQ== x", b"YQ==", b"\xff\xff \xff"], ids=repr)
def test_a_file_that_is_none_is_refused(content):
    """It is not read half."""
    with pytest.raises(ValueError, match=r"."):
        read_ranks(content)
