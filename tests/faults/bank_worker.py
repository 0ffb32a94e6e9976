"""A process that runs commands of the bank: one JSON line in per command, one out per answer, until its input ends.

    python -m tests.faults.bank_worker sqlite:///bank.db

In: `{"n": 7, "id": "ada", "command_id": "c7", "amount": 5}`, where an amount below 0 is a withdrawal. Out, in the order
in which they are answered: `{"n": 7, "version": 3, "position": 9}`, or `{"n": 7, "error": "InsufficientFunds"}`. A line
`{"n": 8, "id": "ada"}` asks for the state: `{"n": 8, "balance": 5, "changes": 2}`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from rehydrate import RehydrateError, Rejection, Runtime
from tests.bank import Command, Deposit, Withdraw, account, app


async def answer(bank: Runtime, order: dict[str, Any]) -> dict[str, Any]:
    if "amount" not in order:
        state = await bank.state(account, order["id"])
        return {"n": order["n"], "balance": state.balance, "changes": state.changes}
    amount: int = order["amount"]
    command: Command = Deposit(amount) if amount >= 0 else Withdraw(-amount)
    try:
        result = await bank.dispatch(
            account, order["id"], command, command_id=order["command_id"], timeout=120
        )
    except (Rejection, RehydrateError) as no:
        return {"n": order["n"], "error": type(no).__name__}
    return {"n": order["n"], "version": result.version, "position": result.position}


async def work(url: str) -> None:
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    async with app.open(url) as bank, asyncio.TaskGroup() as tasks:

        def say(line: str) -> None:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()

        async def tell(order: dict[str, Any]) -> None:
            say(json.dumps(await answer(bank, order)))

        say("ready")
        while line := await lines.readline():
            tasks.create_task(tell(json.loads(line)))


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1]))
