"""What an aggregate needs of whatever turns its values into bytes. `rehydrate.codec` has the one with JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol


class Codec(Protocol):
    """The members of a union of classes as named bytes, and back.

    Three attributes and no call between them and the bytes: rehydration looks up one decoder per event.
    """

    @property
    def names(self) -> Mapping[type, str]:
        """The stored name of each class, under which new values are written."""
        ...

    @property
    def encode(self) -> Callable[[Any], bytes]:
        """The bytes of a value. Raises whatever it raises for a value that cannot be encoded."""
        ...

    @property
    def decoders(self) -> Mapping[str, Callable[[bytes], Any]]:
        """What makes a value of the bytes stored under a name, old names and old shapes included.

        A decoder raises whatever it raises for bytes that do not fit.
        """
        ...
