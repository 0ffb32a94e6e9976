"""How a domain says no."""

from __future__ import annotations

import re
from typing import Never

_WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


class Rejection(Exception):
    """The domain refused the command; subclass it once per reason and raise it in `decide`.

    Nothing was stored. A retry asks again, against the state of then. The facts are given by name and can be
    encoded as JSON, so that a refusal crosses a process as itself:

        class InsufficientFunds(Rejection): ...

        raise InsufficientFunds(balance=20, amount=30)
    """

    facts: dict[str, object] = {}  # noqa: RUF012 - this one is never changed
    """Stays empty for a class that has an `__init__` of its own and does not call this one."""

    def __init__(self, *texts: Never, **facts: object) -> None:
        if texts:
            name = type(self).__name__
            raise TypeError(
                f"{name}({', '.join(map(repr, texts))}): facts are given by name, such as {name}(reason=...)"
            )
        super().__init__()
        self.facts = facts

    def __str__(self) -> str:
        words = _WORD_START.sub(" ", type(self).__name__).lower()
        facts = ", ".join(f"{name} {value}" for name, value in self.facts.items())
        return f"{words}: {facts}" if facts else words

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.facts.items())})"
        )

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.facts)


def _rebuild(kind: type[Rejection], facts: dict[str, object]) -> Rejection:
    rejection = kind.__new__(kind)
    rejection.facts = facts
    return rejection
