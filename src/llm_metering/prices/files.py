"""Price files: prices and credits of one's own, in TOML.

```toml
currency = "USD"
source = "our contract"

[[prices]]
provider = "openai"
model = "gpt-5-mini"
effective_from = 2026-01-01
per_million = { input = "0.25", cache_read = "0.025", output = "2.00" }
per_unit = { web_search_requests = "0.01" }
```
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, Literal

from ..errors import PriceError
from .cards import CREDITS, MILLION, PriceCard
from .currencies import check_currency
from .file_checks import check_beside, describe
from .kinds import TOKEN_KINDS
from .providers import canonical_provider
from .tiers import tier_of
from .toml_places import TomlFile, parse_toml, read_toml

__all__ = ["Alias", "Table", "aliases_of", "cards_of", "check_file", "check_text", "read_files"]

Table = Literal["prices", "credits"]

_TOP: Final = ("currency", "source", "prices", "credits", "aliases")
_ROW: Final = (
    *("provider", "model", "effective_from", "service_tier", "above_input_tokens"),
    *("per_million", "per_unit", "source"),
)
_ALIAS: Final = ("model", "provider", "is", "of")
_NUMBER: Final = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_UNIT: Final = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Alias:
    """That a model is another one, as far as prices go.

    Attributes:
        model: The name that events have, such as a deployment's.
        provider: Theirs; `None` is any.
        is_model: The model it is.
        of_provider: Whose; `None` is the event's provider.
    """

    model: str
    provider: str | None
    is_model: str
    of_provider: str | None


def read_files(paths: Sequence[str | Path]) -> list[TomlFile]:
    """Read price files, and refuse what is wrong in any of them.

    Raises:
        PriceError: Naming the file, the line, and what is wanted.
    """
    return _checked([read_toml(path) for path in paths])


def check_text(text: str, name: str) -> None:
    """Refuse a text that is no price file, as `read_files` does."""
    _checked([parse_toml(text, name)])


def _checked(files: list[TomlFile]) -> list[TomlFile]:
    for file in files:
        check_file(file)
    # What two files say together is checked as what one says.
    cards_of(files, "prices")
    cards_of(files, "credits")
    aliases_of(files)
    return files


def check_file(file: TomlFile) -> None:
    """Refuse keys that nobody reads, and what is no list of tables."""
    _known(file, file.data, _TOP)
    for name, keys in (("prices", _ROW), ("credits", _ROW), ("aliases", _ALIAS)):
        rows = file.data.get(name, [])
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise PriceError(f"{file.where(name)}: tables are wanted, each under [[{name}]]")
        for position, row in enumerate(rows):
            _known(file, row, keys, name, position)
    if file.data.get("prices") and "currency" not in file.data:
        raise PriceError(f'{file.where()}: currency is missing, such as currency = "USD"')
    _text(file, file.data, "source")
    if (currency := _text(file, file.data, "currency")) is not None:
        try:
            check_currency(currency)
        except PriceError as error:
            raise PriceError(f"{file.where('currency')}: {error}") from None


def cards_of(files: Sequence[TomlFile], table: Table) -> list[PriceCard]:
    """The cards of files, in their order, checked against each other."""
    cards: dict[tuple[Any, ...], PriceCard] = {}
    places: dict[tuple[Any, ...], str] = {}
    for file in files:
        for position, row in enumerate(file.data.get(table, [])):
            card = _card(file, row, table, position)
            who = canonical_provider(card.provider), card.model.strip().lower()
            key = (*who, card.service_tier, card.effective_from, card.above_input_tokens)
            place = file.where(table, position)
            if key in cards:
                raise PriceError(f"{place}: {describe(card)} is there already, at {places[key]}")
            cards[key], places[key] = card, place
    check_beside(cards, places)
    return list(cards.values())


def aliases_of(files: Sequence[TomlFile]) -> dict[tuple[str | None, str], Alias]:
    """The aliases of files, by the provider and name that events have."""
    aliases: dict[tuple[str | None, str], Alias] = {}
    for file in files:
        for position, row in enumerate(file.data.get("aliases", [])):
            place = "aliases", position
            texts = {name: _text(file, row, name, *place) for name in _ALIAS}
            for name in ("model", "is"):
                if texts[name] is None:
                    raise PriceError(f"{file.where(*place)}: {name} is missing")
            provider = texts["provider"]
            key = (canonical_provider(provider) if provider else None), str(texts["model"]).lower()
            if key in aliases:
                raise PriceError(f"{file.where(*place)}: {key[1]} has an alias already")
            aliases[key] = Alias(
                model=str(texts["model"]),
                provider=provider,
                is_model=str(texts["is"]),
                of_provider=texts["of"],
            )
    return aliases


def _card(file: TomlFile, row: Mapping[str, Any], table: Table, position: int) -> PriceCard:
    place = table, position
    texts = {
        name: _text(file, row, name, *place)
        for name in ("provider", "model", "service_tier", "source")
    }
    for name in ("provider", "model"):
        if texts[name] is None:
            raise PriceError(f"{file.where(*place)}: {name} is missing")
    above = row.get("above_input_tokens", 0)
    if not isinstance(above, int) or isinstance(above, bool) or above < 0:
        where = file.where(*place, "above_input_tokens")
        raise PriceError(f"{where}: above_input_tokens is a whole number from 0, got {above!r}")
    rates = _rates(file, row, table, position)
    card = PriceCard(
        provider=str(texts["provider"]),
        model=str(texts["model"]),
        rates={},
        currency=CREDITS if table == "credits" else file.data["currency"],
        service_tier=tier_of(texts["service_tier"]),
        above_input_tokens=above,
        effective_from=_moment(file, row, table, position),
        # Bills have it: neither the folder nor the line may change them.
        source=texts["source"] or file.data.get("source") or Path(file.name).name,
    )
    try:
        return replace(card, rates=rates)
    except PriceError as error:
        kind = str(error).partition(":")[0]
        named = "per_million" if kind in TOKEN_KINDS else "per_unit"
        raise PriceError(f"{file.where(*place, named, kind)}: {error}") from None


def _rates(
    file: TomlFile, row: Mapping[str, Any], table: Table, position: int
) -> dict[str, Decimal]:
    if "per_million" not in row and "per_unit" not in row:
        raise PriceError(f"{file.where(table, position)}: per_million is missing")
    rates = {}
    for name in ("per_million", "per_unit"):
        place = table, position, name
        prices = row.get(name, {})
        if not isinstance(prices, dict):
            raise PriceError(f"{file.where(*place)}: {name} is a table of prices by kind")
        for kind, written in prices.items():
            where = file.where(*place, kind)
            if name == "per_million" and kind not in TOKEN_KINDS:
                known = ", ".join(TOKEN_KINDS)
                raise PriceError(f"{where}: no kind of token is {kind!r}; there are {known}")
            if name == "per_unit" and (kind in TOKEN_KINDS or not _UNIT.fullmatch(kind)):
                hint = (
                    "has its price in per_million" if kind in TOKEN_KINDS else "is no name of one"
                )
                raise PriceError(f"{where}: a unit such as images is wanted; {kind!r} {hint}")
            price = _price(written, where)
            rates[kind] = price / MILLION if name == "per_million" else price
    for kind in ("input", "output") if "per_million" in row else ():
        if kind not in rates:
            place = table, position, "per_million"
            raise PriceError(
                f"{file.where(*place)}: {kind} is missing; write 0 if it costs nothing"
            )
    return rates


def _price(written: object, where: str) -> Decimal:
    if isinstance(written, str) and _NUMBER.fullmatch(written):
        return Decimal(written)
    if isinstance(written, int | Decimal) and not isinstance(written, bool):
        price = Decimal(written)
        if price.is_finite() and price >= 0:
            return price
    raise PriceError(f'{where}: a price is a number from 0, such as "0.25", got {str(written)!r}')


def _moment(file: TomlFile, row: Mapping[str, Any], table: Table, position: int) -> datetime | None:
    written = row.get("effective_from")
    if written is None:
        return None
    if isinstance(written, datetime) and written.tzinfo is not None:
        return written.astimezone(UTC)
    if isinstance(written, date) and not isinstance(written, datetime):
        return datetime.combine(written, time(), UTC)
    where = file.where(table, position, "effective_from")
    wanted = "a date such as 2026-01-01 is wanted, or a time with its offset"
    raise PriceError(f"{where}: {wanted}, got {str(written)!r}")


def _known(
    file: TomlFile, table: Mapping[str, Any], keys: Sequence[str], *place: str | int
) -> None:
    for key in table:
        if key not in keys:
            where = file.where(*place, key)
            raise PriceError(f"{where}: there is no {key!r}; there are {', '.join(keys)}")


def _text(file: TomlFile, table: Mapping[str, Any], key: str, *place: str | int) -> str | None:
    text = table.get(key)
    if text is None or (isinstance(text, str) and text.strip()):
        return text
    raise PriceError(f"{file.where(*place, key)}: {key} is a text, got {text!r}")
