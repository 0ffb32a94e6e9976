"""A path of a repository, any bytes but NUL, as the id of an aggregate: readable, and never the same for two paths."""

from __future__ import annotations

import hashlib
from typing import Final

MAX_ID_BYTES: Final = 512
"""What Rehydrate takes as an id."""

# Not a percent sign and two hex digits, so no path is written like this.
_DIGEST_MARK: Final = "%sha256:"
_KEPT_BYTES: Final = 400


def id_of(path: bytes) -> str:
    """The id of the file at a path.

    Text stays as it is, but `%`, control characters and bytes that are no UTF-8 are written as `%XX`. A path too long
    for an id is cut, and ends in its digest.
    """
    id = _escaped(path)
    if len(id.encode()) <= MAX_ID_BYTES:
        return id
    beginning = id.encode()[:_KEPT_BYTES].decode(errors="ignore")
    return f"{beginning}{_DIGEST_MARK}{hashlib.sha256(path).hexdigest()}"


def _escaped(path: bytes) -> str:
    text = path.decode(errors="surrogateescape")
    if text.isprintable() and "%" not in text:
        return text
    return "".join(
        c
        if c.isprintable() and c != "%"
        else "".join(f"%{byte:02X}" for byte in c.encode(errors="surrogateescape"))
        for c in text
    )
