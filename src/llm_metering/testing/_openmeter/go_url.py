"""Which strings Go's `url.Parse` takes, as OpenMeter's server reads an event's `source`.

Source: `net/url/url.go` of Go 1.27.3 (`parse`, `getScheme`, `parseAuthority`, `parseHost`,
`unescape`). Of an IPv6 zone it takes fewer characters than Go.
"""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv6Address
from typing import Final

__all__ = ["is_go_url"]

_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:")
_USER: Final = re.compile(r"[A-Za-z0-9\-._:~!$&'()*+,;=%@]*")
_PORT: Final = re.compile(r"(?::[0-9]*)?")
_HALF_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ASCII_ESCAPE: Final = re.compile(r"%(?!25)[0-7]")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_NOT_IN_HOSTS: Final = re.compile(r"[ \\^`{|}?#]")
_ZONE: Final = re.compile(r"%25[A-Za-z0-9\-._~]+")


def is_go_url(text: str) -> bool:
    """Whether `url.Parse(text)` gives a URL that is not empty."""
    if text in ("", "#", "//", "//#"):
        return False  # parsed, and then refused as no source at all
    before, _, fragment = text.partition("#")
    if _CONTROL.search(before):
        return False
    if _HALF_ESCAPE.search(fragment) or before.startswith(":"):
        return False
    scheme = _SCHEME.match(before)
    rest = (before[scheme.end() :] if scheme else before).partition("?")[0]
    if not rest.startswith("/"):
        if scheme:
            return True  # opaque: nobody looks further
        return ":" not in rest.partition("/")[0] and not _HALF_ESCAPE.search(rest)
    if rest.startswith("//") and (scheme or not rest.startswith("///")):
        authority, slash, path = rest[2:].partition("/")
        return _is_authority(authority, scheme) and not _HALF_ESCAPE.search(slash + path)
    return not _HALF_ESCAPE.search(rest)


def _is_authority(authority: str, scheme: re.Match[str] | None) -> bool:
    user, _, host = authority.rpartition("@")
    if _USER.fullmatch(user) is None or _HALF_ESCAPE.search(authority):
        return False
    if "[" in host:
        address, closing, port = host[1:].rpartition("]")
        return (
            host.rindex("[") == 0
            and bool(closing)
            and _PORT.fullmatch(port) is not None
            and _is_ipv6(address)
        )
    # One colon only in HTTP's; elsewhere there are lists of hosts.
    split = scheme and scheme.group().lower() in ("http:", "https:")
    name, colon, number = host.partition(":") if split else host.rpartition(":")
    if not colon:
        name, number = host, ""
    if _PORT.fullmatch(colon + number) is None:
        return False
    return not _ASCII_ESCAPE.search(name) and not _NOT_IN_HOSTS.search(name)


def _is_ipv6(text: str) -> bool:
    address, mark, _ = text.partition("%25")
    try:
        IPv6Address(address)
    except AddressValueError:
        return False
    return "%" not in address and (not mark or bool(_ZONE.fullmatch(text, len(address))))
