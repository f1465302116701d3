"""All cases of the fault matrix, in the order of the table."""

from __future__ import annotations

import importlib

from tests.faults.matrix import CASES

# The modules register their cases when they are imported.
for name in ("kills", "failpoints", "envs", "hangs", "stops", "loads"):
    importlib.import_module(f"tests.faults.{name}")

__all__ = ["CASES"]
