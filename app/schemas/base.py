"""What every schema shares: strictness towards input, and the kinds of text."""

import re
from datetime import UTC, datetime
from typing import Annotated

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
)
from pydantic_core import PydanticCustomError

# PostgreSQL cannot store NUL, and no client means it.
_NO_CONTROL = r"^[^\x00-\x1f\x7f]*$"
_NO_NUL = r"^[^\x00]*$"
_DECIMAL = re.compile(r"-?[0-9]+")

Line = Annotated[str, StringConstraints(strip_whitespace=True, pattern=_NO_CONTROL)]
"""One line of text: trimmed, no control characters."""

Text = Annotated[str, StringConstraints(pattern=_NO_NUL)]
"""Text of several lines, as it was written."""

Secret = Annotated[str, StringConstraints(pattern=_NO_NUL)]
"""A password or token: never trimmed."""


def _decimal(value: object) -> object:
    if isinstance(value, str) and not _DECIMAL.fullmatch(value):
        raise PydanticCustomError("int_parsing", "Input should be a whole number")
    return value


# Pydantic's own reading takes ` 7`, `+7` and `1_0` for numbers as well.
PathId = Annotated[int, BeforeValidator(_decimal), Field(ge=1, le=2**63 - 1)]
"""An id in a path."""

ResourceId = Annotated[int, Field(ge=1, le=2**63 - 1)]
"""A positive 64-bit integer."""


# For PostgreSQL's driver the first and the last of all are infinities, which have no time zone.
_INFINITIES = (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))


def _in_utc(moment: datetime) -> datetime:
    try:
        moment = moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("There is no such moment") from None
    if moment in _INFINITIES:
        raise ValueError("There is no such moment")
    return moment


Moment = Annotated[AwareDatetime, AfterValidator(_in_utc)]
"""A point in time, sent with any offset, in UTC."""


class Input(BaseModel):
    """A body that a client sends: unknown fields are refused, never silently dropped."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, allow_inf_nan=False)


class Output(BaseModel):
    """An answer, read from a row's attributes and serialised straight to bytes."""

    model_config = ConfigDict(from_attributes=True)
