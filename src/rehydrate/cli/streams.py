"""`rehydrate streams`: which streams there are."""

from __future__ import annotations

from typing import Final

import msgspec

from rehydrate.cli.endings import say
from rehydrate.cli.existing import existing_store
from rehydrate.cli.table import Column, RowWriter, write_json
from rehydrate.store.port import PAGE_SIZE

_COLUMNS: Final = (Column("version", 9, is_number=True), Column("stream", 0))


async def show_streams(url: str, prefix: str, limit: int | None, *, as_table: bool) -> int:
    """List the streams of a store page by page. Returns the exit code."""
    rows = RowWriter(_COLUMNS)
    after, shown = "", 0
    async with existing_store(url) as store:
        while limit is None or shown < limit:
            page = await store.streams(
                prefix=prefix,
                after=after,
                limit=PAGE_SIZE if limit is None else min(PAGE_SIZE, limit - shown),
            )
            if not page:
                break
            after, shown = page[-1].stream, shown + len(page)
            if not as_table:
                write_json([msgspec.json.encode(head) for head in page])
                continue
            for head in page:
                rows.write([f"{head.version:,}", head.stream])
        if not shown:
            say(f"{store.url} has no streams" + (f" that begin with {prefix!r}" if prefix else ""))
    return 0
