"""Every preset is trained, watched, evaluated and steered by a panel, for real."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.training.runs import small_preset
from tetris_widget import TrainingPanel
from tetris_widget.config import PRESETS

pytestmark = pytest.mark.timeout(120)


def wait_for(condition: Callable[[], Any], seconds: float = 80.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.01)


@pytest.mark.parametrize("name", PRESETS)
def test_a_panel_trains_every_preset(name: str, tmp_path: Path) -> None:
    with TrainingPanel(small_preset(name, tmp_path)) as panel:
        panel.start()
        wait_for(lambda: not panel.evaluations.empty)
        wait_for(lambda: not panel.episodes.empty)
        wait_for(lambda: panel._last_frame is not None)
        panel.pause()
        wait_for(lambda: panel.status == "Paused")
        panel.resume()
        wait_for(lambda: panel.status == "Training")
        panel.stop()
        assert panel.wait(30)
        assert panel.status == "Stopped"
        assert panel.metrics["timesteps"].iloc[-1] > 0
        assert panel.plot().axes
