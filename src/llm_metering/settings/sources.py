"""What can be an event's `source`.

CloudEvents 1.0 makes it a URI reference (RFC 3986, section 4.1). OpenMeter's server reads it with
Go's `url.Parse` (github.com/cloudevents/sdk-go, `v2/types/uriref.go`; Go 1.27, `net/url`) and
refuses a whole batch for one that it cannot read, so what either of the two refuses is refused.
"""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv6Address
from typing import Final

__all__ = ["source_problem"]

_OTHER: Final = re.compile(r"[^A-Za-z0-9\-._~!$&'()*+,;=@/?#\[\]:%]")
_HALF_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:")
# In a host, Go takes escapes for what is not ASCII, and for the percent sign itself.
_ASCII_ESCAPE: Final = re.compile(r"%(?!25)[0-7]")
_PORT: Final = re.compile(r"(?::[0-9]*)?")
_ZONE: Final = re.compile(r"%25[A-Za-z0-9\-._~]+")
_EMPTY_FOR_GO: Final = frozenset(["", "#", "//", "//#"])


def source_problem(source: str) -> str | None:
    """Why something cannot be the `source` of events; `None` if it can.

    >>> source_problem("https://example.org/my-app")
    >>> source_problem("100%")
    "its '%' is not followed by two hexadecimal digits (a percent sign is written %25)"
    """
    if source in _EMPTY_FOR_GO:
        return "it says nothing"
    if other := _OTHER.search(source):
        return f"it holds {other.group()!r}"
    if _HALF_ESCAPE.search(source):
        return "its '%' is not followed by two hexadecimal digits (a percent sign is written %25)"
    if source.count("#") > 1:
        return "it holds more than one '#'"
    scheme = _SCHEME.match(source)
    if scheme is None and ":" in re.split("[/?#]", source, maxsplit=1)[0]:
        return (
            "what stands before its first ':' is no URI scheme (a letter, then letters, digits, "
            "'+', '-' and '.'); use another character, such as '-', or write a '/' before it"
        )
    rest = source[scheme.end() :] if scheme else source
    authority = ""
    if rest.startswith("//"):
        authority = re.split("[/?#]", rest[2:], maxsplit=1)[0]
        rest = rest[2 + len(authority) :]
    if "[" in rest or "]" in rest:
        return "it holds '[' or ']' outside of an IPv6 address (they are written %5B and %5D)"
    return _authority_problem(authority)


def _authority_problem(authority: str) -> str | None:
    user, at, host = authority.rpartition("@")
    if at and ("@" in user or "[" in user or "]" in user):
        return "the user before its host holds '@', '[' or ']'"
    if host.startswith("["):
        address, closing, port = host[1:].partition("]")
        if not closing or not _is_ipv6(address):
            return "what stands between '[' and ']' is no IPv6 address"
    else:
        name, colon, number = host.partition(":")
        port = colon + number
        if "[" in name or "]" in name:
            return "its host holds '[' or ']'"
        if _ASCII_ESCAPE.search(name):
            return "its host holds an ASCII character written with '%'"
    if _PORT.fullmatch(port) is None:
        return f"{port!r} behind its host is no port"
    return None


def _is_ipv6(text: str) -> bool:
    address, mark, _ = text.partition("%25")
    if mark and _ZONE.fullmatch(text, len(address)) is None:
        return False
    try:
        # On its own: here Python would take a zone with a bare percent sign, and Go would not.
        return "%" not in address and IPv6Address(address) is not None
    except AddressValueError:
        return False
