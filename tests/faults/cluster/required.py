"""Tests that need hosts which can be cut off from each other: skipped, or failed where they must be had."""

from __future__ import annotations

import os
from typing import Final

import pytest

from tests.faults.cluster.network import why_no_namespaces

REQUIRED: Final = "REHYDRATE_REQUIRE_NAMESPACES"
"""Set to 1, a machine on which hosts cannot be cut off from each other fails."""


def are_required() -> bool:
    return os.environ.get(REQUIRED, "") not in {"", "0"}


def need_namespaces() -> None:
    """Skip this test where there are none, or fail it."""
    if reason := why_no_namespaces():
        if are_required():
            pytest.fail(f"{reason} ({REQUIRED} is set)", pytrace=False)
        pytest.skip(reason)
