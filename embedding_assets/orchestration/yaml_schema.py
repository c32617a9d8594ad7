"""The declarations of the catalog as the schema of a component's YAML, every key with its description."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from functools import lru_cache
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, create_model

_ATTRIBUTE = re.compile(r"(\w+(?:, \w+)*): (.*)")


@lru_cache
def yaml_model(declared: type[BaseModel], without: frozenset[str] = frozenset()) -> type[BaseModel]:
    """The same keys for YAML: each may be a template (`{{ env.NAME }}`) and is described as the class's docstring says.

    What a key may hold is checked once the templates are filled in, by the declared model itself.
    """
    said = dict(_attributes(declared))
    fields: dict[str, Any] = {}
    for name, info in declared.model_fields.items():
        if name not in without:
            plain = isinstance(info.default, (int, float, str, bool))
            default = ... if info.is_required() else info.default if plain else None
            told = said.get(name) or inspect.getdoc(declared) or ""
            fields[name] = (_templated(info.annotation), Field(default, description=" ".join(told.split())))
    return create_model(declared.__name__, __config__=ConfigDict(extra="forbid"), __doc__=declared.__doc__, **fields)


def _templated(annotation: Any) -> Any:
    """The type, with nested declarations as YAML models, or a text."""
    options = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    kept = [_nested(option) for option in options]
    return Union[tuple(dict.fromkeys([*kept, str]))]  # noqa: UP007  (not a fixed list of types)


def _nested(option: Any) -> Any:
    return yaml_model(option) if isinstance(option, type) and issubclass(option, BaseModel) else option


def _attributes(declared: type[BaseModel]) -> Iterator[tuple[str, str]]:
    """Name and description of what the docstring lists under `Attributes:`; names that share a line share it."""
    _, _, listed = (inspect.getdoc(declared) or "").partition("Attributes:\n")
    # An entry begins four columns in; what goes on below it is further in.
    for entry in re.split(r"\n(?= {4}\w)", listed):
        found = _ATTRIBUTE.fullmatch(" ".join(entry.split()))
        if found:
            yield from ((name, found.group(2)) for name in found.group(1).split(", "))
