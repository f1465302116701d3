"""The short version of each case of the fault matrix; `make faults` has the long."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.cases import CASES
from tests.faults.matrix import Case, NotPossibleHere

pytestmark = pytest.mark.timeout(300)

SHORT = [case for case in CASES.values() if case.short]


@pytest.mark.parametrize("case", SHORT, ids=lambda case: case.name)
def test_what_must_hold_holds(case: Case, tmp_path: Path) -> None:
    try:
        measures = case.body(case.short, tmp_path)
    except NotPossibleHere as reason:
        pytest.skip(str(reason))
    assert measures
    assert all(measure.is_ok for measure in measures), "; ".join(map(str, measures))
