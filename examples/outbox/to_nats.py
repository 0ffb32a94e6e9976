"""Events to NATS: a message for each, on `<prefix>.<aggregate>.<type>`, stored once by JetStream.

`Nats-Msg-Id` is the position: what is published a second time within the `duplicate_window` of the JetStream stream is
acknowledged and not stored. After that a receiver tells by the id.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from nats.js import JetStreamContext

from examples.outbox.cloud_events import cloud_event
from rehydrate import EventEnvelope

Handler = Callable[[EventEnvelope[Any]], Awaitable[None]]


def to_nats(jetstream: JetStreamContext, prefix: str, source: str) -> Handler:
    """The handler of a subscription, which publishes and waits until the message is stored."""

    async def publish(envelope: EventEnvelope[Any]) -> None:
        await jetstream.publish(
            f"{prefix}.{envelope.aggregate}.{envelope.type}",
            cloud_event(envelope, source),
            headers={
                "Nats-Msg-Id": f"{source} {envelope.position}",
                "Content-Type": "application/cloudevents+json",
            },
        )

    return publish
