"""What an application's `source` may be, so that OpenMeter's server can read it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_metering.errors import ConfigurationError
from llm_metering.settings import load_settings
from llm_metering.settings.sources import source_problem
from llm_metering.testing._openmeter.go_url import is_go_url

REFUSED = {
    # What it is: the source, what the error says of it.
    "underscore before a colon": ("my_app:1", "before its first ':' is no URI scheme"),
    "number before a colon": ("10:30", "before its first ':' is no URI scheme"),
    "address and port": ("10.0.0.1:80", "before its first ':' is no URI scheme"),
    "escape before a colon": ("%3a:b", "before its first ':' is no URI scheme"),
    "percent sign": ("100%", "a percent sign is written %25"),
    "percent sign in an opaque part": ("app:%zz", "a percent sign is written %25"),
    "port that is a word": ("http://host:port/x", "':port' behind its host is no port"),
    "port without a scheme": ("//host:x/y", "':x' behind its host is no port"),
    "two ports": ("http://host:80:90/", "':80:90' behind its host is no port"),
    "bare IPv6 address": ("http://::1/", "is no port"),
    "no IPv6 address": ("http://[zz]/", "is no IPv6 address"),
    "address of a later version": ("http://[v1.x]/", "is no IPv6 address"),
    "address without an end": ("//[", "is no IPv6 address"),
    "zone without an escape": ("http://[fe80::1%en0]/", "a percent sign is written %25"),
    "bracket in a host": ("http://a[b]/", "its host holds '[' or ']'"),
    "escaped letter in a host": ("http://h%41/", "an ASCII character written with '%'"),
    "bracket in a path": ("a[1]", "outside of an IPv6 address"),
    "bracket in a user": ("http://[@host/", "the user before its host"),
    "two users": ("http://a@b@host/", "the user before its host"),
    "two fragments": ("a#b#c", "more than one '#'"),
    "an empty fragment alone": ("#", "it says nothing"),
    "an empty host alone": ("//", "it says nothing"),
    "space": ("my app", "it holds ' '"),
    "letter beyond ASCII": ("größe", "it holds 'ö'"),
    "line break": ("app\n", r"it holds '\n'"),
}

TAKEN = [
    *("shop", "shop.eu-1", "my_app", "my_app/10:30", "/a:b", "?a:b", "#a:b", "*", "?", "x#", "x?"),
    *("host:80", "urn:x:y", "app:", "app:/", "a%20b", "100%25", "mailto:a@b", "a;b,c=d!$&'()*+~"),
    *("https://example.org/a?b#c", "http://u:p@h:8080/x", "http://h:/", "http://", "http:///x"),
    *("http://[::1]:80/", "http://[fe80::1%25en0]/", "http://[::ffff:1.2.3.4]/"),
    *("http://h%C3%B6/", "http://h%25/", "//host:8/y", "///x", "HTTP://x", "http:?x"),
]

# As `url.Parse` of Go 1.27.3 judges them, run on these very strings.
GO_REFUSES = frozenset(
    [
        *("my_app:1", "10:30", "10.0.0.1:80", "%3a:b", "100%", "http://host:port/x", "//host:x/y"),
        *("http://host:80:90/", "http://::1/", "http://[zz]/", "http://[v1.x]/", "//["),
        *("http://[fe80::1%en0]/", "http://a[b]/", "http://h%41/", "http://[@host/"),
        *("#", "//", "app\n"),
    ]
)


@pytest.mark.parametrize(
    ("source", "reason"), [pytest.param(*each, id=name) for name, each in REFUSED.items()]
)
def test_what_no_server_could_read_is_refused_at_configuration(source, reason):
    """The error says what is wrong with it, and where it came from."""
    with pytest.raises(ConfigurationError) as caught:
        load_settings(source=source)

    assert str(caught.value).startswith("source: ")
    assert reason in str(caught.value)
    assert str(caught.value).endswith(f"got {source!r} (argument)")


@pytest.mark.parametrize("source", TAKEN)
def test_a_uri_reference_that_go_reads_is_taken(source):
    """Whatever both CloudEvents and OpenMeter's parser take can be a source."""
    assert load_settings(source=source).source == source
    assert is_go_url(source)


@pytest.mark.parametrize("source", [source for source, _ in REFUSED.values()])
def test_the_fake_server_reads_a_source_as_go_does(source):
    """It refuses what Go's own parser was seen to refuse, and nothing else."""
    assert is_go_url(source) == (source not in GO_REFUSES)


PIECES = [
    *("a", "1", "http:", "urn:", "//", "/", "?", "#", ":", "@", "[", "]", "::1", "[::1]", "%"),
    *("%41", "%C3", "%25", "%zz", ":80", "-", ".", "_", "~", "é", " ", "\\", "\x7f", "A+b:"),
]


@given(st.lists(st.sampled_from(PIECES), min_size=1, max_size=8).map("".join))
def test_no_accepted_source_is_refused_by_the_server(source):
    """What configuration takes, OpenMeter's parser takes."""
    assert source_problem(source) is not None or is_go_url(source)
