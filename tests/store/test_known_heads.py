"""What a writer knows of its streams is bounded, and what it used last stays."""

from rehydrate.store.known_heads import KnownHeads


def test_many_heads_at_once_are_known_with_those_before_and_replace_older_ones_of_the_same_streams() -> None:
    heads = KnownHeads[int](limit=8)
    heads.put("a", 1)
    heads.update({"a": 2, "b": 1, "c": 1})
    assert [heads.get(stream) for stream in "abcd"] == [2, 1, 1, None]
    heads.update({})
    assert len(heads) == 3


def test_of_more_heads_than_there_is_room_for_those_that_came_first_are_forgotten() -> None:
    heads = KnownHeads[int](limit=8)
    for n in range(10):
        heads.update({f"{n}/{k}": n for k in range(4)})
        assert len(heads) <= 8
    assert heads.get("7/0") is None
    assert (heads.get("8/0"), heads.get("9/3")) == (8, 9)
