"""Figures of a run, fit for a paper.

Owns their looks. Deliberately doesn't know the panel: it is given tables.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

RUNNING_MEAN_EPISODES = 100


def plot_run(
    episodes: pd.DataFrame,
    evaluations: pd.DataFrame,
    resumed_at: Iterable[int] = (),
    title: str | None = None,
) -> Figure:
    """Return a figure: lines per game and reward per game, over timesteps.

    Evaluation: mean with its 95 % interval. Training: every episode, and the running
    mean of 100. Dashed: the timesteps where the run was resumed. No pyplot state is
    touched.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    lines, reward = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    _draw_episodes(lines, episodes, "lines")
    _draw_evaluations(lines, evaluations)
    _draw_episodes(reward, episodes, "reward")
    lines.set_yscale("symlog", linthresh=1)
    lines.set_ylim(bottom=0)
    lines.set_ylabel("Lines per game")
    reward.set_ylabel("Reward per game")
    reward.set_xlabel("Timesteps")
    _mark(lines, resumed_at, label="resumed")
    _mark(reward, resumed_at)
    if lines.get_legend_handles_labels()[0]:
        lines.legend(frameon=False, fontsize="small", loc="upper left")
    if title:
        lines.set_title(title)
    for axes in (lines, reward):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    return figure


def _draw_episodes(axes: Any, episodes: pd.DataFrame, column: str) -> None:
    if episodes.empty or episodes[column].isna().all():
        return
    x, y = episodes["timesteps"], episodes[column]
    axes.plot(x, y, ".", ms=2, color="0.7", label="training episodes", rasterized=True)
    mean = y.rolling(RUNNING_MEAN_EPISODES, min_periods=1).mean()
    axes.plot(x, mean, color="0.35", lw=1, label="running mean of 100")


def _draw_evaluations(axes: Any, evaluations: pd.DataFrame) -> None:
    if evaluations.empty:
        return
    x = evaluations["timesteps"]
    low, high = evaluations["lower"], evaluations["upper"]
    axes.fill_between(x, low, high, color="C0", alpha=0.2, lw=0)
    axes.plot(x, evaluations["mean_lines"], color="C0", label="evaluation (95 %)")


def _mark(axes: Any, timesteps: Iterable[int], label: str | None = None) -> None:
    for x in timesteps:
        axes.axvline(x, ls="--", lw=0.8, color="0.5", label=label)
        label = None  # said once
