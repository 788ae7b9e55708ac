"""Counting a text: exactly, whatever it is, and in bounded steps."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_metering.tokenizers.text import (
    BLOCK,
    blocks,
    capitals_in,
    extra_digits,
    tokens_in,
)
from tests.tokenizers.doubles import Words


@pytest.fixture(params=["o200k_base", "cl100k_base"])
def encoding(request, encodings):
    """A real encoding."""
    return encodings.get(request.param)


def test_what_looks_like_a_special_token_is_text(encoding):
    """A user who writes a special token neither stops the count nor gets it for one."""
    assert tokens_in(encoding, "<|endoftext|>") > 1


_WORD = st.sampled_from(["word", "Wörter", "it's", "слово", "don't", "x", "12", "naïve", "的词"])
_MARK = st.sampled_from([" ", ", ", "-", "\n", " (", "。", "'"])


@settings(deadline=None)
@given(st.lists(st.tuples(_WORD, _MARK), min_size=1, max_size=20))
def test_a_long_text_is_counted_as_a_whole(encodings, pairs):
    """Cutting prose into blocks changes no count: each cut is where a token begins anyway."""
    encoding = encodings.get("o200k_base")
    sentence = "".join(word + mark for word, mark in pairs) + "And so on. "
    text = sentence * (2 * BLOCK // len(sentence) + 1)

    assert tokens_in(encoding, text) == len(encoding.encode_ordinary(text))


def test_a_cut_is_before_a_mark_between_letters(encoding):
    """A long text that is one sentence after the other is cut between words only."""
    text = "The customer's answer, counted once. " * 1000

    assert tokens_in(encoding, text) == len(encoding.encode_ordinary(text))
    assert all(block[0] in " ," for block in list(blocks(text))[1:])


@settings(deadline=None)
@given(st.text(max_size=50), st.integers(min_value=1, max_value=2000))
def test_blocks_are_the_text(piece, times):
    """No character is lost or doubled, and no block is longer than allowed."""
    text = piece * times

    found = list(blocks(text))

    assert "".join(found) == text
    assert all(len(block) <= BLOCK for block in found)


@pytest.mark.parametrize("run", ["a", " ", "\n", "^", "的", "a\u0301"])
def test_a_megabyte_of_one_character_is_encoded_in_small_steps(run):
    """No call of the encoder gets more than a block, in which it may be as slow as a square."""
    words = Words()

    tokens_in(words, run * (1_000_000 // len(run)))

    assert max(map(len, words.texts)) <= BLOCK
    assert len(words.texts) <= 2 * 1_000_000 // BLOCK + 1


def test_a_megabyte_of_spaces_does_not_end_tiktoken(encodings):
    """It would die of them in one go; in blocks it counts some."""
    assert 7_000 < tokens_in(encodings.get("o200k_base"), " " * 1_000_000) < 9_000


class PanicException(BaseException):
    """As Rust's panics arrive: no `Exception`."""


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        pytest.param(PanicException, ValueError, id="a panic"),
        pytest.param(KeyboardInterrupt, KeyboardInterrupt, id="Ctrl-C"),
    ],
)
def test_a_panic_of_the_encoder_is_an_ordinary_error(raised, expected):
    """A panic must not end a thread of ours; what is meant to end it does."""

    class Broken:
        def encode_ordinary(self, text):
            raise raised

    with pytest.raises(expected):
        tokens_in(Broken(), "text")


@pytest.mark.parametrize(
    ("text", "share"),
    [
        pytest.param("", 0.0, id="nothing"),
        pytest.param("all small", 0.0, id="small letters"),
        pytest.param("A Title Is None", 0.0, id="single capitals"),
        pytest.param("HALF half", 4 / 9, id="half"),
    ],
)
def test_the_share_of_capitals(text, share):
    """Only words in capitals count, by their letters."""
    assert capitals_in(text) == pytest.approx(share)


@pytest.mark.parametrize(
    ("text", "more"),
    [("no digit", 0), ("1", 0), ("12", 1), ("123", 2), ("1234", 2), ("12 345", 3)],
)
def test_digits_that_are_tokens_each(text, more):
    """Groups of up to three are one token for OpenAI, and as many as digits for others."""
    assert extra_digits(text) == more
