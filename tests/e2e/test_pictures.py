"""The README's pictures; and that Start gets somewhere in the time it promises."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.e2e.lab import Notebook

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

DOCS = Path(__file__).parents[2] / "docs"
SHOW = """
from tetris_widget import TrainingPanel, TrainingConfig
panel = TrainingPanel(TrainingConfig())
panel.display()
"""
BEST = "print(panel.evaluations['mean_lines'].max() >= 100)"


def test_a_hundred_lines_per_game_within_half_a_minute(
    notebook: Notebook, pytestconfig: pytest.Config
) -> None:
    notebook.open([SHOW])
    notebook.expect_status("Idle")
    notebook.button("Start").click()
    notebook.expect_status("Training")
    notebook.wait_for(lambda: "True" in notebook.execute(BEST), 30)
    if pytestconfig.getoption("--pictures"):
        notebook.page.wait_for_timeout(12_000)
        picture(notebook, "panel-light")
        notebook.page.evaluate(
            "jupyterapp.commands.execute('apputils:change-theme', "
            "{theme: 'JupyterLab Dark'})"
        )
        expect(notebook.panel).to_have_class(re.compile("tw-dark"))
        picture(notebook, "panel-dark")


def picture(notebook: Notebook, name: str) -> None:
    notebook.page.mouse.move(0, 0)
    notebook.page.wait_for_timeout(500)
    DOCS.mkdir(exist_ok=True)
    notebook.panel.screenshot(path=DOCS / f"{name}.png")
