"""Two runtimes in two processes on one store: neither decides on a state older than what the other acknowledged."""

from __future__ import annotations

import asyncio
import random

import pytest

from tests.bank import account, app
from tests.faults.worker import Ask, Refused, Run, Shown, Stored
from tests.faults.workers import Worker, workers_on

ACCOUNTS = 8


class Game:
    """One account, whose balance is known before each command, because only one is under way at a time."""

    def __init__(self, name: str, players: list[Worker], chance: random.Random) -> None:
        self.name = name
        self.players = players
        self.chance = chance
        self.balance = 0
        self.changes = 0
        self._count = 0

    async def play(self, rounds: int) -> None:
        for _ in range(rounds):
            one, other = self.chance.sample(self.players, 2)
            await self.change(one, self.chance.randint(1, 9))
            await self.look(other)
            await self.change(other, -self.balance)
            await self.be_refused(one)

    def _next(self) -> str:
        self._count += 1
        return f"{self.name}.{self._count}"

    async def change(self, player: Worker, amount: int) -> None:
        """What the balance allows is not refused, and comes right after what the other one did."""
        id = self._next()
        answer = await player.ask(Run(id=id, account=self.name, amount=amount), id)
        self.balance += amount
        self.changes += 1
        assert isinstance(answer, Stored), f"{answer} at balance {self.balance}"
        assert answer.version == self.changes

    async def be_refused(self, player: Worker) -> None:
        """What the balance does not allow is refused, for the reason that is true now."""
        id, amount = self._next(), self.balance + 1
        answer = await player.ask(Run(id=id, account=self.name, amount=-amount), id)
        assert isinstance(answer, Refused), answer
        assert answer.is_rejection, answer
        assert answer.facts == {"balance": self.balance, "amount": amount}

    async def look(self, player: Worker) -> None:
        id = self._next()
        answer = await player.ask(Ask(id=id, account=self.name), id)
        assert answer == Shown(id, self.balance, self.changes)


@pytest.mark.parametrize(
    ("url", "rounds"), [("sqlite", 250), ("postgres", 100), ("mongodb", 50)], indirect=["url"]
)
async def test_neither_decides_on_a_state_older_than_what_the_other_acknowledged(
    url: str, rounds: int, chance: random.Random
) -> None:
    async with workers_on(url) as workers:
        players = [await workers.start(), await workers.start()]
        for player in players:
            await player.ready()
        games = [Game(f"account{n}", players, chance) for n in range(ACCOUNTS)]
        async with asyncio.TaskGroup() as playing:
            for game in games:
                playing.create_task(game.play(rounds))
    async with app.open(url) as bank:
        for game in games:
            state = await bank.state(account, game.name)
            assert (state.balance, state.changes) == (game.balance, game.changes)
