"""Events to an HTTP endpoint: a POST for each, with the position as `Idempotency-Key`.

Whoever receives it answers 2xx once it is safe on his side, and the same to a key that he has seen before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.request import Request, urlopen

from examples.outbox.cloud_events import cloud_event
from rehydrate import EventEnvelope

Handler = Callable[[EventEnvelope[Any]], None]
PATIENCE = 10.0


def to_webhook(url: str, source: str) -> Handler:
    """The handler of a subscription: a plain function, which is called in a thread. What is no 2xx raises."""

    def post(envelope: EventEnvelope[Any]) -> None:
        request = Request(
            url,
            data=cloud_event(envelope, source),
            headers={
                "Content-Type": "application/cloudevents+json",
                "Idempotency-Key": f"{source} {envelope.position}",
            },
        )
        with urlopen(request, timeout=PATIENCE):
            pass

    return post
