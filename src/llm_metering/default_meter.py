"""The process-wide default meter, and the functions of the package that use it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, Unpack

from . import system
from .events import UsageEvent
from .meter import EXIT_TIMEOUT, FLUSH_TIMEOUT, Meter, StreamT
from .recording.keywords import RecordArguments
from .subjects import check_subject

if TYPE_CHECKING:
    from .limits import Balance, GrantBalance, Interval, Recurrence, Reservation
    from .meters import MeterDefinition, UsageReport

__all__ = [
    "aclose",
    "aflush",
    "arecord",
    "balance",
    "close",
    "configure",
    "current_meter",
    "flush",
    "get_meter",
    "grant",
    "limited_meter",
    "metered_stream",
    "put_in_place",
    "record",
    "reserve",
    "set_default_subject",
    "usage",
]

_default: Meter | None = None
_default_subject: str | None = None
_retired: list[Meter] = []
_default_lock = threading.RLock()


class _FreshLock:
    """Gives a forked child a lock that no thread of its parent's can have been holding."""

    def after_fork(self) -> None:
        global _default_lock
        _default_lock = threading.RLock()


_fresh_lock: Final = _FreshLock()
system.on_fork(_fresh_lock)


def configure(**settings: Any) -> Meter:
    """Make the process-wide default meter anew.

    The one there was is closed; while calls are in flight with it, it goes on for them.

    Args:
        **settings: As `Meter` takes them.

    Raises:
        MeteringError: If a setting cannot be used; the meter there was stays then.
    """
    return _put(lambda: Meter(**settings), has_subject=settings.get("subject") is not None)


def _put(make: Callable[[], Meter], *, has_subject: bool = False) -> Meter:
    """Make the default meter, and close the one there was once its calls are over."""
    global _default
    with _default_lock:
        meter = make()
        # What code says goes before what the environment says.
        if _default_subject is not None and not has_subject:
            meter.subject = _default_subject
        # What an earlier process left is shipped even if this one never records anything.
        meter.take_over()
        before, _default = _default, meter
        retiring = [*_retired, *([before] if before is not None else [])]
        _retired.clear()
    left = [each for each in retiring if not each.retire()]
    with _default_lock:
        _retired.extend(left)
    return meter


def set_default_subject(subject: str | None) -> None:
    """Say who pays where nothing else does, for the default meter and those to come.

    Args:
        subject: Who pays; `None` goes back to what the settings say.

    Raises:
        SubjectError: If the subject is not a non-empty string.
    """
    global _default_subject
    if subject is not None:
        check_subject(subject)
    with _default_lock:
        _default_subject = subject
        if _default is not None:
            _default.subject = _default.settings.subject if subject is None else subject


def put_in_place(meter: Meter | None) -> Meter | None:
    """Make `meter` the default one and leave the one there was as it is; `configure` closes it.

    Returns:
        The one there was.
    """
    global _default
    with _default_lock:
        before, _default = _default, meter
        if meter is not None and _default_subject is not None:
            meter.subject = _default_subject
    return before


def get_meter() -> Meter:
    """The process-wide default meter, made on first use from the environment and the file.

    Raises:
        MeteringError: If a setting cannot be used.
    """
    meter = _default
    if meter is not None:
        return meter
    with _default_lock:
        return _default or configure()


def limited_meter() -> Meter:
    """The default meter, with balances: made anew with them, if it has none and no setting says no.

    Raises:
        MeteringError: If a setting cannot be used, or switches limits off.
    """
    meter = get_meter()
    if meter.gate is not None or meter.settings.limits != "auto":
        return meter

    def make() -> Meter:
        made = meter.made_with(limits="on")
        made.subject = meter.subject
        return made

    return _put(make, has_subject=True)


def current_meter() -> Meter | None:
    """The process-wide default meter, if there is one now; none is made."""
    return _default


def flush(timeout: float = FLUSH_TIMEOUT) -> bool:
    """`Meter.flush` of the default meter, and of those before it that still have calls in flight."""
    deadline = time.monotonic() + timeout
    meters = [*_retired, *([] if _default is None else [_default])]
    done = [each.flush(max(deadline - time.monotonic(), 0.0)) for each in meters]
    return all(done)


