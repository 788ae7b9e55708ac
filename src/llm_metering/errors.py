"""Everything this library raises.

Each error is a `MeteringError` and also the builtin it is a case of, so that
`except ValueError` goes on working. Errors are raised while something is configured or
queried; once a call is in flight, trouble is counted and shown by `status` instead. The errors that a
call itself can meet are asked for, by a setting or a budget: each is a `CallRefusedError`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final, Literal

__all__ = [
    "AccessStoreError",
    "ApiKeyError",
    "BalanceExceeded",
    "BillError",
    "BudgetExceededError",
    "CallRefusedError",
    "CatalogueError",
    "ConfigurationError",
    "ExportError",
    "HomeError",
    "ImportFileError",
    "IngestError",
    "InvalidArgumentError",
    "InvalidUsageError",
    "LedgerError",
    "LimitStoreError",
    "LimitsUnavailable",
    "MeterError",
    "MeteringError",
    "MissingExtraError",
    "MissingSubjectError",
    "NotDurableError",
    "PlanError",
    "PortalTokenError",
    "PriceError",
    "ProblemKind",
    "QueryError",
    "RateExceeded",
    "ReconcileError",
    "RemoteUsageError",
    "SinkURLError",
    "SubjectError",
    "SubjectTokenError",
    "TransportProblem",
    "UnknownUsageError",
    "UnpricedCallError",
]

# Not what was found there: metadata may come from a client.
_PASSED_OVER: Final[Mapping[str, str]] = {
    "invalid_subject": "; what the run's metadata names is no text that can be a subject",
    "invalid_subject_token": (
        "; what the run's metadata names was passed over: it is not signed, or was changed, has "
        "expired, or is signed with another key or for another audience than this meter's source"
    ),
}


class MeteringError(Exception):
    """Root of all errors of this library."""


class ConfigurationError(MeteringError, ValueError):
    """A setting cannot be used.

    Attributes:
        setting: The name of the setting, as an argument of `configure()` spells it.
    """

    def __init__(self, setting: str, message: str) -> None:
        super().__init__(f"{setting}: {message}")
        self.setting = setting


class SinkURLError(ConfigurationError):
    """A sink's URL is not one we can deliver to."""

    def __init__(self, message: str) -> None:
        super().__init__("sinks", message)


class HomeError(ConfigurationError, OSError):
    """The folder of the journal and the ledger cannot be used."""

    def __init__(self, message: str) -> None:
        super().__init__("home", message)


class NotDurableError(MeteringError, OSError):
    """An event is recorded, and the medium did not take it: it survives no power cut yet."""


class LedgerError(MeteringError, RuntimeError):
    """The ledger is switched off, cannot be read, or was written by a newer version of this library."""


class LimitStoreError(MeteringError, RuntimeError):
    """The store of limits cannot be reached or used now, or a newer version of this library wrote it."""


class AccessStoreError(MeteringError, RuntimeError):
    """The keys of a home cannot be read or kept now, or a newer version of this library wrote them."""


class CatalogueError(MeteringError, RuntimeError):
    """What a server knows of meters and subjects cannot be read or kept now, or a newer version wrote it."""


class ApiKeyError(MeteringError, ValueError):
    """An API key is not accepted, or cannot be replaced.

    Attributes:
        reason: `malformed`, `unknown`, `wrong_secret`, `revoked`, `expired` or `replaced`.
        id: Its public part, if it has one.
    """

    def __init__(self, reason: str, *, id: str | None = None) -> None:
        # Not the key: whoever reads a log could use it.
        named = "the API key" if id is None else f"the API key {id}"
        super().__init__(
            f"there is no API key {id}"
            if reason == "unknown" and id is not None
            else f"{named} is not accepted: {reason}"
        )
        self.reason = reason
        self.id = id


class PortalTokenError(MeteringError, ValueError):
    """A portal token, or a code for one, is not accepted.

    Attributes:
        reason: `malformed`, `wrong_signature`, `unknown`, `revoked` or `expired`.
        id: Of the token, if it is one that was signed here.
    """

    def __init__(self, reason: str, *, id: str | None = None) -> None:
        super().__init__(f"the portal token is not accepted: {reason}")
        self.reason = reason
        self.id = id


