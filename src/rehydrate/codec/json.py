"""Values as JSON by msgspec: events and commands under their names, states alone.

Encoders and decoders are made once. Whatever could be stored and not come back equal is refused here, when a codec is
made, or else by `codec.difference` when the event is decided.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import msgspec

from rehydrate.codec.decimals import decimal_checks
from rehydrate.codec.digest import canonical, canonical_fields, counted_names, digest_of
from rehydrate.codec.exact import IsExact, exact_checks
from rehydrate.codec.records import attribute_names, is_object, is_pydantic, record_kind
from rehydrate.codec.types import TypeWalk, is_union, members_of, plain, text
from rehydrate.codec.upcast import REVISION_MARK, Decode, Upcaster, current_name, revisions
from rehydrate.domain.streams import check_id
from rehydrate.errors import ConfigurationError, InvalidIdError, UnknownEventError


class JsonCodec:
    """The classes of a union as JSON under their names, and back.

        JsonCodec(Event, aliases={"Credited": Deposited}, upcasters={"Deposited": [add_currency]})

    An alias is an older name of a class. Upcasters are listed by stored name, oldest first; an alias goes through
    those of its class, unless it has some of its own. Raises `ConfigurationError` for a class that would not come back.

    `names` has the name under which each class is written, `decoders` what reads each stored name; a name that is not
    there raises `UnknownEventError`. `stored_names` has every name that a class is, or ever was, stored under. `exact` has,
    for simple classes, what tells without reading a value back that it would come back as it is; for those with a Decimal
    in them, what raises `TypeError` for a float in its place.
    """

    def __init__(
        self,
        union: object,
        *,
        aliases: Mapping[str, type] | None = None,
        upcasters: Mapping[str, Sequence[Upcaster]] | None = None,
    ) -> None:
        aliases, upcasters = aliases or {}, upcasters or {}
        by_name = _by_name(_classes(union))
        _check_names(by_name, aliases, upcasters)
        walk = TypeWalk()
        for cls in by_name.values():
            walk.record(cls)
        _raise(walk.problems)
        self.names: Mapping[type, str] = {
            cls: current_name(name, upcasters.get(name, ())) for name, cls in by_name.items()
        }
        self.encode: Callable[[Any], bytes] = _encoder(walk).encode
        self.exact: Mapping[type, IsExact] = {
            **exact_checks(by_name.values()),
            **decimal_checks(by_name.values()),
        }
        self._is_ordered = not walk.holds_unordered
        self._counted = {cls: names for cls in by_name.values() if (names := counted_names(cls)) is not None}
        decoders = _Decoders()
        stored: dict[type, set[str]] = {cls: set() for cls in by_name.values()}
        for name, cls in (by_name | dict(aliases)).items():
            chain = upcasters.get(name, upcasters.get(cls.__name__, ()))
            its = dict(revisions(name, chain, _decoder(cls, walk)))
            decoders.update(its)
            stored[cls].update(its)
        self.decoders: Mapping[str, Decode] = decoders
        self.stored_names: Mapping[type, frozenset[str]] = {
            cls: frozenset(its) for cls, its in stored.items()
        }

    def digest(self, value: object) -> str:
        """16 hex digits that are the same for the same value, in every process; of what is `ServerMade` in it, whatever."""
        if (counted := self._counted.get(type(value))) is not None:
            data = canonical_fields(value, counted, self.encode)
        else:
            data = self.encode(value) if self._is_ordered else canonical(value, self.encode)
        return digest_of(self.names[type(value)].encode() + b"\0" + data)


class JsonValueCodec:
    """The values of one type as JSON, and back: a state in a snapshot.

    The type may also be a union of classes; then the name of the class is stored too. `fingerprint` is 16 hex digits
    that differ when the fields, their types or the members of an enum differ. `holds_floats` says whether a value may
    hold a float, and so a NaN, anywhere.
    """

    def __init__(self, type: object) -> None:
        tp = plain(type)
        walk = TypeWalk()
        by_name = _alternatives(tp)
        if by_name:
            shape = "|".join(sorted(walk.record(cls) for cls in by_name.values())) + "|null" * _has_none(tp)
        else:
            shape = walk.shape(tp, "the state")
        _raise(walk.problems)
        self.fingerprint = digest_of(shape.encode())
        encode, decode = _tagged(by_name, walk) if by_name else _plain(tp, walk)
        self.encode: Callable[[Any], bytes] = encode
        self.decode: Decode = decode
        self.holds_floats = walk.holds_floats


class _Decoders(dict[str, Decode]):
    __slots__ = ()

    def __missing__(self, name: str) -> NoReturn:
        raise UnknownEventError(name, tuple(sorted(self)))


def _classes(union: object) -> tuple[type, ...]:
    """The classes of a union, each of which must become a JSON object."""
    problems: list[str] = []
    classes: list[type] = []
    for member in members_of(union):
        if isinstance(member, type) and is_object(member):
            classes.append(member)
        else:
            problems.append(f"{text(member)}: {_why_not_object(member)}")
    _raise(problems)
    return tuple(classes)


def _why_not_object(member: object) -> str:
    if isinstance(member, (list, tuple)):
        return "several classes are written as a union: Placed | Paid"
    if isinstance(member, str) or type(member).__name__ == "ForwardRef":
        return "a forward reference cannot be resolved here; write the class itself"
    if isinstance(member, type) and record_kind(member):
        return "it is stored without the names of its fields; use a frozen dataclass"
    return "only classes with named fields can be stored under their names; use a frozen dataclass, or a union of some"


def _by_name(classes: Sequence[type]) -> dict[str, type]:
    by_name = {cls.__name__: cls for cls in classes}
    twice = sorted({cls.__name__ for cls in classes if by_name[cls.__name__] is not cls})
    _raise(
        [f"{name}: two classes have this name, which is what is stored; rename one of them" for name in twice]
    )
    return by_name


def _check_names(
    by_name: Mapping[str, type], aliases: Mapping[str, type], upcasters: Mapping[str, Sequence[Upcaster]]
) -> None:
    problems: list[str] = []
    for name in (*by_name, *aliases):
        problems += _name_problems(name)
    for name, cls in aliases.items():
        if name in by_name:
            problems.append(f"alias {name!r}: it is the name of a class; an alias is an older name")
        if cls not in by_name.values():
            problems.append(f"alias {name!r}: {text(cls)} is not one of the classes of this codec")
    for name, chain in upcasters.items():
        if name not in by_name and name not in aliases:
            problems.append(f"upcasters for {name!r}: that is neither a class of this codec nor an alias")
        if callable(chain):
            problems.append(f"upcasters for {name!r}: give a list of functions, oldest first, also of one")
    _raise(problems)


def _name_problems(name: str) -> list[str]:
    try:
        check_id(name, "name")
    except InvalidIdError as error:
        return [f"{name!r}: {error}"]
    if REVISION_MARK in name:
        return [f"{name!r}: '{REVISION_MARK}' in a stored name is for revisions; leave it out"]
    if name.startswith("rehydrate."):
        return [f"{name!r}: 'rehydrate.' is for Rehydrate's own events; choose another name"]
    return []


def _raise(problems: Sequence[str]) -> None:
    if problems:
        raise ConfigurationError("\n".join(problems))


# ------------------------------------------------------------------------------------------------------------- msgspec


def _encoder(walk: TypeWalk) -> msgspec.json.Encoder:
    return msgspec.json.Encoder(enc_hook=_pydantic_as_json if walk.holds_pydantic else None)


def _decoder(tp: Any, walk: TypeWalk) -> Decode:
    if isinstance(tp, type) and is_pydantic(tp):
        return tp.model_validate_json  # type: ignore[attr-defined, no-any-return]
    hook = _pydantic_from_json if walk.holds_pydantic else None
    return msgspec.json.Decoder(tp, dec_hook=hook).decode


def _pydantic_as_json(model: Any) -> msgspec.Raw:
    return msgspec.Raw(model.model_dump_json(by_alias=True).encode())


def _pydantic_from_json(kind: Any, fields: object) -> Any:
    # From text, because Pydantic reads more from JSON than from Python values (a tuple, a set, bytes).
    return kind.model_validate_json(msgspec.json.encode(fields))


# -------------------------------------------------------------------------------------------------------------- states


def _alternatives(tp: Any) -> dict[str, type]:
    """The classes of a union that JSON alone cannot tell apart, by name; empty for every other type."""
    if not is_union(tp):
        return {}
    members = [member for member in members_of(tp) if member is not type(None)]
    if len(members) < 2 or not all(isinstance(member, type) and is_object(member) for member in members):
        return {}
    return _by_name(members)


def _has_none(tp: Any) -> bool:
    return type(None) in members_of(tp)


def _plain(tp: Any, walk: TypeWalk) -> tuple[Callable[[Any], bytes], Decode]:
    """Refuses values of another class, which could be read back as this one."""
    encode, decode = _encoder(walk).encode, _decoder(tp, walk)
    allowed = [member for member in members_of(tp) if isinstance(member, type) and attribute_names(member)]
    if len(allowed) != len(members_of(tp)):
        return encode, decode

    def encode_checked(value: Any) -> bytes:
        if type(value) not in allowed:
            raise TypeError(f"a value of type {type(value).__name__} is not of type {text(tp)}")
        return encode(value)

    return encode_checked, decode


def _tagged(by_name: Mapping[str, type], walk: TypeWalk) -> tuple[Callable[[Any], bytes], Decode]:
    names: dict[type, str] = {cls: name for name, cls in by_name.items()} | {type(None): ""}
    decoders = {name: _decoder(cls, walk) for name, cls in by_name.items()} | {
        "": msgspec.json.Decoder(None).decode
    }
    write = _encoder(walk).encode
    read = msgspec.json.Decoder(tuple[str, msgspec.Raw]).decode

    def encode(value: Any) -> bytes:
        if type(value) not in names:
            raise TypeError(f"a value of type {type(value).__name__} is none of {', '.join(by_name)}")
        return write((names[type(value)], value))

    def decode(data: bytes) -> Any:
        name, value = read(data)
        return decoders[name](bytes(value))

    return encode, decode
