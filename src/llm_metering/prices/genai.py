"""What genai-prices knows, as a `PriceList` (extra `prices`).

Source: genai-prices 0.2.3: `types.py` (`ModelInfo.get_prices`, `TieredPrices`, `PriceVariant`) and the
data that its package holds. Prices that it can load from the network in the background are left aside:
the same package says the same.

Three of its rules are not taken over, since each makes a wrong price of an unknown one: names that only
begin like, or contain, what it looks for; the usual price for a tier that it has none for; and, with few
exceptions (`genai_cards`), text's price for audio and images.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any, Final

from ..errors import MissingExtraError
from .genai_cards import cards_of
from .lists import ModelPrices
from .names import names_of
from .tiers import tier_of
from .unpriced import Unpriced

__all__ = ["NAME", "GenaiPrices", "is_installed"]

NAME: Final = "genai-prices"
_PACKAGE: Final = "genai_prices"

_IDS: Final[Mapping[str, str]] = {
    "aws.bedrock": "aws",
    "azure.ai.inference": "azure",
    "azure.ai.openai": "azure",
    "gcp": "google",
    "mistral_ai": "mistral",
    "z_ai": "zai",
}
"""What it calls a provider, where that is not the name used here, but for `-`."""

_NOT_SERVED: Final = "gpt-oss-"
"""What OpenAI publishes and does not serve: who is asked for it through OpenAI's client is another."""

_DAY: Final = timedelta(days=1)


def is_installed() -> bool:
    """Whether the package is there; it is not imported to find out."""
    return importlib.util.find_spec(_PACKAGE) is not None


class GenaiPrices:
    """The prices of the genai-prices package that is installed.

    Raises:
        MissingExtraError: If it is not.
    """

    name = NAME

    def __init__(self) -> None:
        spec = importlib.util.find_spec(_PACKAGE)
        if spec is None or spec.origin is None:
            raise MissingExtraError("genai-prices", "prices")
        data = (Path(spec.origin).parent / "data.py").read_bytes()
        digest = hashlib.sha256(data).hexdigest()[:12]
        self.version = f"{importlib.metadata.version(_PACKAGE)}+{digest}"
        self._found: dict[tuple[str | None, str, str | None], _Timeline | Unpriced] = {}
        self._indexes: dict[str, dict[str, Any]] = {}
        self._providers: dict[str, Any] | None = None

    def find(
        self, provider: str | None, model: str | None, *, time: datetime, service_tier: str | None
    ) -> ModelPrices | Unpriced:
        """The prices of a model; see `PriceList.find`."""
        if model is None:
            return Unpriced("unknown_model", f"no model is named ({NAME})")
        key = (provider, model, service_tier)
        found = self._found.get(key)
        if found is None:
            found = self._found[key] = self._look_up(provider, model, tier_of(service_tier))
        return found if isinstance(found, Unpriced) else found.at(time)

    def models(self) -> Iterator[tuple[str, str]]:
        """Every model, by what genai-prices calls its provider and the model."""
        for provider in self._all().values():
            for model in provider.models:
                yield provider.id, model.id

    def _all(self) -> dict[str, Any]:
        if self._providers is None:
            # Here, not above: it takes a third of a second, and most processes price nothing.
            from genai_prices.data import providers

            self._providers = {_key(provider.id): provider for provider in providers}
        return self._providers

    def _look_up(self, provider: str | None, model: str, tier: str | None) -> _Timeline | Unpriced:
        names = names_of(provider, model)
        if not names.providers:
            return Unpriced("unknown_model", f"nobody knows who served {model}")
        own = next(
            (
                found
                for each in names.providers
                if (found := self._all().get(_key(_IDS.get(each, each)))) is not None
            ),
            None,
        )
        if own is None:
            detail = f"{NAME} has no prices of {names.providers[0]}"
            return Unpriced("unknown_model", detail)
        # Azure sells OpenAI's models at OpenAI's prices, Google Anthropic's at Anthropic's.
        sellers = [own.id, *(own.fallback_model_providers or ())]
        for name in names.models:
            for seller in sellers:
                found = self._index(seller).get(name)
                if found is not None:
                    return _timeline(self._all()[_key(seller)], found, tier, seller == own.id)
        return Unpriced("unknown_model", f"{NAME} has no price of {own.id} {names.models[-1]}")

    def _index(self, provider: str) -> dict[str, Any]:
        """A provider's models by each whole name that they go by."""
        index = self._indexes.get(provider)
        if index is None:
            index = {}
            models = [
                model
                for model in self._all()[_key(provider)].models
                if not (provider == "openai" and model.id.startswith(_NOT_SERVED))
            ]
            for model in models:
                index.setdefault(model.id.lower(), model)
            for kinds in (("equals",), ("starts_with", "ends_with", "contains")):
                for model in models:
                    for name in _words(model.match, kinds):
                        # What begins or ends names is one itself where it meets all conditions.
                        if model.is_match(name):
                            index.setdefault(name.lower(), model)
            self._indexes[provider] = index
        return index


