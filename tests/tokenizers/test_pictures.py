"""What a picture costs, and how large it is."""

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_metering.tokenizers.images import image_of, size_of
from llm_metering.tokenizers.pictures import openai_picture, picture
from llm_metering.tokenizers.prompt import Image


def big(number, length=4):
    return number.to_bytes(length, "big")


def little(number, length=2):
    return number.to_bytes(length, "little")


PNG = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + big(640) + big(480) + b"\x08\x06\0\0\0"
GIF = b"GIF89a" + little(640) + little(480) + b"\xf7\0\0"
LOSSY = b"RIFF\0\0\0\0WEBPVP8 " + b"\0" * 4 + b"\0\0\0\x9d\x01\x2a" + little(640) + little(480)
LOSSLESS = b"RIFF\0\0\0\0WEBPVP8L" + b"\0" * 4 + b"\x2f" + little(639 | 479 << 14, 4)
EXTENDED = b"RIFF\0\0\0\0WEBPVP8X" + b"\0" * 8 + little(639, 3) + little(479, 3)
JPEG = (
    b"\xff\xd8"
    + (b"\xff\xe1" + big(9000, 2) + b"\xff" * 8998)  # a thumbnail, of which any byte may be a mark
    + (b"\xff\xc4" + big(4, 2) + b"\0\0")  # a table, no frame
    + (b"\xff\xff\xc2" + big(17, 2) + b"\x08" + big(480, 2) + big(640, 2) + b"\x03" * 10)
)
FILES = [
    pytest.param(PNG, id="PNG"),
    pytest.param(GIF, id="GIF"),
    pytest.param(LOSSY, id="WebP, lossy"),
    pytest.param(LOSSLESS, id="WebP, lossless"),
    pytest.param(EXTENDED, id="WebP, extended"),
    pytest.param(JPEG, id="JPEG"),
]


@pytest.mark.parametrize("data", FILES)
def test_the_size_stands_at_the_beginning(data):
    """Width and height are read from the bytes, their base64, and a URL of them."""
    encoded = base64.b64encode(data).decode()

    assert size_of(data) == (640, 480)
    assert size_of(encoded) == (640, 480)
    assert size_of(base64.urlsafe_b64encode(data).decode()) == (640, 480)
    assert size_of(f"data:image/any;base64,{encoded}") == (640, 480)


@pytest.mark.parametrize("data", FILES)
def test_a_cut_file_has_no_size(data):
    """A file that ends before its size has none; nothing is made up."""
    assert {size_of(data[:length]) for length in range(len(data))} <= {None, (640, 480)}


@settings(deadline=None)
@given(st.binary(max_size=64) | st.text(max_size=64))
def test_no_bytes_are_too_odd(data):
    """Whatever it is, there is a size of positive numbers, or none."""
    size = size_of(data)

    assert size is None or (size[0] > 0 and size[1] > 0)


@pytest.mark.parametrize(
    ("address", "size"),
    [
        pytest.param("https://images.example/8xzn/800x400", (800, 400), id="at the end"),
        pytest.param("https://images.example/800x400/a.png?x=1", (800, 400), id="in the middle"),
        pytest.param("https://images.example/a.png", (None, None), id="not there"),
        pytest.param("https://images.example/0x400", (None, None), id="no size"),
    ],
)
def test_a_size_in_an_address(address, size):
    """A size that the address states is believed, but not called seen."""
    image = image_of({"type": "image_url", "image_url": {"url": address}})

    assert (image.width, image.height) == size
    assert not image.is_seen


@pytest.mark.parametrize(
    ("model", "width", "height", "detail", "tokens"),
    [
        # The first five are the examples of OpenAI's guide.
        pytest.param("gpt-4o", 1024, 1024, "high", 765, id="a square"),
        pytest.param("gpt-4o", 2048, 4096, "high", 1105, id="a tall one"),
        pytest.param("gpt-4o", 4096, 8192, "low", 85, id="low detail"),
        pytest.param("gpt-4.1-mini", 1024, 1024, "auto", 1659, id="patches, 1024 times 1.62"),
        pytest.param("gpt-4.1-mini", 1800, 2400, "auto", 2353, id="patches, 1452 times 1.62"),
        pytest.param("gpt-4-1106-vision-preview", 800, 400, "auto", 425, id="never enlarged"),
        pytest.param("gpt-4o-mini", 1024, 1024, "high", 2833 + 4 * 5667, id="gpt-4o-mini"),
        pytest.param("gpt-5", 1024, 1024, "high", 70 + 4 * 140, id="gpt-5"),
        pytest.param("gpt-5-nano", 32, 32, "high", 3, id="one patch"),
        pytest.param("o3", 512, 512, "auto", 75 + 150, id="o3"),
    ],
)
def test_a_picture_for_openai(model, width, height, detail, tokens):
    """Tiles or patches, as OpenAI documents them for each model."""
    assert openai_picture(Image(width=width, height=height, detail=detail), model) == tokens


@pytest.mark.parametrize(
    ("rule", "model", "width", "height", "tokens"),
    [
        pytest.param("claude", "claude-sonnet-4-5", 1000, 1000, 1296, id="Claude"),
        pytest.param("claude", "claude-sonnet-4-5", 4000, 4000, 1568, id="Claude, made smaller"),
        pytest.param("claude", "claude-opus-4-8", 4000, 4000, 4784, id="Claude, since Opus 4.7"),
        pytest.param("gemini", "gemini-2.5-flash", 300, 300, 258, id="Gemini, small"),
        pytest.param("gemini", "gemini-2.5-flash", 1000, 700, 2 * 258, id="Gemini, two tiles"),
    ],
)
def test_a_picture_for_others(rule, model, width, height, tokens):
    """The documented rule of each provider that has one."""
    assert picture(rule, Image(width=width, height=height), model) == tokens


@settings(deadline=None)
@given(
    st.integers(min_value=1, max_value=50_000),
    st.integers(min_value=1, max_value=50_000),
    st.sampled_from(["gpt-4o", "gpt-5-mini", "o4-mini"]),
)
def test_no_picture_is_free_or_boundless(width, height, model):
    """Any size costs something, and no more than the largest that a model looks at."""
    assert 1 <= openai_picture(Image(width=width, height=height), model) <= 4000


def test_a_picture_nobody_saw_costs_what_a_square_does():
    """Its size is assumed; that it was is said by `unseen`."""
    assert openai_picture(Image(), "gpt-4o") == 765
