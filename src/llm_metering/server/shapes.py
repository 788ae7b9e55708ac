"""The forms of what is sent and answered: names in camel case, as OpenMeter's API has them."""

from __future__ import annotations

import json
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, model_validator
from pydantic.alias_generators import to_camel

from ..meters import rfc3339

__all__ = ["Amount", "Answered", "Given", "GivenAmount", "Moment", "json_of"]

_DECIMAL: Final = r"^[0-9]{1,15}(\.[0-9]{1,12})?$"

Amount = Annotated[
    int | Decimal,
    PlainSerializer(
        lambda amount: amount if isinstance(amount, int) else f"{amount:f}", return_type=int | str
    ),
]
"""Of tokens a number; of credits and money a text of a decimal."""

GivenAmount = Annotated[int, Field(ge=0, le=10**15)] | Annotated[str, Field(pattern=_DECIMAL)]
"""The same, as it is sent."""

Moment = Annotated[datetime, PlainSerializer(rfc3339, return_type=str)]
"""An aware time, written in UTC."""


class Given(BaseModel):
    """What is sent; what nobody knows of is refused."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, validate_by_name=False)

    @model_validator(mode="before")
    @classmethod
    def _can_be_kept(cls, given: Any) -> Any:
        # JSON can write half a character (a lone surrogate), which no database takes; and Python reads
        # NaN in it, which cannot be written again.
        try:
            json.dumps(given, ensure_ascii=False, allow_nan=False, default=str).encode()
        except ValueError:
            raise ValueError("there is half a character in it, or a number that is none") from None
        return given


class Answered(BaseModel):
    """What is answered; what there is none of is left out."""

    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True)


def json_of(answer: Answered) -> dict[str, Any]:
    """An answer as it is written in JSON."""
    return answer.model_dump(mode="json", by_alias=True, exclude_none=True)
