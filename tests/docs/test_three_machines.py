"""The certificates that the tutorial has its readers make fit three nodes that listen beyond one machine."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from rehydrate.cluster import Node, TlsFiles
from tests.bank import Deposit, app
from tests.bank import account as bank_account
from tests.cluster.places import three_places
from tests.docs.pages import ROOT, blocks, commands

PAGE = ROOT / "docs" / "three_machines.md"


def _openssl(folder: Path) -> None:
    """Type the commands: what is made once, and what is made for each machine."""
    once, for_each = (block for block in blocks(PAGE) if "openssl" in (block.not_run or ""))
    typed = [command for command, _ in commands(once)]
    for name in "abc":
        for command, _ in commands(for_each):
            here = command.replace("10.0.0.1", "127.0.0.1")
            typed.append(re.sub(r"\ba(?=\.|$| )", name, here).replace("CN=a", f"CN={name}"))
    for command in typed:
        subprocess.run(command, shell=True, cwd=folder, check=True, capture_output=True, timeout=60)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not here")
async def test_three_nodes_beyond_one_machine_trust_the_certificates_of_the_tutorial(tmp_path: Path) -> None:
    _openssl(tmp_path)
    token = (tmp_path / "token").read_text().strip()
    peers = three_places()
    nodes = [
        Node(
            name=name,
            data=tmp_path / name,
            listen=place.replace("127.0.0.1", "0.0.0.0"),
            peers=peers,
            token=token,
            tls=TlsFiles(
                certificate=tmp_path / f"{name}.pem",
                key=tmp_path / f"{name}.key",
                authority=tmp_path / "ca.pem",
            ),
            ready_within=60.0,
        )
        for name, place in peers.items()
    ]
    async with AsyncExitStack() as stack:
        await asyncio.gather(*(stack.enter_async_context(node) for node in nodes))
        bank = await stack.enter_async_context(app.open(nodes[0].store_url("bank")))
        assert (await bank.dispatch(bank_account, "ada", Deposit(100))).version == 1
