"""Names of streams: `"<aggregate>-<id>"`, in one place."""

from __future__ import annotations

import re

from rehydrate.errors import ConfigurationError, InvalidIdError

MAX_ID_BYTES = 512
MAX_NAME_BYTES = 128
MAX_STREAM_BYTES = MAX_NAME_BYTES + 1 + MAX_ID_BYTES

_AGGREGATE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,127}")


def check_aggregate_name(name: str) -> None:
    """Raise `ConfigurationError` unless the name can be the first part of a stream's name."""
    # Not every caller is type-checked.
    is_text = isinstance(name, str)  # pyright: ignore[reportUnnecessaryIsInstance]
    if not is_text or not _AGGREGATE_NAME.fullmatch(name):
        raise ConfigurationError(
            f"an aggregate cannot be named {name!r}: use letters, digits, '_' and '.', at most {MAX_NAME_BYTES}, "
            "and begin with a letter or '_'"
        )
    if name.startswith("rehydrate."):
        raise ConfigurationError(
            f"an aggregate cannot be named {name!r}: 'rehydrate.' is for Rehydrate's own"
        )


def check_id(id: str, kind: str = "id", limit: int = MAX_ID_BYTES) -> None:
    """Raise `InvalidIdError` unless the id is 1 to 512 UTF-8 bytes without U+0000 and lone surrogates."""
    id = plain_id(id, kind)
    if not id:
        raise InvalidIdError(kind, "it is empty")
    try:
        size = len(id.encode())
    except UnicodeEncodeError:
        raise InvalidIdError(kind, "it holds a lone surrogate, which is not a character") from None
    if size > limit:
        raise InvalidIdError(kind, f"it has {size:,} bytes as UTF-8, and {limit} are allowed")
    if "\0" in id:
        raise InvalidIdError(kind, "it holds U+0000")


def plain_id(id: str, kind: str = "id") -> str:
    """The id as a plain `str`: a subclass, such as a member of a `str` enum, may show itself as another text.

    Raises `InvalidIdError` for what is no text.
    """
    # Not every caller is type-checked, and an id comes from outside.
    if not isinstance(id, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        name = type(id).__name__
        # What most ids are that are no text; the text of anything else would hardly be meant.
        hint = ": write str(...)" if name in {"UUID", "int"} else ""
        raise InvalidIdError(kind, f"it is of type {name}, and must be a str{hint}")
    return str.__str__(id)


def check_stream(stream: str) -> None:
    """Raise `InvalidIdError` unless this can be the name of a stream."""
    check_id(stream, "stream", MAX_STREAM_BYTES)


def stream_name(aggregate: str, id: str) -> str:
    """The stream of one aggregate."""
    return f"{aggregate}-{plain_id(id)}"


def split_stream_name(stream: str) -> tuple[str, str]:
    """The aggregate's name and the id in a stream's name; both empty strings never come out.

    Raises `InvalidIdError` for text that names no stream.
    """
    aggregate, dash, id = stream.partition("-")
    if not (aggregate and dash and id):
        raise InvalidIdError("stream", f'{stream!r} is not of the form "<aggregate>-<id>"')
    return aggregate, id


def first_beyond(prefix: str) -> str:
    """The first text beyond all that begin with this, in code point order; empty where there is none."""
    stem = prefix.rstrip("\U0010ffff")
    if not stem:
        return ""
    following = ord(stem[-1]) + 1
    # The surrogates, which are no characters, come next to U+D7FF.
    return stem[:-1] + chr(0xE000 if following == 0xD800 else following)
