"""Figures: what a notebook makes of them."""

from __future__ import annotations

import pickle

import pandas as pd
from IPython.core.formatters import DisplayFormatter

from tetris_widget.panel.figures import RunFigure, plot_run


def test_a_notebook_shows_it_as_a_picture() -> None:
    episodes = pd.DataFrame(
        {"timesteps": [1, 2], "lines": [0, 3], "reward": [1.0, 2.0]}
    )
    figure = plot_run(episodes, pd.DataFrame(), training_rows=8)
    _, labels = figure.axes[0].get_legend_handles_labels()
    assert "training episodes, 8 rows" in labels
    shown, _ = DisplayFormatter().format(figure)
    assert shown["image/png"].startswith(b"\x89PNG")
    assert isinstance(pickle.loads(pickle.dumps(figure)), RunFigure)
