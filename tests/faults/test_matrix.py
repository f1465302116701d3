"""The short version of each case of the fault matrix; `make faults` has the long."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.cases import CASES
from tests.faults.matrix import Case, NotPossibleHere

pytestmark = pytest.mark.timeout(300)

# A busy machine must not fail a test; `make faults` asks for the limits themselves.
GENEROSITY = 5.0
SHORT = [case for case in CASES.values() if case.short]


@pytest.mark.parametrize("case", SHORT, ids=lambda case: case.name)
def test_what_must_hold_holds(case: Case, tmp_path: Path) -> None:
    try:
        measures = case.body(case.short, tmp_path)
    except NotPossibleHere as reason:
        pytest.skip(str(reason))
    assert measures
    allowed = [m.limit * (GENEROSITY if m.unit == "s" else 1.0) for m in measures]
    held = [m.holds(limit) for m, limit in zip(measures, allowed, strict=True)]
    assert all(held), "; ".join(map(str, measures))
