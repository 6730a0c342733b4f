"""Where the values of settings come from, and how they are written there.

Values come from the environment, then from files (`NAME_FILE=/path` for any setting, which is how
Docker, Kubernetes and Vault mount secrets), then from `.env` in development. An empty variable is
one that is not set: that is what Compose makes of `${NAME:-}`.
"""

import os
from pathlib import Path
from typing import Annotated, Any

from pydantic.functional_validators import BeforeValidator
from pydantic_settings import NoDecode, PydanticBaseSettingsSource


def _split(value: object) -> object:
    """Read `a, b` as two entries, so that lists need no JSON in an environment variable."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


CommaSeparated = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]


class FileSource(PydanticBaseSettingsSource):
    """`NAME_FILE=/run/secrets/x` gives NAME the file's content."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        variable = f"{field_name.upper()}_FILE"
        path = os.environ.get(variable)
        if not path:
            return None, field_name, False
        try:
            return Path(path).read_text(encoding="utf-8").strip() or None, field_name, False
        except OSError as error:
            raise ValueError(f"{variable}: {path} cannot be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise ValueError(f"{variable}: {path} is not UTF-8 text") from error

    def __call__(self) -> dict[str, Any]:
        values = {}
        for name, field in self.settings_cls.model_fields.items():
            value, key, _ = self.get_field_value(field, name)
            if value is not None:
                values[key] = value
        return values
