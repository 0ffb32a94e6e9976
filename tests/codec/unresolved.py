"""Events whose annotations cannot be resolved from here."""

# ruff: noqa: F821

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from decimal import Decimal


@dataclass(frozen=True)
class Imported:
    amount: Decimal


@dataclass(frozen=True)
class Misspelt:
    amount: Amuont  # type: ignore[name-defined] # pyright: ignore[reportUndefinedVariable]
