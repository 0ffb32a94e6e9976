"""The plan by which shards are shared out: fair, without needless moves, and the same for all who see the same."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rehydrate.cluster.balance import plan
from rehydrate.cluster.bucket import Change
from rehydrate.cluster.table import NODE, SHARD, Ownership, Table, shard_of

SHARDS = 48


@st.composite
def shares(draw: st.DrawFn) -> dict[str | None, list[int]]:
    names = draw(st.lists(st.sampled_from("abcdefgh"), unique=True, min_size=1))
    shares: dict[str | None, list[int]] = {None: []} | {name: [] for name in names}
    for shard in range(SHARDS):
        shares[draw(st.sampled_from([None, *names]))].append(shard)
    return shares


@given(shares())
def test_after_all_moves_everybody_has_a_fair_share_and_nothing_is_left(
    shared: dict[str | None, list[int]],
) -> None:
    owner = {shard: name for name, owned in shared.items() for shard in owned}
    moves = plan(shared)
    for move in moves:
        assert owner[move.shard] == move.giver
        owner[move.shard] = move.receiver
    counts = [list(owner.values()).count(name) for name in shared if name is not None]
    assert sum(counts) == SHARDS
    assert max(counts) - min(counts) <= 1


@given(shares())
def test_no_shard_moves_without_need(shared: dict[str | None, list[int]]) -> None:
    moves = plan(shared)
    assert len({move.shard for move in moves}) == len(moves)
    names = [name for name in shared if name is not None]
    fair = -(-SHARDS // len(names))
    for move in moves:
        if move.giver is not None:
            assert len(shared[move.giver]) > fair - 1
            assert len(shared[move.receiver]) < fair


def test_who_leaves_gets_nothing_and_gives_all() -> None:
    moves = plan({None: [], "a": [0, 1], "b": [2, 3], "c": []}, leaving=["b"])
    assert {(move.shard, move.giver, move.receiver) for move in moves} == {(2, "b", "c"), (3, "b", "c")}
    assert plan({None: [1], "a": [0]}, leaving=["a"]) == []


def test_newcomers_grow_together() -> None:
    moves = plan({None: [], "a": list(range(9)), "b": [], "c": []})
    assert [move.receiver for move in moves] == ["b", "c", "b", "c", "b", "c"]


def test_a_shard_stays_the_same_in_every_version() -> None:
    assert [shard_of(f"bank_account-{id}", 256) for id in ("ada", "bob", "żółć")] == [94, 118, 223]


def test_an_owner_without_a_card_is_none() -> None:
    table = Table(2)
    table.apply([Change(f"{NODE}a", b'{"label":"host/1"}', 1), Change(f"{SHARD}0", b"a", 2)])
    assert table.owner(0) == Ownership("a", 2)
    assert table.owner(1) is None
    assert table.apply([Change(f"{NODE}a", b"", 3)]) == ({"a"}, [])
    assert table.owner(0) is None
    assert table.shards_of() == {None: [0, 1]}


def test_what_is_older_than_what_is_known_changes_nothing() -> None:
    table = Table(1)
    table.apply([Change(f"{SHARD}0", b"b", 5), Change(f"{NODE}b", b'{"label":"host/2"}', 6)])
    assert table.apply([Change(f"{SHARD}0", b"a", 2), Change(f"{NODE}b", b"", 4)]) == (set(), [])
    assert table.owner(0) == Ownership("b", 5)


def test_a_node_whose_key_went_unseen_is_forgotten_when_everything_is_read() -> None:
    table = Table(1)
    a, b = Change(f"{NODE}a", b'{"label":"host/1"}', 1), Change(f"{NODE}b", b'{"label":"host/2"}', 9)
    table.apply([a, b])
    assert table.retain([b]) == {"a"}
    # A replica that lags behind does not know of the newest, and says nothing against it.
    assert table.retain([a]) == set()
    assert set(table.nodes) == {"b"}
