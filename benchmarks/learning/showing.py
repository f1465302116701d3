"""What was found of the learners, as a table and as a plot for the README.

Owns their looks, and the figures of the literature beside them. Deliberately doesn't
know how anything was measured.
"""

from __future__ import annotations

import itertools
import math
import statistics
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from benchmarks.figures import spread
from benchmarks.learning.curves import Curve, Found, Point, of_curve
from tetris_widget.config import PRESETS

# A preset that is to be better in the end than another one.
BETTER, THAN = "deep", "instant"


class Cited(NamedTuple):
    """Lines per game that others report."""

    lines: float
    by: str


# Under benchmark rules with uniform pieces, by columns and rows.
LITERATURE = {
    (10, 10): (
        Cited(3_829, "Buffer PPO, 166 s"),
        Cited(4_300, "CBMPI, 8 M samples"),
        Cited(4_965, "Trajectory PPO, 3 h"),
        Cited(5_071, "DT-10"),
        Cited(5_379, "cross-entropy"),
    ),
    (10, 20): (
        Cited(35_000_000, "BCTS"),
        Cited(51_000_000, "DT-20"),
    ),
}
CAPTION = (
    "Median and range of the seeds; two cores, uniform pieces. Dashed: Buffer PPO and "
    "Trajectory PPO (Chen et al. 2026, arXiv 2603.26765); CBMPI and its controllers "
    "DT-10, measured with the authors' code, and DT-20 (Gabillon et al. 2013, Scherrer "
    "et al. 2015); BCTS (Thiery & Scherrer 2009); cross-entropy, the best controller "
    "known that looks at one piece (2026)."
)
CAPTION_CHARACTERS = 122
IN_TURN = ("#1f6fb4", "#d1610c", "#2a8a4a", "#8c4fa8", "#a8323e", "#6b5b3e")
COLOURS = dict(zip(PRESETS, itertools.cycle(IN_TURN), strict=False))
GREY = "0.35"
# Inches. Shown 800 pixels wide, a point is 1.4 pixels.
WIDTH, PANEL_HEIGHT, CAPTION_HEIGHT = 8.0, 3.4, 0.62
DOTS_PER_INCH = 200
LABEL_POINTS = 9.0
# From one label to the next, as a share of the axes' height.
LABEL_SPACING = 1.3 * LABEL_POINTS / 72 / (0.75 * PANEL_HEIGHT)
# An axis from its lowest value to less than so many times that has more ticks.
NARROW = 100
# What a logarithmic axis shows of less.
LOWEST_LINES = 0.1


class Label(NamedTuple):
    """A text to the right of what it is about."""

    lines: float
    text: str
    colour: str


def title(curve: Curve) -> str:
    """Return which learner a curve is of, in which game."""
    return f"{curve.preset}, {_game(curve)}"


def describe(point: Point) -> str:
    """Return what one model was worth."""
    when = "at the end" if point.seconds is None else f"at {point.seconds:g} s"
    if not point.games:
        return f"{when}: no best model yet"
    return (
        f"{when}: {point.mean:,.1f} lines ({point.lower:,.1f} to {point.upper:,.1f}; "
        f"{point.ended:,} of {point.games:,} games ended), after "
        f"{point.timesteps:,} timesteps and {point.elapsed:.1f} s"
    )


def table(points: Sequence[Point], curves: Sequence[Curve], clock: str) -> str:
    """Return what was found as a table in Markdown, and which preset is better."""
    found = [(curve, of_curve(points, curve, clock)) for curve in curves]
    rows = [
        "| preset | board | after | lines per game: median (range) | seeds | goal |",
        "|---|---|---|---|---|---|",
    ]
    for curve, one in found:
        for at, some in one.items():
            rows.append(f"| {' | '.join(_cells(curve, at, some))} |")
    return "\n".join([*rows, *_verdicts(found)])


def plot(
    points: Sequence[Point], curves: Sequence[Curve], clock: str, path: Path
) -> None:
    """Draw lines per game over seconds, a panel for each size of the board.

    Raises:
        ValueError: nothing was found yet.
    """
    panels: dict[tuple[int, int], list[tuple[Curve, Found]]] = {}
    for curve in curves:
        found = of_curve(points, curve, clock)
        if curve.placements is None and found:
            config = curve.config()
            panels.setdefault((config.columns, config.rows), []).append((curve, found))
    if not panels:
        raise ValueError(f"clock: {clock!r}; nothing was found by it yet")
    height = PANEL_HEIGHT * len(panels) + CAPTION_HEIGHT
    figure = Figure(figsize=(WIDTH, height), dpi=DOTS_PER_INCH, layout="constrained")
    caption = CAPTION_HEIGHT / height
    figure.get_layout_engine().set(rect=(0, caption, 1, 1 - caption))
    every = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
    for axes, size in zip(every, sorted(panels), strict=True):
        _draw_panel(axes, size, panels[size])
    caption_text = textwrap.fill(CAPTION, CAPTION_CHARACTERS)
    figure.text(0.01, 0.012, caption_text, fontsize=7.5, color=GREY, va="bottom")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, facecolor="white")


def _cells(curve: Curve, at: float | None, some: Sequence[Point]) -> list[str]:
    means = [point.mean for point in some]
    if at is None:
        seconds = spread([point.elapsed for point in some], ".1f")
        after = f"{some[0].timesteps:,} placements, {seconds} s"
    else:
        after = f"{at:g} s"
    wanted, goal = curve.goals.get(at), ""
    if wanted is not None:
        is_met = statistics.median(means) >= wanted
        goal = f"{wanted:,.0f}: {'met' if is_met else 'open'}"
    style = ",.0f" if min(means) >= 10 else ",.1f"
    return [
        curve.preset,
        _game(curve),
        after,
        spread(means, style),
        str(len(some)),
        goal,
    ]


