"""What a store may offer beside the port: writes of the user's own, in one transaction with a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from rehydrate.store.port import Checkpoint, CheckpointStore, ViewChange


class TransactionalStore(CheckpointStore, Protocol):
    """A store whose `Capabilities.transaction` says whose transaction a handler gets."""

    async def transact(
        self,
        checkpoint: Checkpoint,
        *,
        previous: Checkpoint | None,
        views: Sequence[ViewChange],
        change: Callable[[Any], Any],
    ) -> bool:
        """As `save_checkpoint`, in a transaction that `change` is called with before it is committed.

        `change` is a plain function, called in a thread, where the transaction is one of `sqlite3`, and else a coroutine
        function. It is called only while the place is this consumer's, and again where the outcome was not known and
        nothing was stored. Raises `ChangeFailedError` where `change` raised: then nothing was changed.
        """
        ...
