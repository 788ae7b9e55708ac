"""`MeteringHandler`: says who pays for the calls of the object that it is attached to.

It is a handler of LlamaIndex's older callbacks, since these are what objects take
(`callback_manager=`); but it counts nothing there. Counting is the instrumentation's
(`event_handler`), which hears of calls that the callbacks are not told of, and hears of each once.
"""

from __future__ import annotations

import weakref
from typing import Any
from uuid import uuid4

from ..default_meter import get_meter, limited_meter
from ..meter import Meter
from ..subjects import check_subject, plain_dimensions
from .accounts import Account
from .binding import bind_account, watch_attachments
from .dispatchers import put
from .gate import Gatekeeper
from .model_gates import watch_models

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
    that nobody pays for is refused before it is made; with `enforce=True` one that its payer's
    balance does not cover (`BalanceExceeded`).

    Args:
        subject: Who pays; without it, `instrument_tags`, `subject()` and the process's default say.
        meter: Where to record; the process's default meter, if left out.
        enforce: Whether calls are refused that the payer's balance does not cover.
        **dimensions: Strings to group usage by.

    Raises:
        ConfigurationError: If calls are to be refused, and limits are off in the meter.
        MeteringError: If the subject or a dimension is not usable, or the default meter
            cannot be made of the settings there are.
    """

    def __init__(
        self,
        subject: str | None = None,
        *,
        meter: Meter | None = None,
        enforce: bool = False,
        **dimensions: str,
    ) -> None:
        super().__init__()
        if subject is not None:
            subject = check_subject(subject)
        account = Account(uuid4().hex, subject, meter, plain_dimensions(dimensions), enforce)
        self._introduce(account)

    def _introduce(self, account: Account) -> None:
        # Here, so that a setting that is wrong is told now and not swallowed during a call.
        if account.enforce:
            (account.meter or limited_meter()).require_limits()
        meter = account.meter or get_meter()
        self.account = account
        _handlers[account.name] = self
        watch_attachments()
        put()
        if account.enforce or meter.settings.enforce:
            watch_models()
        meter.start()

    def __repr__(self) -> str:
        return f"MeteringHandler({self.account.subject!r})"

    def __copy__(self) -> MeteringHandler:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> MeteringHandler:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        account = self.account
        return _restore, (account.name, account.subject, account.dimensions, account.enforce)


def bind(
    model: Any,
    subject: str | None = None,
    *,
    meter: Meter | None = None,
    enforce: bool = False,
    **dimensions: str,
) -> Any:
    """Bill all calls of one object, wherever they are made from, threads without a context included.

    For an object of one customer's; one that several share is billed by `subject()` instead.

    Args:
        model: A model, an embedding model or a reranker; bound before, it is bound anew.
        subject: Who pays; without it, the order is that of `MeteringHandler`.
        meter: Where to record; the process's default meter, if left out.
        enforce: Whether calls are refused that the payer's balance does not cover.
        **dimensions: Strings to group usage by.

    Returns:
        The object itself. A copy of it is bound as well; what is unpickled of it is not.

    Raises:
        MeteringError: As `MeteringHandler` does.
    """
    handler = MeteringHandler(subject, meter=meter, enforce=enforce, **dimensions)
    bind_account(model, handler.account)
    return model


def _restore(
    name: str, subject: str | None, dimensions: dict[str, str], enforce: bool = False
) -> MeteringHandler:
    """Unpickle: the handler itself where it lives, in another process one like it."""
    known = _handlers.get(name)
    if known is None:
        # Two threads may each make one: they stand for the same account, and either will do.
        known = MeteringHandler.__new__(MeteringHandler)
        Gatekeeper.__init__(known)
        account = Account(name, subject, None, dimensions, enforce)
        known._introduce(account)  # noqa: SLF001  # it is one of ours
    return known
