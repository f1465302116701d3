"""All cases of the fault matrix, in the order of the table."""

from __future__ import annotations

from tests.faults import failpoints, kills
from tests.faults.matrix import CASES

__all__ = ["CASES", "failpoints", "kills"]
