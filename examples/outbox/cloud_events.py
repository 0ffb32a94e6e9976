"""An event as a CloudEvent (version 1.0, JSON), for whoever knows neither Rehydrate nor our classes."""

from __future__ import annotations

from typing import Any

import msgspec

from rehydrate import EventEnvelope


def cloud_event(envelope: EventEnvelope[Any], source: str) -> bytes:
    """The position is its id: unique with the source, the same at each repeat, and in the order of the log."""
    return msgspec.json.encode(
        {
            "specversion": "1.0",
            "id": str(envelope.position),
            "source": source,
            "type": f"{envelope.aggregate}.{envelope.type}",
            "subject": envelope.aggregate_id,
            "time": envelope.recorded_at,
            "datacontenttype": "application/json",
            "data": envelope.event,
            # Extensions, whose names are lower case letters and digits.
            "version": envelope.version,
            "correlationid": envelope.metadata.correlation_id or envelope.id,
        }
    )
