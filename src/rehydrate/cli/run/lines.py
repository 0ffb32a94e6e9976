"""A stream of bytes as numbered lines, read in a thread, with bounded memory however long a line is."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator
from typing import Final, NamedTuple, Protocol

from rehydrate.cli.run.blocking import BlockingThread

CHUNK: Final = 256 * 1024
MAX_LINE: Final = 16 * 1024 * 1024
"""Bytes of a line of commands; no store takes a larger append. What is beyond is counted, and not kept."""

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


class Source(Protocol):
    """Where bytes come from: a call returns what there is, at most so much, and nothing at the end."""

    def read(self, size: int, /) -> bytes: ...


class Line(NamedTuple):
    """A line without its ending; of one that is too long, only what the digest and the message need."""

    number: int
    text: bytes
    digest: int
    """128 bits that depend on number and text."""
    too_long: int = 0
    """The size of a line that is too long."""


class LineReader:
    """Splits a source at each newline; a carriage return before it belongs to the line's ending."""

    def __init__(self, source: Source, *, max_line: int = MAX_LINE) -> None:
        self.bytes_read = 0
        self._source = source
        self._max_line = max_line
        self._thread = BlockingThread("rehydrate: input")
        self._number = 0
        self._rest = b""
        self._long: _LongLine | None = None

    async def batches(self) -> AsyncGenerator[list[Line], None]:
        """The lines in order, as many at a time as came at once."""
        try:
            while chunk := await self._thread.call(lambda: self._source.read(CHUNK)):
                self.bytes_read += len(chunk)
                if lines := self._split(chunk):
                    yield lines
        finally:
            self._thread.close()
        if self._long is not None:
            yield [self._finish_long(b"")]
        elif self._rest:
            yield [self._line(self._rest)]

    def _split(self, chunk: bytes) -> list[Line]:
        first, newline, others = chunk.partition(b"\n")
        if not newline:
            self._keep(first)
            return []
        lines = [self._finish_long(first) if self._long is not None else self._line(self._rest + first)]
        *whole, self._rest = others.split(b"\n")
        lines += [self._line(text) for text in whole]
        return lines

    def _keep(self, part: bytes) -> None:
        """Part of a line whose end has not come yet."""
        if self._long is None and len(self._rest) + len(part) > self._max_line:
            self._long = _LongLine(self._number + 1)
            part, self._rest = self._rest + part, b""
        if self._long is not None:
            self._long.add(part)
        else:
            self._rest += part

    def _line(self, text: bytes) -> Line:
        self._number += 1
        text = text.removesuffix(b"\r")
        if self._number == 1:
            text = text.removeprefix(_BYTE_ORDER_MARK)
        digest = _digest(self._number, text)
        return (
            Line(self._number, b"", digest, len(text))
            if len(text) > self._max_line
            else Line(self._number, text, digest)
        )

    def _finish_long(self, part: bytes) -> Line:
        assert self._long is not None
        self._long.add(part)
        long, self._long = self._long, None
        self._number += 1
        return Line(self._number, b"", long.digest, long.size)


class _LongLine:
    """A line of which only size and digest are kept."""

    def __init__(self, number: int) -> None:
        self.size = 0
        self._hash = _new_hash(number)

    def add(self, part: bytes) -> None:
        self.size += len(part)
        self._hash.update(part)

    @property
    def digest(self) -> int:
        return int.from_bytes(self._hash.digest(), "big")


def _new_hash(number: int, text: bytes = b"") -> hashlib.blake2b:
    return hashlib.blake2b(text, digest_size=16, salt=number.to_bytes(16, "big"))


def _digest(number: int, text: bytes) -> int:
    return int.from_bytes(_new_hash(number, text).digest(), "big")
