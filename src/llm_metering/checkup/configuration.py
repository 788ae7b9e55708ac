"""What is configured, and whether usage goes anywhere with it."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from ..errors import MeteringError
from ..limiting import are_limits_on, own_sinks
from ..opening import open_sinks
from ..settings import Settings, require_destination, unknown_variables
from ..sinks.base import Sink
from ..sinks.cloudevents import CloudEventsSink
from ..sinks.lago import LagoSink
from ..sinks.openmeter import OpenMeterSink
from ..sinks.stripe import StripeSink
from .finding import Finding, failure, ok, warning

__all__ = ["check_settings", "configured_sinks"]

_LOOPBACK = frozenset(["localhost", "127.0.0.1", "::1"])


def configured_sinks(settings: Settings) -> tuple[list[Sink], list[Finding]]:
    """Open the sinks of the settings, which connects to none of them.

    Returns:
        The sinks, none if one of them cannot be; and what is to be said of that.
    """
    try:
        require_destination(settings)
        sinks = open_sinks(settings, own_sinks(settings), ())
    except (MeteringError, ImportError) as error:
        return [], [
            failure(
                "settings.sinks",
                str(error),
                means="applications with these settings fail when they begin to meter",
                advice="mend the setting; `llm-metering config` shows what holds and where it "
                "comes from",
            )
        ]
    listed = ", ".join(sink.name for sink in sinks)
    return sinks, [ok("settings.sinks", f"usage of {settings.source!r} goes to {listed}")]


def check_settings(settings: Settings, sinks: list[Sink]) -> Iterator[Finding]:
    """Look for what was meant and does not hold.

    Args:
        settings: What holds.
        sinks: What it opened.
    """
    for name in unknown_variables():
        yield warning(
            "settings.variables",
            f"{name} is set, but there is no such setting",
            means="what it was to say does not hold",
            advice="mind the spelling, or unset it; `llm-metering config` shows what there is",
        )
    if settings.subject_token_secrets and settings.subject_from_metadata == "trust":
        yield warning(
            "settings.subject_from_metadata",
            "there are secrets for signed subjects, and a subject without a signature counts as well",
            means="where run metadata comes from clients, they choose who pays",
            advice="set LLM_METERING_SUBJECT_FROM_METADATA=signed",
        )
    if settings.enforce and not are_limits_on(settings):
        yield failure(
            "settings.enforce",
            "calls are to be held to balances, and limits are off",
            means="applications with these settings fail when they begin to meter",
            advice="switch one of them: LLM_METERING_LIMITS=on, or LLM_METERING_ENFORCE=off",
        )
    servers = [sink for sink in sinks if isinstance(sink, OpenMeterSink)]
    if settings.openmeter_token is not None and not servers:
        yield warning(
            "settings.openmeter_token",
            "a key of OpenMeter is set, and no sink uses it",
            means="no usage goes to OpenMeter",
            advice="name the server: LLM_METERING_SINKS=openmeter+https://openmeter.cloud",
        )
    for sink in servers:
        parts = urlsplit(sink.base)
        if sink.token and parts.scheme == "http" and parts.hostname not in _LOOPBACK:
            yield warning(
                "settings.openmeter_token",
                f"the key goes to {parts.hostname} without encryption",
                means="who listens on the way can read it, and your customers' usage",
                advice="use openmeter+https://",
                sink=sink.name,
            )
    yield from _check_billing(settings, sinks)
    yield from _check_webhooks(
        settings, [each for each in sinks if isinstance(each, CloudEventsSink)]
    )


def _check_billing(settings: Settings, sinks: list[Sink]) -> Iterator[Finding]:
    kinds: tuple[tuple[str, type[StripeSink | LagoSink], str], ...] = (
        ("stripe_api_key", StripeSink, "stripe://?meter=llm_tokens:total_tokens"),
        ("lago_api_key", LagoSink, "lago+https://api.getlago.com"),
    )
    for setting, kind, example in kinds:
        mine = [sink for sink in sinks if isinstance(sink, kind)]
        if getattr(settings, setting) is not None and not mine:
            yield warning(
                f"settings.{setting}",
                f"{setting} is set, and no sink uses it",
                means="no usage goes to that billing system",
                advice=f"name it: LLM_METERING_SINKS='{example}', or unset the key",
            )
        for sink in mine:
            parts = urlsplit(sink.base or "")
            if sink.key and parts.scheme == "http" and parts.hostname not in _LOOPBACK:
                yield warning(
                    f"settings.{setting}",
                    f"the key goes to {parts.hostname} without encryption",
                    means="who listens on the way can bill your customers with it",
                    advice="use https",
                    sink=sink.name,
                )


def _check_webhooks(settings: Settings, sinks: list[CloudEventsSink]) -> Iterator[Finding]:
    for setting in ("webhook_secret", "webhook_token"):
        if getattr(settings, setting) is not None and not sinks:
            yield warning(
                f"settings.{setting}",
                f"a {setting.replace('_', ' ')} is set, and no sink uses it",
                means="no usage goes to that receiver",
                advice="name the receiver: LLM_METERING_SINKS=cloudevents+https://…",
            )
    for sink in sinks:
        parts = urlsplit(sink.endpoint)
        if parts.hostname in _LOOPBACK:
            continue
        if sink.token and parts.scheme == "http":
            yield warning(
                "settings.webhook_token",
                f"the token goes to {parts.hostname} without encryption",
                means="who listens on the way can read it, and your customers' usage",
                advice="use cloudevents+https://",
                sink=sink.name,
            )
        if not sink.keys and (parts.scheme == "http" or not sink.token):
            yield warning(
                "settings.webhook_secret",
                f"what goes to {parts.hostname} is not signed",
                means="its receiver cannot tell your usage from what anybody else posts to it",
                advice="set LLM_METERING_WEBHOOK_SECRET, and have the receiver verify",
                sink=sink.name,
            )
