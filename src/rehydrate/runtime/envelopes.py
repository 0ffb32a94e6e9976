"""Stored events of several aggregates as envelopes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rehydrate.codec.aggregate import AggregateCodecs
from rehydrate.codec.process import InstanceCodec
from rehydrate.domain.codec import Codec
from rehydrate.domain.envelope import EventEnvelope, moment
from rehydrate.errors import UnknownEventError
from rehydrate.runtime.rehydration import decode_event
from rehydrate.runtime.window import metadata_in
from rehydrate.store.port import StoredEvent


def envelope(decoders: Mapping[str, Any], event: StoredEvent) -> EventEnvelope[Any]:
    """A stored event, decoded. Raises `UnknownEventError` or `UndecodableEventError`."""
    return EventEnvelope(
        event=decode_event(decoders, event),
        id=event.id,
        type=event.type,
        stream=event.stream,
        version=event.version,
        position=event.position,
        recorded_at=moment(event.recorded_at),
        metadata=metadata_in(event),
    )


class Envelopes:
    """Decodes the events of all aggregates of an App."""

    def __init__(self, codecs: Mapping[str, Codec]) -> None:
        self.codecs = codecs
        self._decoders = {name: codec.decoders for name, codec in codecs.items()}

    def of(self, event: StoredEvent) -> EventEnvelope[Any]:
        """A stored event, decoded. Raises `UnknownEventError` or `UndecodableEventError`."""
        decoders = self._decoders.get(event.stream.partition("-")[0])
        if decoders is None:
            raise UnknownEventError(event.type, ())
        return envelope(decoders, event)


def envelopes_of(codecs: Mapping[str, tuple[object, AggregateCodecs]]) -> Envelopes:
    """For the events of all aggregates; those of the instances of process managers are not for consumers of the user's."""
    return Envelopes(
        {
            name: its_codecs.events
            for name, (_, its_codecs) in codecs.items()
            if not isinstance(its_codecs.events, InstanceCodec)
        }
    )
