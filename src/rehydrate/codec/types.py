"""Which types come back from JSON equal and of the same type: a walk over annotations, before anything is stored.

`docs/codec.md` has the tables of this module for users. The walk finds all that is wrong at once, each with the class,
the field, the type and what to use instead, and what it describes on its way is the fingerprint of a state's type.
"""

from __future__ import annotations

import collections
import collections.abc
import datetime as dt
import decimal
import enum
import fractions
import inspect
import ipaddress
import pathlib
import re
import types
import typing
import uuid
import zoneinfo
from typing import Any, Final, Literal

import msgspec

from rehydrate.codec.records import (
    PYDANTIC,
    TYPED_DICT,
    UnresolvedError,
    is_pydantic,
    pydantic_refusal,
    record_fields,
    record_kind,
    record_problem,
)

SCALARS: Final[tuple[type, ...]] = (
    bool,
    int,
    float,
    str,
    bytes,
    bytearray,
    decimal.Decimal,
    uuid.UUID,
    dt.datetime,
    dt.date,
    dt.time,
    dt.timedelta,
)
KEYS: Final[tuple[type, ...]] = tuple(scalar for scalar in SCALARS if scalar not in {bool, bytearray})
COLLECTIONS: Final[tuple[type, ...]] = (tuple, list, set, frozenset, dict)
UNHASHABLE: Final[tuple[type, ...]] = (list, set, dict, bytearray)

INSTEAD: Final[dict[Any, str]] = {
    complex: "two floats",
    memoryview: "bytes",
    range: "two ints",
    type: "str",
    fractions.Fraction: "two ints",
    pathlib.PurePath: "str",
    re.Pattern: "str",
    zoneinfo.ZoneInfo: "str, its key",
    ipaddress.IPv4Address: "str",
    ipaddress.IPv6Address: "str",
    collections.deque: "tuple[..., ...] or list[...]",
    collections.OrderedDict: "dict[..., ...]",
    collections.defaultdict: "dict[..., ...]",
    collections.Counter: "dict[..., int]",
    typing.get_origin(typing.Callable[[], None]): "a str or an enum that names what to call",
    collections.abc.MutableMapping: "dict[..., ...]",
    collections.abc.Mapping: "dict[..., ...]",
    collections.abc.MutableSet: "set[...]",
    collections.abc.Set: "frozenset[...]",
    collections.abc.MutableSequence: "list[...]",
    collections.abc.Sequence: "tuple[..., ...] or list[...]",
    collections.abc.Collection: "tuple[..., ...]",
    collections.abc.Iterable: "tuple[..., ...]",
    msgspec.Raw: "bytes",
    msgspec.UnsetType: "None",
}
"""What to use in place of a type that does not come back; the more special class first."""

_TEXTS_OF_PYDANTIC: Final = frozenset({"pydantic.networks", "pydantic_core._pydantic_core"})
"""Where its addresses come from, such as `HttpUrl` (until 2.9 from its core): each is a text that was looked at."""
_WRAPPERS = {typing.Final, typing.Required, typing.NotRequired, typing.ClassVar}


