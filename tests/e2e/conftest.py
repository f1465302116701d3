"""A real JupyterLab and a real browser, one of each for all tests."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.e2e.lab import Notebook, open_browser, open_notebook, serve_lab

COMPILE = """
from tetris_widget.config import TrainingConfig
from tetris_widget.training.policies import warm_up
warm_up(TrainingConfig())
"""


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Start JupyterLab; yield its address and its directory of notebooks."""
    # In a fresh clone nothing is compiled yet, which takes the first run half a minute.
    subprocess.run([sys.executable, "-c", COMPILE], check=True, timeout=300)
    with serve_lab(tmp_path_factory.mktemp("jupyter")) as served:
        yield served


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Start the system's Chromium."""
    with open_browser() as opened:
        yield opened


@pytest.fixture
def notebook(
    lab: tuple[str, Path], browser: Browser, request: pytest.FixtureRequest
) -> Iterator[Notebook]:
    """A notebook of its own in a directory of its own; no error may reach its page."""
    with open_notebook(lab, browser, request.node.name) as opened:
        yield opened
        assert not opened.errors, "\n".join(opened.errors)
