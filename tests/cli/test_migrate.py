"""`rehydrate migrate`, and the commands that look at a store and make nothing there."""

from pathlib import Path

import pytest

from rehydrate.store.postgres.migrations import VERSION
from tests.cli.terminal import process, typed


def test_the_tables_are_made_and_the_second_time_there_is_nothing_to_do(postgres_url: str) -> None:
    looked = typed("streams", "--store", postgres_url)
    assert looked.code == 1
    assert "run `rehydrate migrate --store URL` first" in looked.stderr
    made = process("migrate", "--store", postgres_url)
    assert (made.code, made.stdout) == (0, "")
    assert made.stderr.endswith(f": schema rehydrate was brought from version 0 to {VERSION}\n")
    again = process("migrate", "--store", postgres_url)
    assert again.code == 0
    assert again.stderr.endswith(f": schema rehydrate is at version {VERSION}, as it should be\n")
    assert "has no streams" in typed("streams", "--store", f"{postgres_url}?migrate=false").stderr
    assert "has no streams" in typed("streams", "--store", f"{postgres_url}?pool=1").stderr


@pytest.mark.parametrize("url", ["memory://", "sqlite:///bank.db"])
def test_a_store_without_migrations_says_so(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = typed("migrate", "--store", url)
    assert (ended.code, ended.stderr) == (0, f"rehydrate: {url} is of a kind that has nothing to migrate\n")
    assert list(tmp_path.iterdir()) == []


def test_a_url_that_leads_nowhere_is_one_sentence() -> None:
    ended = typed("migrate", "--store", "postgres://localhost/bank")
    assert ended.code == 1
    assert ended.stderr.startswith("rehydrate: no store is known by postgres://")
