"""`CallWatcher`: who is told of the calls that begin in a scope, and may refuse them."""

from __future__ import annotations

import weakref
from typing import Final, Protocol
from uuid import uuid4

from ..errors import CallRefusedError
from ..events import UsageEvent

__all__ = ["CallWatcher", "Watchers", "ticket_of", "watcher_of"]


class CallWatcher(Protocol):
    """Follows the calls of one scope, from their start to their event.

    It is told on whichever thread knows, within the application's calls and within garbage
    collection: it takes no lock, does no I/O, and raises nothing. It may be told of one call twice,
    by two meters that record it; the event's id is the same.
    """

    def refusal(self, provider: str | None, model: str | None) -> CallRefusedError | None:
        """What to raise before such a call is made; `None` lets it pass."""

    def began(self, event_id: str) -> None:
        """A call is made."""

    def counting(self, event_id: str) -> None:
        """It is over, and its tokens are being counted."""

    def settled(self, event: UsageEvent) -> None:
        """It is over, and this is recorded of it."""

    def left_out(self, event_id: str) -> None:
        """It is over and has no event of its own, or was not made after all."""


Watchers = tuple[CallWatcher, ...]

_tickets: Final[weakref.WeakValueDictionary[str, CallWatcher]] = weakref.WeakValueDictionary()


def ticket_of(watcher: CallWatcher) -> str:
    """A text by which a watcher is found again in this process, where only text can be carried."""
    for ticket, each in list(_tickets.items()):
        if each is watcher:
            return ticket
    ticket = uuid4().hex
    _tickets[ticket] = watcher
    return ticket


def watcher_of(ticket: object) -> CallWatcher | None:
    """The watcher of a ticket, if it was given in this process and the watcher is still there."""
    return _tickets.get(ticket) if isinstance(ticket, str) else None
