"""Derives what v2 speaks from what v1 speaks: camelCase out, camelCase or snake_case in."""

import copy
import types
from collections.abc import Mapping
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from app.schemas.base import Output

_CONFIG = ConfigDict(alias_generator=to_camel, validate_by_name=True, validate_by_alias=True)
# A row has our names alone; to look for each of the others first was a seventh of a list's cost.
_OUTPUT_CONFIG = ConfigDict(
    alias_generator=to_camel, validate_by_name=True, validate_by_alias=False
)


class CamelCase:
    """Makes and remembers the camelCase form of each model, however deep it stands in a type.

    `successors` names the models that v2 has a richer one for; a model that is its own successor
    keeps its spelling (OAuth 2 fixes that of a token answer).
    """

    def __init__(self, successors: Mapping[type, type]) -> None:
        self._successors = successors
        self._made: dict[type[BaseModel], type[BaseModel]] = {}

    def of(self, annotation: Any) -> Any:
        """Return the type with every model inside it in its camelCase form."""
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            return self._model(annotation)
        origin, arguments = get_origin(annotation), get_args(annotation)
        if origin is None or not arguments:
            return annotation
        if origin is Annotated:
            return Annotated[self.of(arguments[0]), *arguments[1:]]
        inner = tuple(self.of(argument) for argument in arguments)
        if inner == arguments:
            return annotation
        if origin in (Union, types.UnionType):
            return Union[inner]  # noqa: UP007 - made at run time from a tuple
        return origin[inner]

    def _model(self, model: type[BaseModel]) -> type[BaseModel]:
        if self._successors.get(model) is model:
            return model
        if model not in self._made:
            base: type[BaseModel] = self._successors.get(model, model)
            name = base.__name__ if base is not model else f"{model.__name__}V2"
            namespace: dict[str, Any] = {
                "__module__": model.__module__,
                "__doc__": base.__doc__,
                "__annotations__": {},
                "model_config": _OUTPUT_CONFIG if issubclass(base, Output) else _CONFIG,
            }
            for field, info in base.model_fields.items():
                spelled = self.of(info.annotation)
                if spelled is not info.annotation:
                    namespace["__annotations__"][field] = spelled
                    namespace[field] = copy.copy(info)
            made: type[BaseModel] = types.new_class(
                name, (base,), None, lambda body: body.update(namespace)
            )
            self._made[model] = made
        return self._made[model]