class ReconcileError(MeteringError, RuntimeError):
    """A server cannot be compared with what was recorded; the message says what it answered."""


class RemoteUsageError(MeteringError, RuntimeError):
    """An OpenMeter server does not say what was used; the message says why, and what to do."""


class IngestError(MeteringError, RuntimeError):
    """A topic cannot be read into the ledger until a person mends something."""


class ExportError(MeteringError, RuntimeError):
    """Events cannot be exported, and no file was written; the message says what can."""


class ImportFileError(MeteringError, ValueError):
    """A file of usage cannot be imported, and nothing of it was; the message says what is wrong where.

    Attributes:
        path: The file.
    """

    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}; nothing of it was imported")
        self.path = path


class SubjectError(MeteringError, ValueError):
    """A subject, or a dimension beside it, is not a non-empty string."""


# No `ValueError`: LlamaIndex's query engines take one for a wrong answer of the model, and go on
# without it (llama-index-core 0.14.25, `response_synthesizers/refine.py`).
class CallRefusedError(MeteringError):
    """A call was not made: it is raised before the provider is asked, through the framework's own call.

    Attributes:
        reason: What refused calls are counted by.
    """

    reason = "refused"


class BudgetExceededError(CallRefusedError):
    """What was spent has reached the budget.

    Attributes:
        budget: The money there was.
        spent: What the calls that are over have cost.
        currency: Of both.
    """

    reason = "budget"

    def __init__(self, budget: Decimal, spent: Decimal, currency: str) -> None:
        super().__init__(
            f"the budget of {budget:f} {currency} is spent: the calls so far have cost {spent:f} "
            f"{currency}, so this one was not made"
        )
        self.budget = budget
        self.spent = spent
        self.currency = currency


class UnpricedCallError(CallRefusedError):
    """There is a budget, and nobody knows what a call of this model would cost.

    Attributes:
        model: The model, if it has a name.
    """

    reason = "no_price"

    def __init__(self, model: str | None, why: str) -> None:
        super().__init__(
            f"there is a budget, and {model or 'this call'} cannot be held to it: {why}; name its "
            "price in a price list, or go without a budget"
        )
        self.model = model


class BalanceExceeded(CallRefusedError):  # noqa: N818  # what has happened, as its users say it
    """A subject has less left than a call may need.

    Attributes:
        subject: Who pays.
        feature: Of what there is too little: `tokens`, `credits`, `money`, or one of the settings'.
        unit: What it is counted in: `tokens`, `credits`, or the code of a currency.
        balance: What is left, beside what is reserved; `None` if the subject has no grant at all.
        needed: What the call was estimated at.
        resets_at: When there will be more or less by itself; `None` if never.
    """

    reason = "balance"

    def __init__(
        self,
        subject: str,
        feature: str,
        unit: str,
        *,
        balance: int | Decimal | None,
        needed: int | Decimal,
        resets_at: datetime | None = None,
    ) -> None:
        if balance is None:
            text = f"{subject} has no grant of {feature}, and {_written(needed)} {unit} are needed"
        else:
            text = (
                f"{subject} has {_written(balance)} {unit} left, and {_written(needed)} are needed"
            )
        if resets_at is not None:
            text += f"; that changes at {resets_at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
        super().__init__(text)
        self.subject = subject
        self.feature = feature
        self.unit = unit
        self.balance = balance
        self.needed = needed
        self.resets_at = resets_at

    def __reduce__(self) -> tuple[Any, ...]:
        return _balance_exceeded, (
            (self.subject, self.feature, self.unit),
            {"balance": self.balance, "needed": self.needed, "resets_at": self.resets_at},
        )


def _written(amount: int | Decimal) -> str:
    return f"{amount:f}" if isinstance(amount, Decimal) else str(amount)


def _balance_exceeded(args: tuple[str, str, str], kwargs: dict[str, Any]) -> BalanceExceeded:
    return BalanceExceeded(*args, **kwargs)


