"""Prints the fault matrix, one line a case; exit code 1 if any has failed.

Run by `make faults`; `python -m tests.faults [--short] [NAME…]` runs some of it. Each
case runs in a process of its own, so that a hang is one line, too. Training processes
import this file (it is `__main__`): what only the table needs is imported where it is
needed.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.faults.matrix import Case

HUNG_SECONDS = 900.0
# What a case's process returns.
OK, FAILED, LEFT_OUT = 0, 1, 3
VERDICTS = {OK: "ok", LEFT_OUT: "left out"}


def run_here(case: Case, times: int) -> int:
    """Run a case in this process; print what it measured."""
    from tests.faults.matrix import NotPossibleHere

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        try:
            measures = case.body(times, Path(home))
        except NotPossibleHere as reason:
            print(reason)
            return LEFT_OUT
        except AssertionError as error:
            traceback.print_exc()
            where = traceback.extract_tb(error.__traceback__)[-1]
            print(f"{error or where.line} ({where.name}, line {where.lineno})")
            return FAILED
    print("; ".join(map(str, measures)))
    return OK if all(measure.is_ok for measure in measures) else FAILED


def run(case: Case, times: int) -> tuple[int, str]:
    """Run a case in a process of its own; return how it ended, and what it said."""
    command = [sys.executable, "-m", "tests.faults", "--here", str(times), case.name]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=HUNG_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return FAILED, f"hung for {HUNG_SECONDS:.0f} s"
    said = (out.strip() or err.strip() or "nothing").splitlines()
    return process.returncode, said[-1]


def main() -> int:
    """Print the table."""
    from tests.faults.cases import CASES

    parser = argparse.ArgumentParser(prog="python -m tests.faults")
    parser.add_argument("--short", action="store_true", help="as in `make test`")
    parser.add_argument("--here", type=int, help=argparse.SUPPRESS)
    parser.add_argument("names", nargs="*", help=", ".join(CASES))
    asked = parser.parse_args()
    unknown = [name for name in asked.names if name not in CASES]
    if unknown:
        parser.error(f"no case {unknown[0]!r}; there are: {', '.join(CASES)}")
    cases = [CASES[name] for name in asked.names or CASES]
    if asked.here:
        return run_here(cases[0], asked.here)
    verdicts = []
    for case in cases:
        times = case.short if asked.short else case.full
        if not times:
            continue
        before = time.monotonic()
        code, said = run(case, times)
        seconds = time.monotonic() - before
        verdicts.append(VERDICTS.get(code, "FAILED"))
        print(f"{verdicts[-1]:<8} {times:>6} × {case.fault}", flush=True)
        print(f"{'':>18} {said}  [{seconds:.0f} s]", flush=True)
    counts = {one: verdicts.count(one) for one in ("ok", "left out", "FAILED")}
    print(", ".join(f"{n} {verdict}" for verdict, n in counts.items() if n))
    return 1 if counts["FAILED"] else 0


if __name__ == "__main__":
    sys.exit(main())
