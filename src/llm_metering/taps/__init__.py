"""Taps: what the provider really sent, read as it passes through the HTTP client.

A framework hands on what its integrations make of an answer, and some of them lose a part of what
was reported, or fail over it. A tap reads the same bytes on their way to the application, and keeps
the numbers in them. It takes nothing away and adds nothing; where it sees nothing, what the
framework says stands.

    begin()  ──►  the client reads an answer  ──►  complete()
    a call starts;        a tap reads along            the call ends: its report, made whole
    its context knows it
"""

import sys
from collections.abc import Callable
from functools import partial

from ..extract.reading import Reading
from . import aws, call, http
from .call import TappedCall, finders
from .requests import Begin, TappedRequests

__all__ = [
    "TappedCall",
    "TappedRequests",
    "begin",
    "current",
    "finders",
    "follow",
    "forget",
    "remove",
]

current = call.current


def forget(request: object) -> None:
    """The call of a request is not made after all: nothing that begins in this context is a part of it."""
    call.forget(request)


_PATCHES = (*http.PATCHES, *aws.PATCHES)


def begin(
    request: object, provider: str | None, *, framework: str = "", is_read: bool = True
) -> TappedCall:
    """A call starts, in this context; a second delivery of the same start is the same call.

    Args:
        request: The request as an object; it is never read.
        provider: Who is asked, as the framework calls them.
        framework: Whose call it is. One that is begun inside of a call of another framework is the
            one that asks a provider.
        is_read: Whether answers are read at all.
    """
    if is_read:
        _put()
    return call.begin(request, provider, framework=framework, is_read=is_read)


def follow(
    request: object,
    provider: str | None,
    *,
    begin: Begin,
    read_body: Callable[[bytes], Reading],
    framework: str,
    is_read: bool = True,
) -> TappedRequests:
    """A call starts, in this context, which may ask its provider many times.

    Args:
        request: What it is begun with; it is never read.
        provider: Who is asked.
        begin: Told of each answer, as it begins.
        read_body: Reads the body of one.
        framework: Whose call it is.
        is_read: Whether answers are read at all.
    """
    if is_read:
        _put()
    return call.enter(
        partial(
            TappedRequests,
            request,
            provider,
            begin=begin,
            read_body=read_body,
            framework=framework,
            is_read=is_read,
        )
    )


def _put() -> None:
    # Each time: a client's library may have been imported since.
    loaded = sys.modules
    for patch in _PATCHES:
        if patch.module in loaded and not patch.placed:
            patch.put()


def remove() -> None:
    """Take all taps out of the clients' libraries, until a call begins again."""
    for patch in _PATCHES:
        patch.take_out()
