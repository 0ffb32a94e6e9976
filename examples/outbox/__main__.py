"""Publish what happens in the bank: a process of its own, or several, of which one does it at a time.

python -m examples.outbox --store sqlite:///bank.db --webhook http://localhost:8000/events
python -m examples.outbox --store sqlite:///bank.db --nats nats://localhost:4222 --prefix bank
"""

from __future__ import annotations

import argparse
import asyncio
import signal
from contextlib import AsyncExitStack

import nats
from nats.js.api import StreamConfig

from examples.bank.aggregates import bank_account, money_transfer
from examples.outbox.to_nats import to_nats
from examples.outbox.to_webhook import to_webhook
from rehydrate import App, Limits, Retry, Stop

SOURCE = "/bank"
# An endpoint that is away for long must not lose events: it is tried for about a quarter of an hour, then a human decides.
PATIENT = Retry(times=35, first=0.2, most=30, then=Stop())

# Nothing is decided here, and the transfers are moved elsewhere: this process reads.
app = App(aggregates=[bank_account, money_transfer])


async def publish(
    store: str, *, webhook: str | None, nats_url: str | None, prefix: str, takeover_after: float
) -> None:
    """Publish until the process is told to end."""
    async with AsyncExitStack() as stack:
        bank = await stack.enter_async_context(app.open(store, limits=Limits(takeover_after=takeover_after)))
        if webhook is not None:
            # In the order of each stream, eight streams at a time.
            bank.subscribe("outbox.webhook", to_webhook(webhook, SOURCE), workers=8, on_error=PATIENT)
        if nats_url is not None:
            client = await nats.connect(nats_url)  # pyright: ignore[reportUnknownMemberType]
            stack.push_async_callback(client.close)
            jetstream = client.jetstream()  # pyright: ignore[reportUnknownMemberType]
            configuration = StreamConfig(name=prefix, subjects=[f"{prefix}.>"])
            await jetstream.add_stream(configuration)  # pyright: ignore[reportUnknownMemberType]
            bank.subscribe("outbox.nats", to_nats(jetstream, prefix, SOURCE), on_error=PATIENT)
        ending = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, ending.set)
        await ending.wait()


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--store", required=True, metavar="URL")
    parser.add_argument("--webhook", metavar="URL")
    parser.add_argument("--nats", metavar="URL")
    parser.add_argument(
        "--prefix", default="bank", help="of the subjects, and the name of the JetStream stream"
    )
    parser.add_argument(
        "--takeover-after", type=float, default=10.0, metavar="SECONDS", help="of silence, from one that died"
    )
    given = parser.parse_args()
    asyncio.run(
        publish(
            given.store,
            webhook=given.webhook,
            nats_url=given.nats,
            prefix=given.prefix,
            takeover_after=given.takeover_after,
        )
    )


if __name__ == "__main__":
    main()
