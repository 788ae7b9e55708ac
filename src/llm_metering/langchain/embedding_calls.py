"""A call for embeddings and the requests it makes, told to the call table."""

from __future__ import annotations

import itertools
import logging
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import ContextVar, Token
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from .. import taps
from ..calls import CallStart, Outcome, Report, outcome_of
from ..default_meter import get_meter
from ..errors import CallRefusedError
from ..extract.embeddings import without_output
from ..extract.reading import Reading
from ..guard import Guard
from ..meter import Meter
from ..recording.records import report_of
from ..subjects import Attribution, Rank, attribute
from .embedding_clients import Request

if TYPE_CHECKING:
    from ..limits import Gate

__all__ = ["Account", "Embedding", "account_named", "is_within_another"]

logger = logging.getLogger("llm_metering")

_NO_TEXT: Final = Report()
_FRAMEWORK: Final = "langchain"

_accounts: weakref.WeakValueDictionary[str, Account] = weakref.WeakValueDictionary()
_around: ContextVar[Embedding | None] = ContextVar("llm_metering_embedding", default=None)


def account_named(name: str) -> Account | None:
    """The account of that name, if it lives in this process."""
    return _accounts.get(name)


def is_within_another() -> bool:
    """Whether the call that begins here is a part of another metered one."""
    around = _around.get()
    return around is not None and not around.is_over


class Account:
    """Who pays for the calls of a metered object, and where they are recorded."""

    def __init__(
        self,
        name: str,
        subject: str | None,
        meter: Meter | None,
        dimensions: Mapping[str, str],
        *,
        enforce: bool = False,
    ) -> None:
        self._name = name
        self._enforce = enforce
        self._subject = subject
        self._own_meter = meter
        self._dimensions = dict(dimensions)
        self._latest = meter
        self._tickets = itertools.count()
        self.under_way: dict[int, Embedding] = {}
        _accounts[name] = self

    def as_arguments(self) -> tuple[str, str | None, dict[str, str], bool]:
        return self._name, self._subject, self._dimensions, self._enforce

    def over(self, other: Account) -> Account:
        """What holds where something metered is metered again: what was said last."""
        return Account(
            uuid4().hex,
            self._subject or other._subject,
            self._own_meter or other._own_meter,
            {**other._dimensions, **self._dimensions},
            enforce=self._enforce or other._enforce,
        )

    def gate(self, meter: Meter) -> Gate | None:
        """What holds calls to balances, if anything does."""
        return meter.gate if self._enforce or meter.settings.enforce else None

    @property
    def meter(self) -> Meter:
        meter = self._latest = self._own_meter or get_meter()
        return meter

    def attribution(
        self, meter: Meter, model: str | None, *, provider: str | None = None, is_let_pass: bool
    ) -> Attribution:
        """Who pays for what begins here and now.

        Raises:
            CallRefusedError: If nobody does, and the settings refuse that, or a budget is spent.
        """
        found = attribute(
            handler=self._subject,
            default=meter.subject,
            dimensions=self._dimensions,
            rules=meter.rules,
        )
        if is_let_pass:
            return found
        refusal = found.refusal(provider, model)
        if refusal is None and found.rank is Rank.NOBODY:
            refusal = meter.missing_subjects.refusal()
        if refusal is not None:
            raise refusal
        return found

    def note_failure(self, where: str, error: Exception) -> None:
        if self._latest is None:
            logger.error("metering failed in %s: %s", where, type(error).__name__)
        else:
            self._latest.note_failure(where, error)

    def begin(self, embedding: Embedding) -> int:
        ticket = next(self._tickets)
        self.under_way[ticket] = embedding
        return ticket

    def watch(
        self, provider: str | None, model: str | None, inputs: Callable[[], list[Any] | None]
    ) -> Request | None:
        """A request to the provider begins; `None` if it is not ours to meter.

        Raises:
            CallRefusedError: If nobody pays, and the settings refuse that, a budget is spent, or a
                balance does not cover it.
        """
        try:
            around = _around.get()
            if around is None or around.is_over:
                around = self._whose()
            elif around.account is not self:
                return None  # the one around it is metered as a whole
            if around is None:
                meter = self.meter
                # A request of one of several calls, of which each was let pass.
                attribution = self.attribution(
                    meter, model, provider=provider, is_let_pass=bool(self.under_way)
                )
            else:
                around.is_seen = True
                meter, attribution = around.meter, around.attribution
                model = model or around.model
            gate = self.gate(meter) if around is None else around.gate
            return _Request(meter, attribution, provider, model, inputs, gate=gate)
        except CallRefusedError:
            raise
        except Exception as error:
            self.note_failure("embeddings", error)
            return None

    def _whose(self) -> Embedding | None:
        """The call that a request belongs to which a thread makes that knows of none.

        `None` where calls for several payers are under way, or none is.
        """
        calls = list(self.under_way.values())
        for call in calls:
            call.is_seen = True
        if calls and all(call.attribution == calls[0].attribution for call in calls):
            return calls[0]
        return None


