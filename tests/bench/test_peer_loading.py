"""The peer's streams are there whole, also where several transactions write them, and read as what it writes itself."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from bench import peer_loading
from bench.peer_bank import Bank
from bench.places import Place
from bench.servers import Server


@pytest.mark.parametrize("place", [Place.SQLITE, Place.POSTGRES])
def test_each_stream_has_its_events(
    place: Place, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    if place is Place.POSTGRES:
        monkeypatch.setenv(Server.POSTGRES.value, request.getfixturevalue("postgres_server").url)
    monkeypatch.setattr(peer_loading, "_AT_ONCE", 10)
    with peer_loading.settings_of(place, tmp_path, 1) as settings, closing(Bank(env=settings)) as app:
        for streams, events in ((1, 25), (3, 20), (5, 4)):
            ids = peer_loading.preload(app, streams, events)
            assert [app.changes(id) for id in ids] == [events - 1] * streams
        assert app.recorder.max_notification_id() == 25 + 3 * 20 + 5 * 4
        assert app.deposit(ids[0], 7) == 5
