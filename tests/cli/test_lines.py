"""Bytes as numbered lines, however they are cut into pieces."""

from __future__ import annotations

import asyncio
import io
import threading

import pytest

from rehydrate.cli.run.lines import MAX_LINE, Line, LineReader


class Pieces:
    """A source that returns its pieces one by one."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = list(pieces)

    def read(self, size: int, /) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""


async def read(*pieces: bytes, max_line: int = MAX_LINE) -> list[Line]:
    reader = LineReader(Pieces(*pieces), max_line=max_line)
    return [line async for batch in reader.batches() for line in batch]


@pytest.mark.parametrize(
    ("pieces", "texts"),
    [
        ((b"a\nb\n",), [b"a", b"b"]),
        ((b"a\nb",), [b"a", b"b"]),
        ((b"\n\n",), [b"", b""]),
        ((b"a", b"b", b"\nc", b"\n"), [b"ab", b"c"]),
        ((b"a\r", b"\nb\r\n"), [b"a", b"b"]),
        ((b"a\rb\n",), [b"a\rb"]),
        ((), []),
    ],
)
async def test_lines_end_at_newlines_wherever_the_pieces_end(
    pieces: tuple[bytes, ...], texts: list[bytes]
) -> None:
    read_lines = await read(*pieces)
    assert [line.text for line in read_lines] == texts
    assert [line.number for line in read_lines] == list(range(1, len(texts) + 1))


async def test_the_digest_depends_on_text_and_number_and_on_nothing_else() -> None:
    whole = await read(b"a\nb\na\n")
    assert whole == await read(b"a", b"\r\nb\n", b"a")
    assert len({line.digest for line in whole}) == 3


@pytest.mark.parametrize("size", [11, 12, 25, 40])
async def test_a_line_that_is_too_long_leaves_its_size_and_its_digest(size: int) -> None:
    text = b"x" * size
    cut = [text[start : start + 6] for start in range(0, size, 6)]
    first, long, last = await read(b"one\n", *cut, b"\nlast", max_line=10)
    assert (first.text, last.text) == (b"one", b"last")
    assert (long.number, long.text, long.too_long) == (2, b"", size)
    _, whole, _ = await read(b"one\n" + text + b"\nlast", max_line=10)
    assert whole == long


async def test_a_line_of_the_greatest_length_is_kept() -> None:
    found = await read(b"0123456789\n", b"01234", b"56789", max_line=10)
    assert [line.text for line in found] == [b"0123456789"] * 2


async def test_what_a_source_raises_is_raised() -> None:
    closed = io.BytesIO()
    closed.close()
    with pytest.raises(ValueError, match="closed file"):
        await anext(LineReader(closed).batches())


async def test_a_source_that_blocks_does_not_block_the_loop() -> None:
    is_reading, may_return = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    class Blocking:
        def read(self, size: int, /) -> bytes:
            loop.call_soon_threadsafe(is_reading.set)
            may_return.wait(60)
            return b"late\n"

    waiting = asyncio.ensure_future(anext(LineReader(Blocking()).batches()))
    await is_reading.wait()
    assert not waiting.done()
    may_return.set()
    assert [line.text for line in await waiting] == [b"late"]
