"""`MeteringHandler`: says who pays for the calls of the object that it is attached to.

It is a handler of LlamaIndex's older callbacks, since these are what objects take
(`callback_manager=`); but it counts nothing there. Counting is the instrumentation's
(`event_handler`), which hears of calls that the callbacks are not told of, and hears of each once.
"""

from __future__ import annotations

import weakref
from typing import Any
from uuid import uuid4

from ..default_meter import get_meter
from ..meter import Meter
from ..subjects import check_subject, plain_dimensions
from .accounts import Account
from .binding import bind_account, watch_attachments
from .dispatchers import put
from .gate import Gatekeeper

__all__ = ["MeteringHandler", "bind"]

_handlers: weakref.WeakValueDictionary[str, MeteringHandler] = weakref.WeakValueDictionary()


class MeteringHandler(Gatekeeper):
    """Meter the calls of the LlamaIndex objects whose callback manager it is in.

    Give it to a model, an embedding model, a reranker, a query engine or an agent:
    `OpenAI(callback_manager=CallbackManager([MeteringHandler("customer-42")]))`. What is given to a
    model holds for the model, also where a query engine puts its own manager in place of the
    model's; what is given to an engine holds for the calls inside of it, as long as a model's own
    says nothing else.

    It can be shared by threads and event loops, copied and pickled; a copy is the handler itself,
    and what is unpickled in another process records with that process's default meter. A failure
    to meter never reaches the application. Where the meter has `on_missing_subject="raise"`, a call
    that nobody pays for is refused before it is made.

    Args:
        subject: Who pays; without it, `instrument_tags`, `subject()` and the process's default say.
        meter: Where to record; the process's default meter, if left out.
        **dimensions: Strings to group usage by.

    Raises:
        MeteringError: If the subject or a dimension is not usable, or the default meter
            cannot be made of the settings there are.
    """

    def __init__(
        self, subject: str | None = None, *, meter: Meter | None = None, **dimensions: str
    ) -> None:
        super().__init__()
        if subject is not None:
            subject = check_subject(subject)
        self._introduce(uuid4().hex, subject, meter, plain_dimensions(dimensions))
        # Here, so that a setting that is wrong is told now and not swallowed during a call.
        (meter or get_meter()).start()

    def _introduce(
        self, name: str, subject: str | None, meter: Meter | None, dimensions: dict[str, str]
    ) -> None:
        self.account = Account(name, subject, meter, dimensions)
        _handlers[name] = self
        watch_attachments()
        put()

    def __repr__(self) -> str:
        return f"MeteringHandler({self.account.subject!r})"

    def __copy__(self) -> MeteringHandler:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> MeteringHandler:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        account = self.account
        return _restore, (account.name, account.subject, account.dimensions)


def bind(
    model: Any, subject: str | None = None, *, meter: Meter | None = None, **dimensions: str
) -> Any:
    """Bill all calls of one object, wherever they are made from, threads without a context included.

    For an object of one customer's; one that several share is billed by `subject()` instead.

    Args:
        model: A model, an embedding model or a reranker; bound before, it is bound anew.
        subject: Who pays; without it, the order is that of `MeteringHandler`.
        meter: Where to record; the process's default meter, if left out.
        **dimensions: Strings to group usage by.

    Returns:
        The object itself. A copy of it is bound as well; what is unpickled of it is not.

    Raises:
        MeteringError: As `MeteringHandler` does.
    """
    bind_account(model, MeteringHandler(subject, meter=meter, **dimensions).account)
    return model


def _restore(name: str, subject: str | None, dimensions: dict[str, str]) -> MeteringHandler:
    """Unpickle: the handler itself where it lives, in another process one like it."""
    known = _handlers.get(name)
    if known is None:
        # Two threads may each make one: they stand for the same account, and either will do.
        known = MeteringHandler.__new__(MeteringHandler)
        Gatekeeper.__init__(known)
        known._introduce(name, subject, None, dimensions)  # noqa: SLF001  # it is one of ours
        get_meter().start()
    return known
