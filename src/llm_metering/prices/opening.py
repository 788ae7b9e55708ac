"""The price lists that the settings name."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from .files import Alias, Table, aliases_of, cards_of, read_files
from .genai import GenaiPrices, is_installed
from .lists import Chain, ModelPrices, PriceList
from .names import names_of
from .tables import PriceTable
from .toml_places import TomlFile
from .unpriced import Unpriced

__all__ = ["Aliased", "PriceSource", "models_of", "open_credits", "open_prices"]

PriceSource = Literal["auto", "genai-prices", "off"]
"""Where prices come from beside the user's own: the setting `price_source`."""


@dataclass(frozen=True, slots=True)
class Aliased:
    """A price list that is asked for what a model is, where it goes by another name.

    Attributes:
        prices: The list.
        aliases: By provider and name; without a provider those of any.
    """

    prices: PriceList
    aliases: Mapping[tuple[str | None, str], Alias]

    @property
    def name(self) -> str:
        return self.prices.name

    @property
    def version(self) -> str:
        return self.prices.version

    def find(
        self, provider: str | None, model: str | None, *, time: datetime, service_tier: str | None
    ) -> ModelPrices | Unpriced:
        """The prices of what a model is; see `PriceList.find`."""
        names = names_of(provider, model or "")
        for each in names.models:
            for who in (*names.providers, None):
                alias = self.aliases.get((who, each))
                if alias is not None:
                    provider, model = alias.of_provider or provider, alias.is_model
                    return self.prices.find(provider, model, time=time, service_tier=service_tier)
        return self.prices.find(provider, model, time=time, service_tier=service_tier)


def open_prices(files: Sequence[str | Path] = (), source: PriceSource = "auto") -> PriceList:
    """What models cost: by the user's own files, then by genai-prices.

    Without either it is a list that knows no model.

    Args:
        files: TOML files; what they say goes before all else.
        source: `auto` takes genai-prices where it is installed.

    Raises:
        PriceError: If something in a file is wrong; the message names the line.
        MissingExtraError: If `source` is genai-prices, and it is not installed.
    """
    read = read_files(files)
    lists: list[PriceList] = [_table(read, "prices")] if read else []
    if source == "genai-prices" or (source == "auto" and is_installed()):
        lists.append(GenaiPrices())
    if not lists:
        return PriceTable("no prices", "0", ())
    prices = lists[0] if len(lists) == 1 else Chain(lists)
    aliases = aliases_of(read)
    return Aliased(prices, aliases) if aliases else prices


def open_credits(files: Sequence[str | Path] = ()) -> PriceList | None:
    """How many credits a token is worth, by the files; `None` if none of them says."""
    read = read_files(files)
    if not any(file.data.get("credits") for file in read):
        return None
    credits = _table(read, "credits")
    aliases = aliases_of(read)
    return Aliased(credits, aliases) if aliases else credits


def models_of(prices: PriceList) -> Iterator[tuple[str, str]]:
    """Every model that a list knows, by its provider and name; those of the first list first."""
    if isinstance(prices, Aliased):
        for provider, model in prices.aliases:
            yield provider or "", model
        yield from models_of(prices.prices)
    elif isinstance(prices, Chain):
        for each in prices.lists:
            yield from models_of(each)
    elif isinstance(prices, PriceTable | GenaiPrices):
        yield from prices.models()


def _table(files: Sequence[TomlFile], table: Table) -> PriceTable:
    digest = hashlib.sha256("\n".join(file.digest for file in files).encode()).hexdigest()
    name = " + ".join(Path(file.name).name for file in files)
    return PriceTable(name, digest[:12], cards_of(files, table), is_own=True)
