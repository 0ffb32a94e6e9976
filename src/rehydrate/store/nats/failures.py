"""The errors of JetStream by number, and what they mean to a store."""

from __future__ import annotations

from typing import Final

import msgspec

NO_SUITABLE_PEERS: Final = 10_005
"""Not enough servers are there for so many replicas."""
NO_RESOURCES: Final = 10_023
NO_MESSAGE: Final = 10_037
NOT_ENABLED: Final = 10_076
NOT_ENABLED_FOR_ACCOUNT: Final = 10_039
STORAGE_RESOURCES: Final = 10_047
"""The disk limit of the server or of the account is reached."""
IN_USE_OTHERWISE: Final = 10_058
"""There is a JetStream stream of this name, and it is configured in another way."""
NO_STREAM: Final = 10_059
SUBJECTS_OVERLAP: Final = 10_065
WRONG_LAST: Final = 10_071
"""Something else than expected was the last message of the subject."""
NOT_CLUSTERED: Final = 10_074
STORE_FAILED: Final = 10_077
"""The limit of bytes is reached, or the disk does not take it."""
SEALED: Final = 10_109
IN_DOUBT: Final = 10_164
"""Another write to the subject is under way, whose outcome nobody knows yet."""
BATCH_INCOMPLETE: Final = 10_176
TOO_MANY_BATCHES: Final = 10_210

FULL: Final = frozenset({NO_RESOURCES, STORAGE_RESOURCES, STORE_FAILED})
UNAVAILABLE: Final = 503
"""The class of errors that go away by themselves."""
NOT_FOUND: Final = "404"
TOO_MANY: Final = "413"
END_OF_BATCH: Final = "204"


class ApiError(msgspec.Struct, frozen=True):
    """What JetStream says where it does not do as asked."""

    code: int = 0
    err_code: int = 0
    description: str = ""


class JetStreamError(Exception):
    """JetStream refused."""

    def __init__(self, error: ApiError) -> None:
        super().__init__(f"{error.description} ({error.err_code})")
        self.code = error.code
        self.err_code = error.err_code
        self.description = error.description

    @property
    def is_passing(self) -> bool:
        """Whether the same may be answered otherwise in a moment."""
        return self.code == UNAVAILABLE and self.err_code not in FULL
