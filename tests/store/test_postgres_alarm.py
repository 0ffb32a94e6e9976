"""One timer watches over many things in a row."""

import asyncio

from rehydrate.store.postgres.alarm import Alarm


class Loop(asyncio.SelectorEventLoop):
    """Its time is set by hand; a timer that is due rings in the next turn."""

    def __init__(self) -> None:
        self.now = 0.0
        super().__init__()

    def time(self) -> float:
        return self.now


def test_it_rings_once_for_what_takes_too_long_and_not_for_what_has_ended() -> None:
    async def play() -> None:
        rung: list[float] = []
        alarm = Alarm(4.0, lambda: rung.append(loop.now))

        async def at(now: float) -> None:
            loop.now = now
            await asyncio.sleep(0)
            await asyncio.sleep(0)

        alarm.begin()  # At 0.
        await at(3.0)
        alarm.end()
        alarm.begin()
        await at(6.9)
        assert rung == []
        await at(7.0)
        assert rung == [7.0]
        await at(20.0)
        alarm.end()
        alarm.begin()
        await at(23.0)
        alarm.end()
        await at(30.0)
        assert rung == [7.0]
        alarm.begin()
        await at(34.0)
        assert rung == [7.0, 34.0]
        alarm.begin()
        alarm.close()
        await at(50.0)
        assert rung == [7.0, 34.0]

    loop = Loop()
    try:
        loop.run_until_complete(play())
    finally:
        loop.close()