class RateExceeded(CallRefusedError):  # noqa: N818  # likewise
    """A subject has begun too much in the last minute.

    Attributes:
        subject: Who pays.
        kind: Of what: `requests`, `tokens`.
        per_minute: How much may be begun.
        retry_at: When this call may be; `None` if it is more than may be begun in any minute.
    """

    reason = "rate"

    def __init__(
        self, subject: str, kind: str, per_minute: int, retry_at: datetime | None = None
    ) -> None:
        text = f"{subject} may begin {per_minute} {kind} a minute"
        if retry_at is None:
            text += ", and this call alone is more"
        else:
            text += f"; this call fits in at {retry_at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
        super().__init__(text)
        self.subject = subject
        self.kind = kind
        self.per_minute = per_minute
        self.retry_at = retry_at

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.subject, self.kind, self.per_minute, self.retry_at)


class LimitsUnavailable(CallRefusedError):  # noqa: N818  # likewise
    """Nobody knows what a subject has left, and the setting `on_limit_store_error` refuses such calls."""

    reason = "limits_unavailable"


class MissingSubjectError(CallRefusedError):
    """Nobody was named to pay for a call, and the setting `on_missing_subject` refuses such calls.

    Args:
        flags: What was odd about the run's metadata; of a subject in it that was passed over the
            message says so.
    """

    reason = "no_subject"

    def __init__(self, flags: tuple[str, ...] = ()) -> None:
        passed_over = "".join(text for flag, text in _PASSED_OVER.items() if flag in flags)
        super().__init__(
            "nobody is named to pay for this call, and on_missing_subject is 'raise'; name who pays "
            'with llm_metering.subject("…"), a handler\'s subject, or run metadata' + passed_over
        )


class SubjectTokenError(SubjectError):
    """A signed subject is not accepted.

    Attributes:
        reason: `malformed`, `unknown_key`, `wrong_signature`, `wrong_audience`, `expired`.
    """

    def __init__(self, reason: str) -> None:
        # Not the token: whoever reads a log could use it.
        super().__init__(f"the token of a subject is not accepted: {reason}")
        self.reason = reason


class InvalidArgumentError(MeteringError, ValueError):
    """An argument of `record` or `metered_stream` cannot be used."""


class InvalidUsageError(MeteringError, ValueError):
    """Token counts contradict each other or are no counts at all."""


class UnknownUsageError(MeteringError, ValueError):
    """What a provider reported is in no shape we know.

    Attributes:
        shape: The shape that was expected.
        keys: The names of the keys that were there; never their values.
    """

    def __init__(self, shape: str, *, keys: list[str]) -> None:
        super().__init__(f"no {shape} usage in an object with keys {keys}")
        self.shape = shape
        self.keys = keys


class MeterError(MeteringError, ValueError):
    """The definition of a meter that cannot be used; the message says what it may be."""


class PriceError(MeteringError, ValueError):
    """Prices that cannot be used; the message says which, where, and what they may be."""


class PlanError(MeteringError, ValueError):
    """A plan that cannot be used; the message says what, where, and what may stand there.

    Attributes:
        where: The keys and places that lead to it, from the value that refused it.
    """

    def __init__(self, message: str, *where: str | int) -> None:
        super().__init__(message)
        self.where = where


class BillError(MeteringError, ValueError):
    """A subject that cannot be billed for a period; the message says why, and what to do."""


class QueryError(MeteringError, ValueError):
    """A question about usage that cannot be answered; the message says what can."""


class MissingExtraError(MeteringError, ImportError):
    """A feature needs a package that is not installed."""

    def __init__(self, package: str, *extras: str) -> None:
        commands = " or ".join(f"pip install 'llm-metering[{extra}]'" for extra in extras)
        super().__init__(f"{package} is not installed; run: {commands}", name=package)
        self.extra = extras[0]


ProblemKind = Literal[
    "disk", "dropped", "not_durable", "sink_paused", "backlog", "shed", "dead_letters"
]


class TransportProblem(MeteringError):  # noqa: N818  # it is told, not raised
    """Something that a person should look at; handed to `on_error`, never raised.

    Attributes:
        kind: What it is: `disk` (the journal cannot be written; records wait in memory),
            `dropped` (records were given up for want of room), `not_durable` (the medium did
            not take in time what was to survive a power cut), `sink_paused` (a sink takes
            nothing until a person mends it), `backlog` (what a sink is owed nears its bound),
            `shed` (the oldest of it was given up), `dead_letters` (a sink will never take some
            events).
        sink: The name of the sink, where it is one's.
    """

    def __init__(self, kind: ProblemKind, message: str, *, sink: str | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.sink = sink
