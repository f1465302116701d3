"""What is installed: the front end is in the wheel and in the sdist."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FRONT_END = {"panel/static/widget.js", "panel/static/widget.css"}


@pytest.mark.timeout(240)
def test_wheel_and_sdist_hold_the_front_end(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=200)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {f"tetris_widget/{name}" for name in FRONT_END} <= names
    assert "tetris_widget/py.typed" in names
    assert not any(name.startswith(("tests/", "node_modules/")) for name in names)
    (sdist,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    assert {f"tetris_widget/{name}" for name in FRONT_END} <= inside


def test_the_bundle_is_small() -> None:
    size = (ROOT / "tetris_widget" / "panel" / "static" / "widget.js").stat().st_size
    assert size < 150_000
