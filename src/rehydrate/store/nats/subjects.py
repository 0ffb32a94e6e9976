"""Names of ours as subjects of NATS: any text, without loss, and so that the server can filter by them."""

from __future__ import annotations

import re
from typing import Final

_ESCAPED: Final = re.compile(rb"[^A-Za-z0-9_\-]")
_ESCAPE: Final = re.compile(rb"=([0-9A-F]{2})")
_EMPTY: Final = "="
_NO_DASH: Final = "=-"
"""In place of an id, for a stream whose name has no dash: else it would be the one with nothing behind its dash."""


def as_token(text: str) -> str:
    """One token of a subject: what is not a letter, digit, '_' or '-' of ASCII is escaped byte by byte."""
    if text.isascii() and text.replace("-", "").isalnum():
        return text
    if not text:
        return _EMPTY
    return _ESCAPED.sub(lambda found: b"=%02X" % found[0][0], text.encode(errors="surrogatepass")).decode()


def as_text(token: str) -> str:
    """The text of which it was made."""
    if "=" not in token:
        return token
    if token == _EMPTY:
        return ""
    return _ESCAPE.sub(lambda found: bytes([int(found[1], 16)]), token.encode()).decode()


class Subjects:
    """The subjects of one store, and the JetStream streams that hold them."""

    def __init__(self, name: str) -> None:
        self.events_stream = f"{name}-events"
        self.snapshots_stream = f"{name}-snapshots"
        self.consumers_stream = f"{name}-consumers"
        self._events = f"{name}.e."
        self._snapshots = f"{name}.s."
        self._checkpoints = f"{name}.c."
        self._views = f"{name}.v."
        self.all_events = f"{name}.e.*.*"
        self.all_snapshots = f"{name}.s.*.*"
        self.all_checkpoints = f"{name}.c.*"
        self.all_views = f"{name}.v.*.*.*"
        self.changes_of_events = f"$JS.EVENT.ADVISORY.STREAM.*.{self.events_stream}"
        """On which the servers tell that the JetStream stream was deleted, made or restored, or is led by another one."""
        self.hint = f"{name}.hint"
        """On which those who append say so, to those who wait."""

    def events(self, stream: str) -> str:
        return self._events + _stream_tokens(stream)

    def events_of(self, aggregate: str) -> str:
        """A pattern for all streams of an aggregate."""
        return f"{self._events}{as_token(aggregate)}.*"

    def stream_of(self, subject: str) -> str:
        """The stream whose events have this subject."""
        aggregate, _, id = subject[len(self._events) :].partition(".")
        if id == _NO_DASH:
            return as_text(aggregate)
        return f"{as_text(aggregate)}-{as_text(id)}"

    def snapshots(self, stream: str) -> str:
        return self._snapshots + _stream_tokens(stream)

    def checkpoint(self, consumer: str) -> str:
        return self._checkpoints + as_token(consumer)

    def view(self, consumer: str, generation: str, key: str) -> str:
        return f"{self._views}{as_token(consumer)}.{generation}.{as_token(key)}"

    def views(self, consumer: str, generation: str) -> str:
        """A pattern for all views of one generation."""
        return f"{self._views}{as_token(consumer)}.{generation}.*"


def matches(pattern: str, subject: str) -> bool:
    """Whether a subject is a pattern's, whose last token alone may stand for any."""
    return subject == pattern or (pattern.endswith(".*") and subject.startswith(pattern[:-1]))


def last_text(subject: str) -> str:
    """The text of a subject's last token."""
    return as_text(subject.rpartition(".")[2])


def _stream_tokens(stream: str) -> str:
    aggregate, dash, id = stream.partition("-")
    return f"{as_token(aggregate)}.{as_token(id) if dash else _NO_DASH}"