def _is_paid_elsewhere() -> bool:
    """Whether what begins here is inside of another framework's call, which somebody pays for."""
    around = taps.current()
    is_theirs = around is not None and not around.is_over and around.framework != _FRAMEWORK
    return is_theirs and around is not None and around.is_paid


class Embedding:
    """One call of an embedding method."""

    __slots__ = (
        "_is_tapped", "_request", "_tapped", "_texts", "_ticket", "_token",
        "account", "attribution", "gate", "is_over", "is_seen", "meter", "model",
    )  # fmt: skip

    def __init__(
        self, account: Account, texts: object, model: str | None, *, is_tapped: bool
    ) -> None:
        self.account = account
        self.meter = account.meter
        is_paid = _is_paid_elsewhere()
        self.attribution = account.attribution(self.meter, model, is_let_pass=is_paid)
        self.gate = None if is_paid else account.gate(self.meter)
        self.model = model
        self.is_seen = False
        self.is_over = False
        self._texts = texts
        self._is_tapped = is_tapped
        self._request: _Request | None = None
        self._tapped: taps.TappedCall | None = None

    def __enter__(self) -> None:
        self._ticket = self.account.begin(self)
        self._token: Token[Embedding | None] = _around.set(self)
        with Guard("embeddings", self.account.note_failure):
            # Another framework's embeddings, around this one or inside of it, are the same call.
            self._tapped = taps.begin(self, None, framework=_FRAMEWORK, is_read=False)
            self.attribution = self._tapped.paid_by(self.attribution)
        # Of a client that is tapped we shall see the requests.
        if not self._is_tapped:
            try:
                self._open(self.gate)
            except BaseException:  # refused, or Ctrl-C
                self._leave()
                raise

    def _open(self, gate: Gate | None) -> None:
        # No texts, no request.
        if isinstance(self._texts, list | tuple) and not self._texts:
            return
        try:
            self._request = _Request(
                self.meter, self.attribution, None, self.model, self._inputs, gate=gate
            )
        except CallRefusedError:
            raise
        except Exception as error:
            self.account.note_failure("embeddings", error)

    def _leave(self) -> None:
        self.is_over = True
        self.account.under_way.pop(self._ticket, None)
        # A coroutine that nobody awaits to its end is closed by garbage collection, in any context.
        with suppress(ValueError):
            _around.reset(self._token)
        if self._tapped is not None:
            self._tapped.end()

    def _inputs(self) -> list[Any] | None:
        return [*self._texts] if isinstance(self._texts, list | tuple) else None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._leave()
        tapped = self._tapped
        if tapped is not None and tapped.holds_another and self._request is not None:
            self._request.end_with(Report(left_out="inner_call"))
            return
        if self._is_tapped and not self.is_seen and error is None:
            # It went past the client we know, such as in a subclass of the user's.
            self._open(None)
        if self._request is None:
            return
        if error is None:
            self._request.end_with(_NO_TEXT)
        else:
            self._request.fail(error)


class _Request:
    """One request to a provider, or a call whose requests we do not see: one event."""

    __slots__ = ("_key", "_meter")

    def __init__(
        self,
        meter: Meter,
        attribution: Attribution,
        provider: str | None,
        model: str | None,
        inputs: Callable[[], list[Any] | None],
        *,
        gate: Gate | None,
    ) -> None:
        self._meter = meter
        self._key = uuid4().hex

        def asked() -> Mapping[str, Any] | None:
            texts = inputs()
            return None if texts is None else {"input": texts}

        start = CallStart(
            attribution=attribution,
            framework=_FRAMEWORK,
            operation="embeddings",
            provider=provider,
            request_model=model,
            asked=asked,
            reservation=None if gate is None else gate.prepare(),
        )
        call = meter.calls.start(self._key, start)
        refusal: CallRefusedError | None = None
        try:
            if gate is not None:
                refusal = gate.admit(call)
        except Exception as error:
            # A fault of ours: the request is made, and metered.
            meter.note_failure("embeddings", error)
        except BaseException:
            # Such as Ctrl-C: nobody has asked the provider.
            meter.calls.refuse(self._key, None, None)
            raise
        if refusal is not None:
            meter.calls.refuse(self._key, None, refusal.reason)
            raise refusal

    def end(self, answer: object, read: Callable[[Any], Reading]) -> None:
        """The provider answered."""
        outcome: Outcome = "completed"
        report = Report(flags=("unknown_usage",))
        # What we cannot read ends the call all the same.
        with self._meter.guard("embeddings"):
            reading = read(answer)
            if reading.ending in ("failed", "refused"):
                outcome = reading.ending
            report = report_of(without_output(reading))
        self.end_with(report, outcome)

    def end_with(self, report: Report, outcome: Outcome = "completed") -> None:
        with self._meter.guard("embeddings"):
            self._meter.calls.end(self._key, outcome, report)

    def fail(self, error: BaseException) -> None:
        """It was refused, or failed, or nobody waits for it any more."""
        with self._meter.guard("embeddings"):
            outcome, reason = outcome_of(error)
            self._meter.calls.end(self._key, outcome, Report(reason=reason))
