"""`Settings`: what holds, checked, and how it is shown without its secrets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from ..subjects import METADATA_KEYS, FromMetadata, OnMissing
from .checks import (
    DEFAULT_BACKLOG_BYTES,
    DEFAULT_DURABILITY,
    DEFAULT_RETENTION_BYTES,
    DEFAULT_RETENTION_HOURS,
    DEFAULT_SILENT_CALL_HOURS,
    Durability,
)
from .delivering import DEFAULT_EVENT_ID, mask_url
from .limiting import (
    DEFAULT_DEADLINE,
    DEFAULT_OUTPUT_TOKENS,
    DEFAULT_THRESHOLDS,
    DefaultGrantSetting,
    FeatureSetting,
    OnLimitStoreError,
)
from .pricing import DEFAULT_PRICE_SOURCE, PriceSource

if TYPE_CHECKING:
    from ..meters import MeterDefinition

__all__ = ["DEFAULT_SOURCE", "SECRETS", "VARIABLES", "SettingRow", "Settings"]

DEFAULT_SOURCE: Final = "llm-metering"

VARIABLES: Final[Mapping[str, tuple[str, ...]]] = {
    "home": ("LLM_METERING_HOME",),
    "sinks": ("LLM_METERING_SINKS",),
    "source": ("LLM_METERING_SOURCE",),
    "subject": ("LLM_METERING_SUBJECT",),
    "ledger": ("LLM_METERING_LEDGER",),
    "ledger_keys": ("LLM_METERING_LEDGER_KEYS",),
    "durability": ("LLM_METERING_DURABILITY",),
    "backlog_bytes": ("LLM_METERING_BACKLOG_BYTES",),
    "retention_hours": ("LLM_METERING_RETENTION_HOURS",),
    "retention_bytes": ("LLM_METERING_RETENTION_BYTES",),
    "event_type": ("LLM_METERING_EVENT_TYPE",),
    "event_id": ("LLM_METERING_EVENT_ID",),
    "openmeter_token": ("OPENMETER_API_KEY", "OPENMETER_TOKEN"),
    "webhook_secret": ("LLM_METERING_WEBHOOK_SECRET",),
    "webhook_token": ("LLM_METERING_WEBHOOK_TOKEN",),
    "kafka_username": ("LLM_METERING_KAFKA_USERNAME",),
    "kafka_password": ("LLM_METERING_KAFKA_PASSWORD",),
    "kafka_properties": ("LLM_METERING_KAFKA_PROPERTIES",),
    "stripe_api_key": ("STRIPE_API_KEY",),
    "lago_api_key": ("LAGO_API_KEY",),
    "tokenizer_download": ("LLM_METERING_TOKENIZER_DOWNLOAD",),
    "taps": ("LLM_METERING_TAPS",),
    "request_stream_usage": ("LLM_METERING_REQUEST_STREAM_USAGE",),
    "silent_call_hours": ("LLM_METERING_SILENT_CALL_HOURS",),
    "on_missing_subject": ("LLM_METERING_ON_MISSING_SUBJECT",),
    "subject_keys": ("LLM_METERING_SUBJECT_KEYS",),
    "subject_from_metadata": ("LLM_METERING_SUBJECT_FROM_METADATA",),
    "subject_token_secrets": ("LLM_METERING_SUBJECT_TOKEN_SECRETS",),
    "metadata_dimensions": ("LLM_METERING_METADATA_DIMENSIONS",),
    "prices": ("LLM_METERING_PRICES",),
    "price_source": ("LLM_METERING_PRICE_SOURCE",),
    "plans": ("LLM_METERING_PLANS",),
    "limits": ("LLM_METERING_LIMITS",),
    "enforce": ("LLM_METERING_ENFORCE",),
    "entitlements": ("LLM_METERING_ENTITLEMENTS",),
    "default_grant": ("LLM_METERING_DEFAULT_GRANT",),
    "requests_per_minute": ("LLM_METERING_REQUESTS_PER_MINUTE",),
    "tokens_per_minute": ("LLM_METERING_TOKENS_PER_MINUTE",),
    "reserved_output_tokens": ("LLM_METERING_RESERVED_OUTPUT_TOKENS",),
    "limit_deadline": ("LLM_METERING_LIMIT_DEADLINE",),
    "on_limit_store_error": ("LLM_METERING_ON_LIMIT_STORE_ERROR",),
    "limit_slices": ("LLM_METERING_LIMIT_SLICES",),
    "balance_thresholds": ("LLM_METERING_BALANCE_THRESHOLDS",),
    # Tables, which no variable can hold.
    "features": (),
    "meters": (),
}
"""The settings, in the order they are shown, and the environment variables of each."""

SECRETS: Final = frozenset(
    {
        *("openmeter_token", "webhook_secret", "webhook_token", "kafka_username", "kafka_password"),
        *("stripe_api_key", "lago_api_key", "subject_token_secrets", "ledger_keys"),
    }
)

CREDENTIALS: Final = (
    *("openmeter_token", "webhook_secret", "webhook_token"),
    *("kafka_username", "kafka_password", "kafka_properties"),
    *("stripe_api_key", "lago_api_key"),
)
"""The settings that only sinks need."""


class SettingRow(NamedTuple):
    """One setting as `llm-metering config` shows it, without secrets.

    Attributes:
        setting: Its name as an argument.
        value: What holds; for a secret `set` or `not set`.
        origin: Where it comes from.
    """

    setting: str
    value: str | int | float | tuple[str, ...] | None
    origin: str


@dataclass(frozen=True, kw_only=True, repr=False)
class Settings:
    """What holds, checked; made by `load_settings`.

    Attributes:
        home: The folder of the journal and the ledger, absolute.
        sinks: URLs of the sinks beside the ledger.
        source: The application's stable name, CloudEvents' `source`.
        subject: Who pays for calls that nobody else was named for.
        ledger: Whether usage is kept in the ledger on this machine.
        ledger_keys: The keys that its events are signed with: the first signs, with the others they were
            signed before.
        durability: What a recorded event survives: the death of the `process`, a `power` cut, or
            nothing (`memory`).
        backlog_bytes: How much a sink may be owed on disk; beyond it the oldest is given up.
        retention_hours: How long the journal keeps what every sink has had, to be replayed;
            0 deletes it at once.
        retention_bytes: What that may take on disk; the oldest goes first.
        event_type: The CloudEvents `type` that OpenMeter sinks send where their URL names none.
        event_id: Under which id they send an event where their URL does not say: `call` is the
            event's own, `response` the provider's response id.
        openmeter_token: The API key that OpenMeter sinks send.
        webhook_secret: What `cloudevents+https` sinks sign with: `whsec_…`, or several while keys
            change.
        webhook_token: The bearer token that they send.
        kafka_username: Of SASL, for Kafka.
        kafka_password: Of SASL, for Kafka.
        kafka_properties: A file with further properties of Kafka's client, secret ones too.
        stripe_api_key: The key that Stripe sinks send.
        lago_api_key: The key that Lago sinks send.
        tokenizer_download: Whether tokenizer files may be fetched from OpenAI's servers when
            they are not on this machine.
        taps: Whether what a provider answers is read on its way through the HTTP client too, since
            frameworks lose some of it.
        request_stream_usage: Whether streams of LlamaIndex's OpenAI models are made to report their
            usage; `None`, `auto`: those of OpenAI's and Azure's own servers.
        silent_call_hours: After how long without a sign of life a call in flight is closed.
        on_missing_subject: What is done about a call that nobody is named to pay for: it is kept
            as `unattributed`, that and a log line (`warn`), or it is refused (`raise`).
        subject_keys: The keys of run metadata that name who pays, first found wins.
        subject_from_metadata: Whether such a name is taken as it stands (`trust`), by a signed
            token only (`signed`), or never (`ignore`).
        subject_token_secrets: The keys that may have signed such a token.
        metadata_dimensions: The keys of run metadata whose values become dimensions.
        prices: Files with the user's own prices and credits.
        price_source: Where other prices come from: genai-prices where it is installed (`auto`), from
            there in any case (`genai-prices`), or from nowhere (`off`).
        plans: The file with what customers pay.
        limits: Where balances are: in the home (`on`), in a database (`postgresql://…`), nowhere (`off`);
            `auto` is in the home, once somebody was granted something there.
        enforce: Whether every call is refused that its payer's balance does not cover.
        entitlements: The OpenMeter server whose entitlements balances follow; `None` is none.
        default_grant: What a subject is granted that has nothing, when its first call is checked.
        requests_per_minute: How many calls a subject may begin a minute.
        tokens_per_minute: How many tokens, as they are estimated.
        reserved_output_tokens: How many tokens are reserved for the answer to a call that does not say
            how many it may have.
        limit_deadline: After how many seconds an event loop no longer waits for the store of balances.
        on_limit_store_error: What becomes of a call while nobody knows what is left: it is let through
            and counted (`allow`), or refused (`refuse`).
        limit_slices: Whether a process reserves ahead for a subject of many calls, and hands that out itself.
        balance_thresholds: Of how much use, in percent, is told.
        features: What of the user's own can be granted.
        own_meters: The user's own meters.
        origins: Where each setting comes from: `argument`, `environment LLM_METERING_HOME`,
            `file /app/llm-metering.toml`, `default`.
    """

    home: Path
    sinks: tuple[str, ...] = ()
    source: str = DEFAULT_SOURCE
    subject: str | None = None
    ledger: bool = True
    ledger_keys: tuple[bytes, ...] = ()
    durability: Durability = DEFAULT_DURABILITY
    backlog_bytes: int = DEFAULT_BACKLOG_BYTES
    retention_hours: float = DEFAULT_RETENTION_HOURS
    retention_bytes: int = DEFAULT_RETENTION_BYTES
    event_type: str | None = None
    event_id: str = DEFAULT_EVENT_ID
    openmeter_token: str | None = None
    webhook_secret: str | None = None
    webhook_token: str | None = None
    kafka_username: str | None = None
    kafka_password: str | None = None
    kafka_properties: str | None = None
    stripe_api_key: str | None = None
    lago_api_key: str | None = None
    tokenizer_download: bool = False
    taps: bool = True
    request_stream_usage: bool | None = None
    silent_call_hours: float = DEFAULT_SILENT_CALL_HOURS
    on_missing_subject: OnMissing = "unattributed"
    subject_keys: tuple[str, ...] = METADATA_KEYS
    subject_from_metadata: FromMetadata = "trust"
    subject_token_secrets: tuple[bytes, ...] = ()
    metadata_dimensions: tuple[str, ...] = ()
    prices: tuple[Path, ...] = ()
    price_source: PriceSource = DEFAULT_PRICE_SOURCE
    plans: Path | None = None
    limits: str = "auto"
    enforce: bool = False
    entitlements: str | None = None
    default_grant: DefaultGrantSetting | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    reserved_output_tokens: int = DEFAULT_OUTPUT_TOKENS
    limit_deadline: float = DEFAULT_DEADLINE
    on_limit_store_error: OnLimitStoreError = "allow"
    limit_slices: bool = False
    balance_thresholds: tuple[int, ...] = DEFAULT_THRESHOLDS
    features: tuple[FeatureSetting, ...] = ()
    own_meters: tuple[MeterDefinition, ...] = ()
    origins: Mapping[str, str] = field(default_factory=dict, compare=False)

    @property
    def credentials(self) -> dict[str, str]:
        """What sinks need to be let in, by the name of the setting; those that are set."""
        found = {name: getattr(self, name) for name in CREDENTIALS}
        return {name: value for name, value in found.items() if value is not None}

    @property
    def meters(self) -> Mapping[str, MeterDefinition]:
        """All meters by slug: the built-in ones, then the user's own."""
        # Here, not above: a process that only records asks for no meter.
        from ..meters import METERS, PRICED_METERS

        own = {meter.slug: meter for meter in self.own_meters}
        return MappingProxyType({**METERS, **PRICED_METERS, **own})

    def describe(self) -> tuple[SettingRow, ...]:
        """Each setting with its value and its origin, fit to be shown to anybody."""
        shown: dict[str, str | int | float | tuple[str, ...] | None] = {
            "home": str(self.home),
            "sinks": tuple(mask_url(url) for url in self.sinks),
            "source": self.source,
            "subject": self.subject,
            "ledger": self.ledger,
            "ledger_keys": "set" if self.ledger_keys else "not set",
            "durability": self.durability,
            "backlog_bytes": self.backlog_bytes,
            "retention_hours": self.retention_hours,
            "retention_bytes": self.retention_bytes,
            "event_type": self.event_type,
            "event_id": self.event_id,
            # Not even its last characters: a support ticket is no place for any part of a key.
            **{
                name: "not set" if getattr(self, name) is None else "set"
                for name in CREDENTIALS
                if name in SECRETS
            },
            "kafka_properties": self.kafka_properties,
            "tokenizer_download": self.tokenizer_download,
            "taps": self.taps,
            "request_stream_usage": (
                "auto" if self.request_stream_usage is None else self.request_stream_usage
            ),
            "silent_call_hours": self.silent_call_hours,
            "on_missing_subject": self.on_missing_subject,
            "subject_keys": self.subject_keys,
            "subject_from_metadata": self.subject_from_metadata,
            "subject_token_secrets": "set" if self.subject_token_secrets else "not set",
            "metadata_dimensions": self.metadata_dimensions,
            "prices": tuple(map(str, self.prices)),
            "price_source": self.price_source,
            "plans": None if self.plans is None else str(self.plans),
            "limits": mask_url(self.limits) if "://" in self.limits else self.limits,
            "enforce": self.enforce,
            "entitlements": None if self.entitlements is None else mask_url(self.entitlements),
            "default_grant": None if self.default_grant is None else str(self.default_grant),
            "requests_per_minute": self.requests_per_minute,
            "tokens_per_minute": self.tokens_per_minute,
            "reserved_output_tokens": self.reserved_output_tokens,
            "limit_deadline": self.limit_deadline,
            "on_limit_store_error": self.on_limit_store_error,
            "limit_slices": self.limit_slices,
            "balance_thresholds": tuple(map(str, self.balance_thresholds)),
            "features": tuple(each.key for each in self.features),
            "meters": tuple(meter.slug for meter in self.own_meters),
        }
        return tuple(
            SettingRow(name, shown[name], self.origins.get(name, "default")) for name in VARIABLES
        )

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={value!r}" for name, value, _ in self.describe())
        return f"Settings({values})"