def _key(provider: str) -> str:
    return provider.replace("-", "_")


def _words(clause: Any, kinds: tuple[str, ...]) -> Iterator[str]:
    for each in (*getattr(clause, "or_", ()), *getattr(clause, "and_", ())):
        yield from _words(each, kinds)
    for kind in kinds:
        word = getattr(clause, kind, None)
        if isinstance(word, str):
            yield word


def _timeline(provider: Any, model: Any, tier: str | None, is_own: bool) -> _Timeline | Unpriced:
    constraints = (
        [each.constraint for each in model.prices] if isinstance(model.prices, list) else []
    )
    if tier is None:
        return _Timeline(provider, model, None, constraints, None)
    # It calls a batch's tier `processing`, and Anthropic's faster one `speed`.
    contexts = [{"service_tier": tier}]
    contexts += [{"processing": tier}] if tier == "batch" else []
    contexts += [{"speed": tier}] if tier == "fast" else []
    # Its prices of a tier are those of whom it names, not of who sells the model too.
    for variants in [model.price_variants or []] if is_own else []:
        for context in contexts:
            matching = [each for each in variants if each.when == context]
            if matching:
                constraints += [each.constraint for each in matching]
                return _Timeline(provider, model, tier, constraints, matching)
    return Unpriced("unknown_price", f"{NAME} has no price of {provider.id} {model.id} on {tier}")


class _Timeline:
    """What a model costs on one tier, by time: periods that begin on days, and times of the day."""

    def __init__(
        self,
        provider: Any,
        model: Any,
        tier: str | None,
        constraints: list[Any],
        variants: list[Any] | None,
    ) -> None:
        self._provider = provider
        self._model = model
        self._tier = tier
        self._variants = variants
        days = {day for each in constraints if (day := getattr(each, "start_date", None))}
        self._starts = [datetime.combine(day, time(), UTC) for day in sorted(days)]
        ends = ("start_time", "end_time")
        times = {getattr(each, end) for each in constraints for end in ends if hasattr(each, end)}
        today = datetime(2026, 1, 1, tzinfo=UTC)
        self._times = sorted({_in_utc(each, today) for each in times})
        self._known: dict[tuple[int, int], ModelPrices | Unpriced] = {}

    def at(self, when: datetime) -> ModelPrices | Unpriced:
        """The prices at a moment."""
        position = bisect_right(self._starts, when)
        if not self._times:
            known = self._known.get((position, 0))
            if known is None:
                known = self._known[position, 0] = self._read(when, *self._period(position))
            return known
        when = when.astimezone(UTC)
        part = bisect_right(self._times, when.time())
        known = self._known.get((position, part))
        if known is None or not _holds(known, when):
            known = self._known[position, part] = self._read(
                when, *self._part(position, part, when)
            )
        return known

    def _period(self, position: int) -> tuple[datetime | None, datetime | None]:
        start = self._starts[position - 1] if position else None
        return start, self._starts[position] if position < len(self._starts) else None

    def _part(self, position: int, part: int, when: datetime) -> tuple[datetime, datetime]:
        start, end = self._period(position)
        times, day = self._times, when.date()
        since = (
            datetime.combine(day, times[part - 1], UTC)
            if part
            else datetime.combine(day - _DAY, times[-1], UTC)
        )
        until = (
            datetime.combine(day, times[part], UTC)
            if part < len(times)
            else datetime.combine(day + _DAY, times[0], UTC)
        )
        return max(start or since, since), min(end or until, until)

    def _read(
        self, when: datetime, start: datetime | None, end: datetime | None
    ) -> ModelPrices | Unpriced:
        context: dict[str, str] | None = None
        if self._variants is not None:
            active = [
                each
                for each in self._variants
                if not each.constraint or each.constraint.active(when)
            ]
            if not active:
                # Without the moment: it is the same for all of the period, and bills list it.
                what = f"{self._provider.id} {self._model.id} on {self._tier}"
                detail = f"{NAME} has no price of {what} at that time"
                return Unpriced("unknown_price", detail, valid_from=start, valid_to=end)
            context = active[0].when
        prices = self._model.get_prices(when, context)
        cards = cards_of(
            self._provider, self._model, prices, self._tier, None if self._times else start
        )
        if isinstance(cards, Unpriced):
            return replace(cards, valid_from=start, valid_to=end)
        return ModelPrices(cards=cards, valid_from=start, valid_to=end)


def _in_utc(moment: time, day: datetime) -> time:
    if moment.tzinfo is None:
        return moment
    return datetime.combine(day.date(), moment).astimezone(UTC).time()


def _holds(prices: ModelPrices | Unpriced, when: datetime) -> bool:
    return (prices.valid_from is None or prices.valid_from <= when) and (
        prices.valid_to is None or when < prices.valid_to
    )
