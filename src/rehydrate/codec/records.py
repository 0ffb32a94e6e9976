"""The classes with named fields that users write, seen in one way: dataclasses, Structs, attrs, Pydantic and the rest.

`codec.types` walks what is found here. Neither attrs nor Pydantic is imported: a class that is one of theirs shows it.
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
import sys
import typing
from typing import Any, Final

import msgspec

DATACLASS: Final = "frozen dataclass"
STRUCT: Final = "frozen msgspec.Struct"
ATTRS: Final = "frozen attrs class"
PYDANTIC: Final = "frozen Pydantic model"
NAMED_TUPLE: Final = "NamedTuple"
TYPED_DICT: Final = "TypedDict"

KINDS: Final = (DATACLASS, STRUCT, ATTRS, PYDANTIC, NAMED_TUPLE, TYPED_DICT)


class UnresolvedError(Exception):
    """The annotations of a class name something that cannot be found from its module."""


def record_kind(cls: Any) -> str | None:
    """Which sort of class with named fields this is; `None` if it is none."""
    if issubclass(cls, msgspec.Struct):
        return STRUCT
    if is_pydantic(cls):
        return PYDANTIC
    if dataclasses.is_dataclass(cls):
        return DATACLASS
    if hasattr(cls, "__attrs_attrs__"):
        return ATTRS
    if hasattr(cls, "_fields") and tuple in cls.__bases__:
        return NAMED_TUPLE
    if typing.is_typeddict(cls):
        return TYPED_DICT
    return None


def is_pydantic(cls: Any) -> bool:
    """Whether the class is a Pydantic model; if one exists, Pydantic has been imported by its author."""
    pydantic = sys.modules.get("pydantic")
    return pydantic is not None and issubclass(cls, pydantic.BaseModel)


def record_fields(cls: Any) -> dict[str, Any]:
    """The stored name and the type of each field.

    Raises `UnresolvedError` for a type that is given as text and cannot be found.
    """
    kind = record_kind(cls)
    if kind == PYDANTIC:
        if not cls.__pydantic_complete__:
            raise UnresolvedError(f"{cls.__name__} is not fully defined: call {cls.__name__}.model_rebuild()")
        return {name: typing.Annotated[field.annotation, field] for name, field in cls.model_fields.items()}
    hints = _hints(cls)
    if kind == STRUCT:
        pairs = zip(cls.__struct_fields__, cls.__struct_encode_fields__, strict=True)
        return {stored: hints[name] for name, stored in pairs}
    if kind == DATACLASS:
        return {field.name: hints[field.name] for field in dataclasses.fields(cls)}
    if kind == ATTRS:
        return {field.name: hints.get(field.name, Any) for field in cls.__attrs_attrs__}
    if kind == NAMED_TUPLE:
        return {name: hints.get(name, Any) for name in cls._fields}
    return hints


def _hints(cls: type) -> dict[str, Any]:
    try:
        return typing.get_type_hints(cls, include_extras=True)
    except NameError as error:
        raise UnresolvedError(
            f"the annotations of {cls.__name__} name {error.name!r}, which cannot be found in {cls.__module__}: "
            "define or import it there at module level, not in a function or under TYPE_CHECKING"
        ) from None
    except (TypeError, SyntaxError) as error:
        raise UnresolvedError(f"the annotations of {cls.__name__} cannot be evaluated: {error}") from None


def record_problem(cls: Any) -> str | None:
    """Why values of this class would not be values, or would not come back, whatever its fields are."""
    if getattr(cls, "__parameters__", ()):
        return "it is generic: declare a class for each type that you use it with"
    kind = record_kind(cls)
    if kind == STRUCT:
        return _struct_problem(cls)
    if kind == DATACLASS:
        return _dataclass_problem(cls)
    if kind == ATTRS:
        return _attrs_problem(cls)
    if kind == PYDANTIC:
        return _pydantic_problem(cls)
    return None


def _struct_problem(cls: Any) -> str | None:
    config = cls.__struct_config__
    if not is_frozen(cls):
        return "it can be changed: write `class ...(msgspec.Struct, frozen=True)`"
    if not config.eq:
        return "its values are equal to nothing else: leave out `eq=False`"
    if config.omit_defaults:
        return "it leaves out fields, so that a later change of a default would change history: leave out `omit_defaults`"
    return None


def _dataclass_problem(cls: Any) -> str | None:
    if "__dataclass_fields__" not in cls.__dict__ and inspect.get_annotations(cls):
        return "only its base is a dataclass, and its own fields are not stored: write `@dataclass(frozen=True)` above it"
    if hasattr(cls, "__pydantic_validator__"):
        return "it is a dataclass of Pydantic, which only Pydantic can make: use a BaseModel, or `dataclasses.dataclass`"
    if not is_frozen(cls):
        return "it can be changed: write `@dataclass(frozen=True)`"
    return _identity_problem(cls)


def _attrs_problem(cls: Any) -> str | None:
    if private := [field.name for field in cls.__attrs_attrs__ if field.name.startswith("_")]:
        return f"fields of attrs classes that begin with `_` are not stored: rename {', '.join(private)}"
    if not is_frozen(cls):
        return "it can be changed: write `@attrs.frozen`"
    return _identity_problem(cls)


def _pydantic_problem(cls: Any) -> str | None:
    if not is_frozen(cls):
        return "it can be changed: write `model_config = ConfigDict(frozen=True)`"
    if excluded := [name for name, field in cls.model_fields.items() if field.exclude]:
        return f"excluded fields are not stored: {', '.join(excluded)}"
    by_name = cls.model_config.get("populate_by_name") or cls.model_config.get("validate_by_name")
    for name, field in cls.model_fields.items():
        written = field.serialization_alias or name
        read = field.validation_alias or name
        choices = getattr(read, "choices", [read])
        if written not in choices and not (by_name and written == name):
            return f"field {name!r} is written as {written!r} and not read under that name: give it one alias"
    return None


def pydantic_refusal(model: Any, cls: Any) -> str | None:
    """Why a model cannot have a field of a class that is fine in a dataclass."""
    config = model.model_config
    if cls is bytes and not (config.get("ser_json_bytes") == config.get("val_json_bytes") == "base64"):
        return 'must be text here; write `ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")`'
    if issubclass(cls, enum.Flag):
        return "is read by Pydantic only while it is a single flag; use a frozenset of an enum"
    if cls is bytearray or record_kind(cls) in {STRUCT, ATTRS}:
        return (
            "is not a type that Pydantic reads and writes; use a Pydantic model, a frozen dataclass, or bytes"
        )
    return None


def is_frozen(cls: Any) -> bool:
    """Whether the fields of a class with named fields cannot be set."""
    kind = record_kind(cls)
    if kind == STRUCT:
        return bool(cls.__struct_config__.frozen)
    if kind == DATACLASS:
        return bool(cls.__dataclass_params__.frozen)
    if kind == ATTRS:
        # What attrs calls the method has been the same since frozen classes exist, and importing attrs to ask costs more.
        return bool(cls.__setattr__.__name__ == "_frozen_setattrs")
    if kind == PYDANTIC:
        return bool(cls.model_config.get("frozen"))
    return True


def _identity_problem(cls: Any) -> str | None:
    if cls.__eq__ is object.__eq__:
        return "its values are equal to nothing else: leave out `eq=False`"
    return None


def is_object(cls: Any) -> bool:
    """Whether its values become JSON objects, whose fields keep their names: what can be evolved and written by hand."""
    kind = record_kind(cls)
    if kind == STRUCT:
        return not cls.__struct_config__.array_like
    if kind == PYDANTIC:
        return not cls.__pydantic_root_model__
    return kind in {DATACLASS, ATTRS}


def attribute_names(cls: Any) -> tuple[str, ...]:
    """How the fields of a value are reached in Python; empty for what is compared as a container or a scalar."""
    kind = record_kind(cls)
    if kind == STRUCT:
        return tuple(cls.__struct_fields__)
    if kind == DATACLASS:
        return tuple(field.name for field in dataclasses.fields(cls))
    if kind == ATTRS:
        return tuple(field.name for field in cls.__attrs_attrs__)
    if kind == PYDANTIC:
        return tuple(cls.model_fields)
    return ()
