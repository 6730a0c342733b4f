"""`Moment`: a point in time that a client sends, as it can be compared and stored."""

from datetime import UTC, datetime

import pytest
from pydantic import TypeAdapter, ValidationError

from app.schemas.base import Moment

MOMENT: TypeAdapter[datetime] = TypeAdapter(Moment)


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        ("2026-11-21T10:00:00+02:00", datetime(2026, 11, 21, 8, tzinfo=UTC)),
        ("9999-12-31T23:59:59Z", datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)),  # "never"
        ("0001-01-01T00:00:01Z", datetime(1, 1, 1, 0, 0, 1, tzinfo=UTC)),
    ],
)
def test_a_moment_is_told_in_utc(sent: str, meant: datetime) -> None:
    moment = MOMENT.validate_python(sent)
    assert (moment, moment.tzinfo) == (meant, UTC)


@pytest.mark.parametrize(
    "sent",
    [
        "2026-11-21T10:00:00",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-12:00",
        "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:59.999999Z",
        "soon",
    ],
)
def test_what_no_database_can_keep_is_no_moment(sent: str) -> None:
    with pytest.raises(ValidationError):
        MOMENT.validate_python(sent)