class TypeWalk:
    """What was found wrong in some types, and the shape of each."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.holds_pydantic = False
        self.holds_unordered = False
        """Whether values can be written in several orders: they hold a set or a dict."""
        self.holds_floats = False
        self._seen: dict[Any, str] = {}
        self._aliases: list[Any] = []
        """The aliases by name that are being looked into."""
        self._model: Any = None
        """The Pydantic model whose fields are being walked: its rules differ from those of msgspec."""

    def shape(self, annotation: Any, where: str) -> str:
        """The JSON that values of a type become, as text that is the same in every process.

        `where` is the field (or function) that the annotation stands at; problems are told under its name.
        """
        found = len(self.problems)
        shape = self._shape(annotation, where)
        if len(self.problems) == found and self._model is None:
            self._try(plain(annotation), where)
        return shape

    def record(self, cls: Any) -> str:
        """The shape of a class with named fields; in itself it stands by its name."""
        if cls in self._seen:
            return name_of(cls)
        self._seen[cls] = name_of(cls)
        if problem := record_problem(cls):
            self.problems.append(f"{name_of(cls)}: {problem}")
            return name_of(cls)
        self.holds_unordered |= record_kind(cls) == TYPED_DICT
        try:
            fields = record_fields(cls)
        except UnresolvedError as error:
            self.problems.append(str(error))
            return name_of(cls)
        found, outer = len(self.problems), self._model
        self._model = cls if record_kind(cls) == PYDANTIC else None
        self.holds_pydantic |= self._model is not None
        shapes = [f"{name}:{self.shape(tp, f'{name_of(cls)}.{name}')}" for name, tp in fields.items()]
        self._model = outer
        if len(self.problems) == found:
            self._try(cls, name_of(cls))
        return f"{name_of(cls)}({','.join(shapes)})"

    def _shape(self, annotation: Any, where: str) -> str:
        if hasattr(annotation, "__value__"):
            return self._alias(annotation, where)
        tp = plain(annotation)
        origin = typing.get_origin(tp)
        if tp is None or tp is types.NoneType:
            return "null"
        if is_union(tp):
            return self._union(tp, where, is_told_apart=is_discriminated(annotation))
        if origin is Literal:
            return self._literal(tp, where)
        if origin in COLLECTIONS:
            return self._collection(origin, typing.get_args(tp), where)
        if isinstance(tp, type) and origin is None:
            return self._class(tp, where)
        return self._refuse(tp, where)

    def _union(self, tp: Any, where: str, *, is_told_apart: bool) -> str:
        found = len(self.problems)
        shapes = [self._shape(member, where) for member in typing.get_args(tp)]
        if len(self.problems) == found and not is_told_apart:
            self._try(tp, where)
        return "|".join(sorted(shapes))

    def _alias(self, alias: Any, where: str) -> str:
        if alias in self._aliases:
            self._problem(
                where, alias, "refers to itself; declare a frozen dataclass that holds others of its class"
            )
            return text(alias)
        self._aliases.append(alias)
        shape = self._shape(alias.__value__, where)
        self._aliases.pop()
        return shape

    def _class(self, cls: Any, where: str) -> str:
        if self._model is not None and (reason := pydantic_refusal(self._model, cls)):
            self._problem(where, cls, reason)
            return name_of(cls)
        if cls in SCALARS:
            self.holds_floats |= cls is float
            return name_of(cls)
        if issubclass(cls, enum.Enum):
            return self._enum(cls, where)
        if record_kind(cls):
            return self.record(cls)
        if cls in COLLECTIONS:
            self._problem(where, cls, f"does not say what it holds; use {_example(cls)}")
            return name_of(cls)
        return self._refuse(cls, where)

    def _enum(self, cls: Any, where: str) -> str:
        kinds: set[type] = {type(member.value) for member in cls}
        if kinds not in ({str}, {int}):
            self._problem(
                where, cls, "is an enum whose values are neither all str nor all int; give it such values"
            )
        return f"{name_of(cls)}{{{','.join(f'{name}={m.value!r}' for name, m in cls.__members__.items())}}}"

    def _literal(self, tp: Any, where: str) -> str:
        values = typing.get_args(tp)
        if any(type(value) not in {str, int, bool, types.NoneType} for value in values):
            self._problem(where, tp, "holds more than str, int, bool and None; use the type of its values")
        return f"literal{{{','.join(sorted(map(repr, values)))}}}"

    def _collection(self, origin: Any, args: tuple[Any, ...], where: str) -> str:
        self.holds_unordered |= origin in {set, frozenset, dict}
        shapes = [self._shape(arg, where) for arg in args if arg is not ...]
        members = [plain(arg) for arg in args]
        if origin in {set, frozenset} and (bad := _unhashable(members[0])):
            self._problem(
                where,
                types.GenericAlias(origin, args),
                f"cannot hold {text(bad)}; use {_hashable_instead(bad)} in it",
            )
        if origin is dict and not _is_key(members[0], in_pydantic=self._model is not None):
            self._problem(
                where, members[0], "cannot be a key of a JSON object; use a tuple of pairs, or a str key"
            )
        return f"{origin.__name__}[{','.join(shapes)}{',...' if ... in args else ''}]"

    def _refuse(self, tp: Any, where: str) -> str:
        if isinstance(tp, typing.TypeVar):
            self._problem(where, tp, "is a type variable; write out the type")
        elif isinstance(tp, str | typing.ForwardRef):
            self._problem(
                where, tp, "is a forward reference that cannot be resolved here; write the class itself"
            )
        elif getattr(typing.get_origin(tp), "__parameters__", ()):
            self._problem(where, tp, "is generic; declare a class for each type that you use it with")
        elif tp is Any or tp is object:
            self._problem(where, tp, "says nothing about what comes back; write the type")
        else:
            self._problem(where, tp, f"would not come back as it was; use {instead(tp)}")
        return text(tp)

    def _try(self, tp: Any, where: str) -> None:
        """Ask msgspec too: what it cannot decode, unions that JSON cannot tell apart above all, is refused here."""
        try:
            msgspec.json.Decoder(tp, dec_hook=refuse_to_decode)
        except (TypeError, NotImplementedError, RecursionError) as error:
            self._problem(where, tp, _why(tp, error))

    def _problem(self, where: str, tp: Any, reason: str) -> None:
        self.problems.append(f"{where}: {text(tp)} {reason}")


def refuse_to_decode(kind: type, value: object) -> Any:
    raise NotImplementedError(f"{kind.__name__} is not decoded here: {value!r}")


def plain(annotation: Any) -> Any:
    """The type without what type checkers and validators read: `Annotated`, `NewType`, an alias by name."""
    while True:
        origin = typing.get_origin(annotation)
        if hasattr(annotation, "__value__"):
            annotation = annotation.__value__
        elif origin is typing.Annotated or origin in _WRAPPERS:
            annotation = typing.get_args(annotation)[0]
        elif isinstance(annotation, typing.NewType):
            annotation = annotation.__supertype__
        else:
            return annotation


def name_of(cls: type) -> str:
    return cls.__name__


def is_discriminated(annotation: Any) -> bool:
    """Whether Pydantic tells the members of a union apart by a field of theirs."""
    metadata = typing.get_args(annotation)[1:] if typing.get_origin(annotation) is typing.Annotated else ()
    return any(getattr(data, "discriminator", None) for data in metadata)


def is_union(tp: Any) -> bool:
    return typing.get_origin(tp) in {typing.Union, types.UnionType}


def members_of(annotation: Any) -> tuple[Any, ...]:
    """The members of a union, those of unions in it included; another type is its own only member."""

    tp = plain(annotation)
    if not is_union(tp):
        return (tp,)
    return tuple(dict.fromkeys(member for part in typing.get_args(tp) for member in members_of(part)))


def instead(tp: Any) -> str:
    """What to use in place of a type that is refused."""
    cls = typing.get_origin(tp) or tp
    for refused, use in INSTEAD.items():
        if cls is refused:
            return use
    if inspect.isclass(cls):
        for scalar in SCALARS:
            if issubclass(cls, scalar):
                return f"NewType({name_of(cls)!r}, {scalar.__name__})"
        for refused, use in INSTEAD.items():
            if inspect.isclass(refused) and refused is not type and issubclass(cls, refused):
                return use
        if any(one.__module__ in _TEXTS_OF_PYDANTIC for one in cls.__mro__):
            return "str"
    return "a frozen dataclass"


def text(tp: Any) -> str:
    """A type as a user writes it."""
    if isinstance(tp, str):
        return repr(tp)
    if isinstance(tp, typing.ForwardRef):
        return repr(tp.__forward_arg__)
    origin, args = typing.get_origin(tp), typing.get_args(tp)
    if tp is types.NoneType:
        return "None"
    if isinstance(tp, type) and origin is None:
        return name_of(tp)
    if is_union(tp):
        return " | ".join(map(text, args))
    if isinstance(origin, type) and args and name_of(origin) != "Callable":
        return f"{name_of(origin)}[{', '.join('...' if arg is ... else text(arg) for arg in args)}]"
    return re.sub(r"[\w.]+\.(?=\w)", "", repr(tp).removeprefix("~"))


def _unhashable(tp: Any) -> Any:
    for member in members_of(tp):
        cls = typing.get_origin(member) or member
        if cls in UNHASHABLE or typing.is_typeddict(cls):
            return member
    return None


def _hashable_instead(tp: Any) -> str:
    instead_of: dict[Any, str] = {list: "tuple[..., ...]", set: "frozenset[...]", bytearray: "bytes"}
    return instead_of.get(typing.get_origin(tp) or tp, "a frozen dataclass")


def _is_key(tp: Any, *, in_pydantic: bool) -> bool:
    if typing.get_origin(tp) is Literal:
        return {type(value) for value in typing.get_args(tp)} in ([{str}] if in_pydantic else [{str}, {int}])
    if inspect.isclass(tp) and issubclass(tp, enum.Enum):
        return not in_pydantic or issubclass(tp, int) or all(type(member.value) is str for member in tp)
    return tp in KEYS


def _example(cls: type) -> str:
    examples: dict[Any, str] = {tuple: "tuple[int, ...]", dict: "dict[str, int]"}
    return examples.get(cls, f"{name_of(cls)}[int]")


def _why(tp: Any, error: Exception) -> str:
    if not is_union(tp):
        return f"cannot be decoded: {error}"
    records = [m for m in members_of(tp) if isinstance(m, type) and record_kind(m)]
    if any(is_pydantic(record) for record in records):
        return "cannot be told apart in JSON; give the field of a Pydantic model a `discriminator`"
    if len(records) > 1:
        return "cannot be told apart in JSON; make each a msgspec.Struct with `tag=True`"
    return "cannot be told apart in JSON; use one of them, or a field for each"
