"""Laws of cancelling: at whatever point a call is cancelled, the store stays usable and nothing is half done."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from functools import partial
from typing import Any, Literal, TypeAlias

import pytest

from rehydrate.errors import StoreError
from rehydrate.store.port import Appended, Store
from rehydrate.testing.conformance.calls import CALLS, prepare
from rehydrate.testing.conformance.law import law
from rehydrate.testing.conformance.material import events, fill, ids, lot, sound_log, whole_lots
from rehydrate.testing.conformance.under_test import Another, StoreUnderTest

Moment: TypeAlias = Literal["while it waits", "as the answer comes"]
_MOMENTS: tuple[Moment, ...] = ("while it waits", "as the answer comes")
_MOST_POINTS = 1_000


class CancellationLaws(StoreUnderTest):
    @pytest.mark.parametrize("moment", _MOMENTS)
    @pytest.mark.parametrize("name", CALLS)
    @law()
    async def test_a_call_cancelled_at_any_point_leaves_the_store_usable(
        self, store: Store, name: str, moment: Moment
    ) -> None:
        await prepare(store)
        for point in range(1, _MOST_POINTS):
            cancelled = await _cancelled_at(point, CALLS[name](store), moment)
            await _assert_usable(store)
            if not cancelled:
                return
        pytest.fail("it never completes")

    @pytest.mark.parametrize("moment", _MOMENTS)
    @law()
    async def test_an_append_cancelled_at_any_point_is_there_whole_or_not_at_all(
        self, store: Store, moment: Moment
    ) -> None:
        """And it may be sent again: it is stored once, whatever became of the first."""
        cancelled, point = True, 0
        while cancelled:
            point += 1
            new = events(3)
            stream = f"account-{point}"
            call = store.append(stream, new, expected_version=0)
            cancelled = await _cancelled_at(point, call, moment)
            there = ids((await store.read_stream(stream)).events)
            assert there in ([], ids(new)), "a part of it was stored"
            done = await store.append(stream, new, expected_version=0)
            assert ids((await store.read_stream(stream)).events) == ids(new)
            assert done.version == 3
        assert len(await sound_log(store)) == 3 * point

    @pytest.mark.parametrize("moment", _MOMENTS)
    @law()
    async def test_waiting_cancelled_at_any_point_leaves_others_waiting_and_woken(
        self, store: Store, moment: Moment
    ) -> None:
        cancelled, point = True, 0
        while cancelled:
            point += 1
            after = (await store.head()).position
            other = asyncio.create_task(store.wait(after=after))
            cancelling = asyncio.create_task(_cancelled_at(point, store.wait(after=after), moment))
            # The one that is cancelled as its answer comes needs an answer.
            await asyncio.sleep(0)
            await fill(store, "account-1", 1)
            cancelled = await cancelling
            await other

    @law()
    async def test_cancelling_some_of_many_appends_leaves_the_others_alone(self, store: Store) -> None:
        for turns in range(4):
            lots = {f"{turns}.{n}": lot(f"{turns}.{n}", n % 3 + 1) for n in range(60)}
            appending = {
                name: asyncio.create_task(store.append(f"account-{name}", new, expected_version=0))
                for name, new in lots.items()
            }
            for _ in range(turns):
                await asyncio.sleep(0)
            for task in list(appending.values())[::3]:
                task.cancel()
            outcomes = await asyncio.gather(*appending.values(), return_exceptions=True)
            acked: dict[str, Appended] = {}
            for n, (name, outcome) in enumerate(zip(lots, outcomes, strict=True)):
                if isinstance(outcome, Appended):
                    acked[name] = outcome
                else:
                    assert n % 3 == 0, outcome
                    assert isinstance(outcome, asyncio.CancelledError)
            await _assert_usable(store)
            log = [stored for stored in await sound_log(store) if stored.id.startswith(f"{turns}.")]
            assert acked.items() <= whole_lots(log).items()

    @law()
    async def test_cancelling_some_of_many_questions_leaves_the_others_alone(self, store: Store) -> None:
        """Also those that went to the store together."""
        await fill(store, "account-1", 3)
        for turns in range(4):
            asking = [asyncio.create_task(store.versions(["account-1"])) for _ in range(30)]
            reading = [asyncio.create_task(store.replay("account-1")) for _ in range(30)]
            for _ in range(turns):
                await asyncio.sleep(0)
            for task in (*asking[::3], *reading[::3]):
                task.cancel()
            answers = await asyncio.gather(*asking, return_exceptions=True)
            pages = await asyncio.gather(*reading, return_exceptions=True)
            for n, (answer, page) in enumerate(zip(answers, pages, strict=True)):
                if n % 3:
                    assert answer == [3]
                    assert not isinstance(page, BaseException), page
                    assert len(page.rows) == 3
        await _assert_usable(store)

    @pytest.mark.parametrize("moment", _MOMENTS)
    @law()
    async def test_opening_cancelled_at_any_point_leaves_a_place_that_can_be_opened(
        self, store: Store, another: Another, moment: Moment
    ) -> None:
        await fill(store, "account-1", 1)
        cancelled, point = True, 0
        while cancelled:
            point += 1
            cancelled = await _cancelled_at(point, another(), moment)
            await fill(store, "account-1", 1)
            await fill(await another(), f"account-{point}", 1)

    @pytest.mark.parametrize("moment", _MOMENTS)
    @law()
    async def test_closing_cancelled_at_any_point_can_be_done_again(
        self, store: Store, another: Another, moment: Moment
    ) -> None:
        cancelled, point = True, 0
        while cancelled:
            point += 1
            opened = await another()
            await fill(opened, f"account-{point}", 1)
            cancelled = await _cancelled_at(point, opened.close(), moment)
            await opened.close()
        await _assert_usable(store)


async def _assert_usable(store: Store) -> None:
    (version,) = await store.versions(["account-usable"])
    done = await store.append("account-usable", events(2), expected_version=version)
    assert done.version == version + 2
    assert (await store.read_stream("account-usable", after=version)).events[-1].version == done.version
    assert (await store.head()).position == done.position
    await store.wait(after=done.position - 1)


async def _cancelled_at(point: int, call: Coroutine[Any, Any, object], moment: Moment) -> bool:
    """Run a call, cancelled where it suspends for that time; whether it was, or was through before."""
    cancelling = _CancelledAt(point, call, moment)
    try:
        await asyncio.create_task(cancelling.run())
    except asyncio.CancelledError:
        return True
    except (StoreError, ValueError):
        # A repeat of a call that was done although it was cancelled may be refused.
        pass
    assert not cancelling.cancelled, "it was cancelled, and went on as if nothing had happened"
    return False


class _CancelledAt:
    """Steps through a coroutine, and cancels the task in which it runs at the chosen point."""

    def __init__(self, point: int, call: Coroutine[Any, Any, object], moment: Moment) -> None:
        self.cancelled = False
        self._left = point
        self._steps = call.__await__()
        self._moment: Moment = moment

    async def run(self) -> None:
        await self

    def __await__(self) -> Generator[Any, None, None]:
        step = partial(next, self._steps)
        while True:
            try:
                waits_for = step()
            except StopIteration:
                return
            self._left -= 1
            if self._left == 0:
                self._cancel(waits_for)
            try:
                yield waits_for
            except BaseException as thrown:  # noqa: BLE001 - it belongs to the coroutine
                step = partial(self._steps.throw, thrown)
            else:
                step = partial(next, self._steps)

    def _cancel(self, waits_for: Any) -> None:
        task = asyncio.current_task()
        assert task is not None

        def cancel(_: object = None) -> None:
            self.cancelled = task.cancel()

        if self._moment == "as the answer comes" and asyncio.isfuture(waits_for):
            # The future is done when it calls this, and the task that waits for it has not run yet.
            waits_for.add_done_callback(cancel)
        else:
            cancel()
