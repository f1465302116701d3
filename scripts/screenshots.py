"""Make the README's pictures: the real panel in a real JupyterLab, when it has curves.

Run by `make screenshots`; the browser tests' own JupyterLab does the work.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def main() -> int:
    """Take the pictures into docs/."""
    test = "tests/e2e/test_pictures.py"
    command = [sys.executable, "-m", "pytest", "-q", test, "--pictures"]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
