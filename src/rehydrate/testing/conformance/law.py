"""What makes a test a law: it applies or is skipped by name, and it never hangs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, Final, TypeVar, cast

import pytest

from rehydrate.store.port import Capabilities, Store
from rehydrate.testing.clock import HANG_LIMIT

Test = TypeVar("Test", bound=Callable[..., Coroutine[Any, Any, None]])

_CAPABILITIES: Final = frozenset(Capabilities.__struct_fields__)


def law(
    *, needs: tuple[str, ...] = (), lacks: tuple[str, ...] = (), hang_limit: float = HANG_LIMIT
) -> Callable[[Test], Test]:
    """Mark a test of a class of laws.

    It is skipped unless the capabilities of the fixture `store` are true where the law `needs` them and false where
    it `lacks` them. After `hang_limit` seconds, times the class's `patience`, it fails: a store that does not answer is broken, however slow the machine.
    """
    unknown = {*needs, *lacks} - _CAPABILITIES
    if unknown:
        raise ValueError(f"no such capability: {', '.join(sorted(unknown))}")

    def mark(test: Test) -> Test:
        @wraps(test)
        async def kept(laws: Any, /, **fixtures: Any) -> None:
            if needs or lacks:
                _skip_unless_declared(fixtures["store"], needs, lacks)
            seconds = hang_limit * laws.patience
            limit = asyncio.timeout(seconds)
            try:
                async with limit:
                    await test(laws, **fixtures)
            except TimeoutError:
                if limit.expired():
                    pytest.fail(f"it hangs: there was no end to it in {seconds:g} s")
                raise

        return cast(Test, pytest.mark.asyncio(kept))

    return mark


def _skip_unless_declared(store: Store, needs: tuple[str, ...], lacks: tuple[str, ...]) -> None:
    for name in needs:
        if not getattr(store.capabilities, name):
            pytest.skip(f"{store.url} declares {name}=False")
    for name in lacks:
        if getattr(store.capabilities, name):
            pytest.skip(f"{store.url} declares {name}=True")
