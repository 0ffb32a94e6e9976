"""A process manager in a cluster: its instances and its targets live where their shards are, and each command is sent once."""

from __future__ import annotations

from pathlib import Path

from examples.bank.account import Deposit
from examples.bank.app import app, bank_account, money_transfer
from examples.bank.transfer import Accept, Request, Standing
from rehydrate import Limits
from rehydrate.testing.clock import until
from tests.cluster.cluster_nodes import nodes, quick


async def test_transfers_whose_parts_live_on_several_nodes(tmp_path: Path, nats_url: str) -> None:
    store = f"sqlite:///{tmp_path}/bank.db"
    limits = Limits(takeover_after=2)
    async with nodes(store, quick(nats_url), count=3, of=app, limits=limits) as runtimes:
        here = runtimes[0]
        for n in range(4):
            await here.dispatch(bank_account, f"a{n}", Deposit(100))
        for n in range(20):
            asking = runtimes[n % 3]
            amount = 10_000 if n % 5 == 0 else 1
            await asking.dispatch(
                money_transfer, f"t{n}", Request(f"t{n}", f"a{n % 4}", f"a{(n + 1) % 4}", amount)
            )
            await asking.dispatch(money_transfer, f"t{n}", Accept())

        async def are_settled() -> bool:
            standings = [(await here.state(money_transfer, f"t{n}")).standing for n in range(20)]
            return set(standings) <= {Standing.COMPLETED, Standing.FAILED}

        while not await are_settled():
            await until(lambda: True)
        balances = [
            (await runtime.state(bank_account, f"a{n}")).balance for n in range(4) for runtime in runtimes
        ]
        assert sum(balances) == 3 * 400
        failed = [
            n for n in range(20) if (await here.state(money_transfer, f"t{n}")).standing is Standing.FAILED
        ]
        assert failed == [0, 5, 10, 15]
        assert sum(runtime.statistics().served for runtime in runtimes) > 0
