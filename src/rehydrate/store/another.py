"""One error, met by many: each gets an exception of its own."""

from __future__ import annotations

from rehydrate.errors import CorruptStoreError, StoreError, StoreSealedError, StoreUnavailableError


def another(error: StoreError) -> StoreError:
    """The same error once more: one that is raised in several places would show the wrong ones."""
    if isinstance(error, StoreUnavailableError):
        copied: StoreError = StoreUnavailableError(
            error.reason, stored=error.stored, retryable=error.retryable
        )
    elif isinstance(error, CorruptStoreError):
        copied = CorruptStoreError(str(error))
    elif isinstance(error, StoreSealedError):
        copied = StoreSealedError(error.store)
    else:
        return error
    copied.__cause__ = error.__cause__
    return copied
