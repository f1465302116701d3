"""All cases of the fault matrix, in the order of the table."""

from __future__ import annotations

import importlib

from tests.faults.matrix import CASES

# The modules register their cases when they are imported.
MODULES = (
    "kills",
    "failpoints",
    "envs",
    "hangs",
    "stops",
    "kernels",
    "browsers",
    "disks",
    "loads",
    "histories",
)
for name in MODULES:
    importlib.import_module(f"tests.faults.{name}")

__all__ = ["CASES"]
