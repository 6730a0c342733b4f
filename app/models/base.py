"""The metadata that every table shares, and column types that mean the same on both databases."""

from datetime import UTC, datetime
from decimal import Decimal

from sqlalchemy import ARRAY, JSON, BigInteger, DateTime, Dialect, Integer, MetaData, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import TypeDecorator

# Alembic can only change constraints that have a name, the same one on both databases.
metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class _SqliteUtcDateTime(TypeDecorator[datetime]):
    """SQLite keeps no time zone: write UTC, read UTC."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value.astimezone(UTC).replace(tzinfo=None) if value else None

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value.replace(tzinfo=UTC) if value else None


UtcDateTime = DateTime(timezone=True).with_variant(_SqliteUtcDateTime(), "sqlite")


class _Cents(TypeDecorator[Decimal]):
    """SQLite would keep a decimal as a float: cents are exact on both."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> int | None:
        return None if value is None else int(value * 100)

    def process_result_value(self, value: int | None, dialect: Dialect) -> Decimal | None:
        return None if value is None else Decimal(value) / 100


Money = _Cents()

# SQLite numbers rows by itself only for INTEGER PRIMARY KEY.
Id = BigInteger().with_variant(Integer, "sqlite")


class _TextArray(TypeDecorator[list[str]]):
    """The driver takes and gives lists of text as they are: nothing to do for each of them."""

    impl = ARRAY(Text)
    cache_ok = True

    def bind_processor(self, dialect: Dialect) -> None:
        return None

    def result_processor(self, dialect: Dialect, coltype: object) -> None:
        return None


StringList = _TextArray().with_variant(JSON(), "sqlite")

JsonObject = JSONB().with_variant(JSON, "sqlite")
