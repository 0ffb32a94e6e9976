"""The rows: what is measured beside what, and which ratios were aimed at. One module for each family.

None is loaded from here: a measurement needs only its own.
"""

from __future__ import annotations

from bench.rows.row import Contestant, Measure, Ratio, Row

__all__ = ["Contestant", "Measure", "Ratio", "Row"]
