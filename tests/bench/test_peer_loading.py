"""The peer's streams are there whole, also those that are longer than one of the transactions that write them."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from bench import peer_loading
from bench.peer_bank import Bank
from bench.places import Place


@pytest.mark.parametrize(("streams", "events"), [(1, 25), (3, 20), (5, 4)])
def test_each_stream_has_its_events(
    streams: int, events: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One transaction of a hundred thousand events is never done on PostgreSQL: client and server wait for each other.
    monkeypatch.setattr(peer_loading, "_INSERT", 10)
    with (
        peer_loading.settings_of(Place.SQLITE, tmp_path, 1) as settings,
        closing(Bank(env=settings)) as app,
    ):
        ids = peer_loading.preload(app, streams, events)
        assert [app.changes(id) for id in ids] == [events - 1] * streams
