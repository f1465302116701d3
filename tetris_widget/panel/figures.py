"""Figures of a run, fit for a paper.

Owns their looks. Deliberately doesn't know the panel: it is given tables.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

if TYPE_CHECKING:
    import pandas as pd

RUNNING_MEAN_EPISODES = 100


class RunFigure(Figure):
    """A figure that a notebook shows, as it does by itself only with pyplot's."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue()


def plot_run(
    episodes: pd.DataFrame,
    evaluations: pd.DataFrame,
    marks: Iterable[tuple[int, str]] = (),
    training_rows: int | None = None,
) -> Figure:
    """Return a figure: lines per game and reward per game, over timesteps.

    Evaluation: mean with its 95 % interval. Training: every episode, and the running
    mean of 100, on boards of `training_rows` (None: as high as the evaluation's).
    Dashed: `marks`, timesteps and what changed there. No pyplot state is touched.
    """
    figure = RunFigure(figsize=(6.4, 4.8), layout="constrained")
    lines, reward = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    where = "" if training_rows is None else f", {training_rows} rows"
    _draw_episodes(lines, episodes, "lines", where)
    _draw_evaluations(lines, evaluations)
    _draw_episodes(reward, episodes, "reward", where)
    lines.set_yscale("symlog", linthresh=1)
    lines.set_ylim(bottom=0)
    lines.set_ylabel("Lines per game")
    reward.set_ylabel("Reward per game")
    reward.set_xlabel("Timesteps")
    _mark((lines, reward), marks)
    if lines.get_legend_handles_labels()[0]:
        lines.legend(frameon=False, fontsize="small", loc="upper left")
    for axes in (lines, reward):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    return figure


def _draw_episodes(axes: Any, episodes: pd.DataFrame, column: str, where: str) -> None:
    if episodes.empty or episodes[column].isna().all():
        return
    x, y = episodes["timesteps"], episodes[column]
    label = f"training episodes{where}"
    axes.plot(x, y, ".", ms=2, color="0.7", label=label, rasterized=True)
    mean = y.rolling(RUNNING_MEAN_EPISODES, min_periods=1).mean()
    axes.plot(x, mean, color="0.35", lw=1, label="running mean of 100")


def _draw_evaluations(axes: Any, evaluations: pd.DataFrame) -> None:
    if evaluations.empty:
        return
    x = evaluations["timesteps"]
    low, high = evaluations["lower"], evaluations["upper"]
    axes.fill_between(x, low, high, color="C0", alpha=0.2, lw=0)
    axes.plot(x, evaluations["mean_lines"], color="C0", label="evaluation (95 %)")


def _mark(charts: Iterable[Any], marks: Iterable[tuple[int, str]]) -> None:
    colours: dict[str, str] = {}
    for timesteps, label in marks:
        is_new = label not in colours
        colour = colours.setdefault(label, f"C{len(colours) + 1}")
        for axes in charts:
            said = label if is_new else None
            axes.axvline(timesteps, ls="--", lw=0.8, color=colour, label=said)
