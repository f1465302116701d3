"""How what was measured is told: median and range, percentiles, goals beside them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

NAME_WIDTH, TEXT_WIDTH = 50, 38


def spread(values: Sequence[float], style: str = ".3f") -> str:
    """Return median and range."""
    middle = statistics.median(values)
    return f"{middle:{style}} ({min(values):{style}} to {max(values):{style}})"


def p95(values: Sequence[float]) -> float:
    """Return the 95th percentile: the nearest rank, so that a worst of few counts."""
    return sorted(values)[math.ceil(0.95 * len(values)) - 1]


def row(
    name: str,
    values: Sequence[float],
    style: str = ".3f",
    unit: str = "",
    *,
    least: float | None = None,
    most: float | None = None,
) -> str:
    """Return a row of a table: what it is, median and range, the goal and if it is met.

    Args:
        name: of the figure.
        values: one, or those of all rounds, whose median counts.
        style: how a number is written.
        unit: of the numbers.
        least: the goal, if the figure is to be as high.
        most: the goal, if it is to be as low.
    """
    middle = statistics.median(values)
    text = spread(values, style) if len(values) > 1 else f"{middle:{style}}"
    goal = ""
    if least is not None:
        goal = f"≥ {least:{style}}{unit}: {'met' if middle >= least else 'open'}"
    if most is not None:
        goal = f"≤ {most:{style}}{unit}: {'met' if middle <= most else 'open'}"
    return f"{name:<{NAME_WIDTH}} {text + unit:<{TEXT_WIDTH}} {goal}".rstrip()
