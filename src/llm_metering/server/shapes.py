"""The forms of what is sent and answered: names in camel case, as OpenMeter's API has them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, PlainSerializer
from pydantic.alias_generators import to_camel

from ..meters import rfc3339

__all__ = ["Answered", "Given", "Moment", "json_of"]

Moment = Annotated[datetime, PlainSerializer(rfc3339, return_type=str)]
"""An aware time, written in UTC."""

GivenMoment = AwareDatetime


class Given(BaseModel):
    """What is sent; what nobody knows of is refused."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, validate_by_name=False)


class Answered(BaseModel):
    """What is answered; what there is none of is left out."""

    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True)


def json_of(answer: Answered) -> dict[str, Any]:
    """An answer as it is written in JSON."""
    return answer.model_dump(mode="json", by_alias=True, exclude_none=True)