async def aflush(timeout: float = FLUSH_TIMEOUT) -> bool:
    """`flush`, without blocking the event loop."""
    return await asyncio.to_thread(flush, timeout)


def close(timeout: float = EXIT_TIMEOUT) -> bool:
    """`Meter.close` of the default meter; the next use makes a new one."""
    global _default
    with _default_lock:
        before, _default = _default, None
    return before is None or before.close(timeout)


async def aclose(timeout: float = EXIT_TIMEOUT) -> bool:
    """`close`, without blocking the event loop."""
    return await asyncio.to_thread(close, timeout)


def record(
    response: object = None,
    subject: str | None = None,
    *,
    dimensions: Mapping[str, str] | None = None,
    time: datetime | str | None = None,
    idempotency_key: str | None = None,
    quantity: float | Decimal | None = None,
    unit: str | None = None,
    provider: str | None = None,
    model: str | None = None,
    operation: str | None = None,
    service_tier: str | None = None,
    request: Mapping[str, Any] | None = None,
    reservation: Reservation | str | None = None,
) -> UsageEvent | None:
    """`Meter.record` of the default meter."""
    return get_meter().record(
        response,
        subject,
        dimensions=dimensions,
        time=time,
        idempotency_key=idempotency_key,
        quantity=quantity,
        unit=unit,
        provider=provider,
        model=model,
        operation=operation,
        service_tier=service_tier,
        request=request,
        reservation=reservation,
    )


async def arecord(
    response: object = None,
    subject: str | None = None,
    **arguments: Unpack[RecordArguments],
) -> UsageEvent | None:
    """`Meter.arecord` of the default meter."""
    return await get_meter().arecord(response, subject, **arguments)


def metered_stream(
    stream: StreamT,
    subject: str | None = None,
    *,
    dimensions: Mapping[str, str] | None = None,
    provider: str | None = None,
    model: str | None = None,
    operation: str | None = None,
    service_tier: str | None = None,
    request: Mapping[str, Any] | None = None,
) -> StreamT:
    """`Meter.metered_stream` of the default meter."""
    return get_meter().metered_stream(
        stream,
        subject,
        dimensions=dimensions,
        provider=provider,
        model=model,
        operation=operation,
        service_tier=service_tier,
        request=request,
    )


def usage(
    meter: str | MeterDefinition = "tokens_total",
    subject: str | Iterable[str] | None = None,
    window: str | None = None,
    start: datetime | str | None = None,
    end: datetime | str | None = None,
    group_by: str | Iterable[str] = (),
    time_zone: str = "UTC",
    *,
    filters: Mapping[str, str | Iterable[str]] | None = None,
    backend: str | None = None,
) -> UsageReport:
    """`Meter.usage` of the default meter."""
    return get_meter().usage(
        meter,
        subject,
        window,
        start,
        end,
        group_by,
        time_zone,
        filters=filters,
        backend=backend,
    )


def grant(
    subject: str,
    amount: int | Decimal | str,
    unit: str = "tokens",
    *,
    priority: int = 100,
    effective_at: datetime | None = None,
    expires_at: datetime | None = None,
    recurrence: Interval | Recurrence | None = None,
    usage_period: Interval | Recurrence | None = None,
    min_rollover: int | Decimal | str = 0,
    max_rollover: int | Decimal | str | None = None,
    soft_limit: bool | None = None,
    key: str | None = None,
) -> GrantBalance:
    """`Meter.grant` of the default meter."""
    return limited_meter().grant(
        subject,
        amount,
        unit,
        priority=priority,
        effective_at=effective_at,
        expires_at=expires_at,
        recurrence=recurrence,
        usage_period=usage_period,
        min_rollover=min_rollover,
        max_rollover=max_rollover,
        soft_limit=soft_limit,
        key=key,
    )


def balance(subject: str, unit: str = "tokens", *, allow_incomplete: bool = False) -> Balance:
    """`Meter.balance` of the default meter."""
    return limited_meter().balance(subject, unit, allow_incomplete=allow_incomplete)


def reserve(
    subject: str,
    amount: int | Decimal | str,
    unit: str = "tokens",
    *,
    expires_in: float = 600.0,
) -> Reservation:
    """`Meter.reserve` of the default meter."""
    return limited_meter().reserve(subject, amount, unit, expires_in=expires_in)