def _verdicts(found: Sequence[tuple[Curve, Found]]) -> Iterable[str]:
    """Yield for each game whether one preset is better than the other in the end."""
    for better, one in found:
        for than, other in found:
            times = set(one) & set(other) - {None}
            is_pair = better.preset == BETTER and than.preset == THAN
            if is_pair and _game(better) == _game(than) and times:
                yield "\n" + _verdict(better, max(times), one, other)


def _verdict(better: Curve, at: float, one: Found, other: Found) -> str:
    ours = {point.seed: point.mean for point in one[at]}
    theirs = {point.seed: point.mean for point in other[at]}
    both = ours.keys() & theirs.keys()
    won = sum(ours[seed] > theirs[seed] for seed in both)
    medians = statistics.median(ours.values()), statistics.median(theirs.values())
    says = "beats" if medians[0] > medians[1] else "does not beat"
    return (
        f"`{BETTER}` {says} `{THAN}` at {at:g} s, {_game(better)}: "
        f"{spread(list(ours.values()), ',.0f')} against "
        f"{spread(list(theirs.values()), ',.0f')}; ahead in {won} of {len(both)} seeds."
    )


def _game(curve: Curve) -> str:
    config = curve.config()
    pieces = "uniform" if config.randomizer == "uniform" else "7-bag"
    rules = "" if config.action == "placements" else f", guideline, {config.action}"
    return f"{config.columns} × {config.rows} {pieces}{rules}"


def _draw_panel(
    axes: Any, size: tuple[int, int], panel: Sequence[tuple[Curve, Found]]
) -> None:
    longest = max(max(found) for _, found in panel)
    axes.set(xscale="log", yscale="log")
    labels = []
    for curve, found in panel:
        colour = COLOURS[curve.preset]
        means = [[max(p.mean, LOWEST_LINES) for p in some] for some in found.values()]
        middle = [statistics.median(some) for some in means]
        axes.fill_between(
            list(found),
            [min(some) for some in means],
            [max(some) for some in means],
            color=colour,
            alpha=0.2,
            lw=0,
        )
        axes.plot(list(found), middle, color=colour, marker="o", ms=3.5, lw=1.8)
        label = Label(middle[-1], _name(curve), colour)
        if max(found) == longest:
            labels.append(label)
        else:
            _write_above(axes, max(found), label)
    for lines, by in LITERATURE.get(size, ()):
        axes.axhline(lines, color="0.45", lw=0.8, ls=(0, (4, 3)), zorder=1)
        labels.append(Label(lines, f"{by}: {_short(lines)}", GREY))
    axes.set_xlim(right=longest)
    low, high = axes.get_ylim()
    is_narrow = high < NARROW * low
    _write_labels(axes, labels)
    columns, rows = size
    axes.set_title(f"{columns} wide, {rows} high", loc="left", fontsize=10.5)
    axes.set_ylabel("lines per game", fontsize=9.5)
    axes.set_xlabel("seconds of training", fontsize=9.5)
    ticks = sorted({at for _, found in panel for at in found})
    axes.set_xticks(ticks, [f"{at:g}" for at in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if is_narrow else (1,)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(lambda lines, _: _short(lines))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, lw=0.6)


def _write_above(axes: Any, seconds: float, label: Label) -> None:
    axes.annotate(
        label.text,
        (seconds, label.lines),
        (0, 7),
        textcoords="offset points",
        color=label.colour,
        fontsize=LABEL_POINTS,
        ha="right",
        va="bottom",
    )


def _write_labels(axes: Any, labels: Sequence[Label]) -> None:
    """Write labels beside the axes, as near as may be to where they belong."""
    low, high = (math.log(limit) for limit in axes.get_ylim())
    labels = sorted(labels)
    places = [(math.log(label.lines) - low) / (high - low) for label in labels]
    for label, place, free in zip(labels, places, _spread_out(places), strict=True):
        axes.annotate(
            label.text,
            (1.0, place),
            (1.025, free),
            xycoords="axes fraction",
            textcoords="axes fraction",
            color=label.colour,
            fontsize=LABEL_POINTS,
            va="center",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": label.colour,
                "lw": 0.6,
                "relpos": (0, 0.5),
                "shrinkA": 0,
                "shrinkB": 0,
            },
        )


def _spread_out(places: Sequence[float]) -> list[float]:
    """Return ascending places that keep their distance, near the given ones."""
    groups: list[tuple[float, int]] = []  # each with its middle, and how many it has
    for place in places:
        middle, count = place, 1
        while groups:
            before, many = groups[-1]
            if middle - before >= LABEL_SPACING * (count + many) / 2:
                break
            groups.pop()
            middle = (before * many + middle * count) / (many + count)
            count += many
        groups.append((middle, count))
    return [
        middle + LABEL_SPACING * (i - (count - 1) / 2)
        for middle, count in groups
        for i in range(count)
    ]


def _name(curve: Curve) -> str:
    config = curve.config()
    if config.action != "placements":
        return f"{curve.preset} (guideline)"
    return curve.preset if config.randomizer == "uniform" else f"{curve.preset} (7-bag)"


def _short(lines: float) -> str:
    if lines >= 1e6:
        return f"{lines / 1e6:g} M"
    return f"{lines:,.0f}" if lines >= 1 else f"{lines:g}"
