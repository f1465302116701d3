"""All cases of the fault matrix, in the order of the table."""

from __future__ import annotations

from tests.faults import kills
from tests.faults import failpoints  # isort: skip
from tests.faults import envs, hangs, stops  # isort: skip
from tests.faults import loads  # isort: skip
from tests.faults.matrix import CASES

__all__ = ["CASES", "envs", "failpoints", "hangs", "kills", "loads", "stops"]
