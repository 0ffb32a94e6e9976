"""Streams that could not be read: not tried again with each command, but after a growing pause."""

from __future__ import annotations

import logging

from rehydrate.clock import Clock
from rehydrate.errors import StreamQuarantinedError
from rehydrate.runtime.limits import Limits

_log = logging.getLogger(__name__)

_MOST_STREAMS = 10_000


class Quarantine:
    """Remembers why a stream could not be read, and when to try again."""

    __slots__ = ("_clock", "_limits", "_streams")

    def __init__(self, clock: Clock, limits: Limits) -> None:
        self._clock = clock
        self._limits = limits
        self._streams: dict[str, tuple[StreamQuarantinedError, float, float]] = {}

    def add(self, stream: str, error: StreamQuarantinedError) -> None:
        known = self._streams.pop(stream, None)
        pause = self._limits.hold_first if known is None else min(self._limits.hold_most, known[2] * 2)
        _log.debug("%s", error, exc_info=error)
        self._streams[stream] = (_without_frames(error), self._clock.monotonic() + pause, pause)
        if len(self._streams) > _MOST_STREAMS:
            del self._streams[next(iter(self._streams))]

    def check(self, stream: str) -> None:
        """Raise what is known of the stream while its pause lasts."""
        known = self._streams.get(stream)
        if known is not None and self._clock.monotonic() < known[1]:
            error = known[0]
            raise StreamQuarantinedError(stream, error.version, error.type, error.reason) from error.__cause__

    def release(self, stream: str) -> None:
        """It could be read."""
        if self._streams:
            self._streams.pop(stream, None)


def _without_frames(error: StreamQuarantinedError) -> StreamQuarantinedError:
    """The error and its cause without the frames that raised them, which hold the events that were read."""
    kept = StreamQuarantinedError(error.stream, error.version, error.type, error.reason)
    kept.__cause__ = error.__cause__
    links: list[BaseException | None] = [error.__cause__]
    while links:
        link = links.pop()
        if link is not None and link.__traceback__ is not None:
            link.__traceback__ = None
            links += [link.__cause__, link.__context__]
    return kept
