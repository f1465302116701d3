"""How good a learner gets in how long: the kept best model, judged in fresh games.

Trains through the panel's own process, each configuration once a seed, keeps every
model that the run calls its best, and judges afterwards, in games that nobody has
played before, those that were the best at given times, from the first training step.
What is found of a seed is appended to a file, so that a long measurement can be made in
parts; the table and the plot are made from the file.

    python -m benchmarks.learner                       # every curve, five seeds
    python -m benchmarks.learner --resume              # what is not in the file yet
    python -m benchmarks.learner --preset deep --seeds 1
    python -m benchmarks.learner --table --plot docs/learning.png    # measures nothing
    python -m benchmarks.learner --preset instant --set rows=10 --at 2 5   # another one

About four hours on two quiet cores: two and a quarter of learning, and the games of
the judges, most of them of those that have a million lines in sight or a network.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path

from benchmarks.learning import showing
from benchmarks.learning.curves import (
    RESULTS,
    Curve,
    Point,
    append,
    curves,
    of_curve,
    read,
)
from benchmarks.learning.judging import NOTHING, SEED, Judged, judge
from benchmarks.learning.run import CLOCKS, Run
from tetris_widget.cli import values
from tetris_widget.config import PRESETS

SEEDS = 5
NO_END = float("inf")


def measure(curve: Curve, seed: int, clock: str) -> Iterator[Point]:
    """Train once; yield what the models of the curve's times are worth."""
    machine, config = describe_machine(), curve.config(seed)
    with tempfile.TemporaryDirectory() as directory:
        run = Run(config, Path(directory), clock)
        run.train(NO_END if curve.placements else max(curve.times))
        judged: dict[tuple[Path, int, int], Judged] = {}
        for at in curve.moments():
            kept = run.last if at is None else run.best_at(at)
            found = NOTHING
            if kept is not None:
                games, moves = curve.games(at), curve.moves(at)
                # The same one may have been the best for long.
                key = kept.path, games, moves
                if key not in judged:
                    first = SEED + seed * games
                    judged[key] = judge(config, kept.path, games, moves, first)
                found = judged[key]
            yield Point(
                preset=curve.preset,
                config=curve.comparable(),
                seed=seed,
                seconds=at,
                clock=clock,
                timesteps=kept.timesteps() if kept else 0,
                elapsed=round(kept.seconds, 3) if kept else 0.0,
                **asdict(found),
                machine=machine,
                date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            )


def describe_machine() -> str:
    """Return its processor and cores, and how busy it is with something else."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if "model name" in line]
    name = names[0] if names else platform.machine()
    return f"{name}, {os.cpu_count()} cores, load before {os.getloadavg()[0]:.1f}"


def measure_all(
    chosen: list[Curve], seeds: int, clock: str, results: Path, is_resumed: bool
) -> None:
    """Measure curves, and append what is found to the file of results.

    Args:
        chosen: the curves.
        seeds: how many, from 0.
        clock: `wall` or `cpu`.
        results: the file.
        is_resumed: whether seeds that are in the file are left out.
    """
    for curve in chosen:
        print(showing.title(curve), flush=True)
        there = of_curve(read(results), curve, clock) if is_resumed else {}
        for seed in range(seeds):
            seen = [any(p.seed == seed for p in some) for some in there.values()]
            if len(seen) == len(curve.moments()) and all(seen):
                continue
            points = []
            for point in measure(curve, seed, clock):
                print(f"  seed {seed}, {showing.describe(point)}", flush=True)
                points.append(point)
            append(results, points)


def main() -> None:
    """Measure what the arguments say, or show what was found."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.learner")
    parser.add_argument("--preset", choices=tuple(PRESETS), help="this one's curves")
    parser.add_argument("--at", nargs="+", type=float, help="a curve of these seconds")
    parser.add_argument("--set", nargs="+", action="extend", default=[], help="its own")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--clock", choices=CLOCKS, default=CLOCKS[0])
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--resume", action="store_true", help="what is not there yet")
    parser.add_argument("--table", action="store_true", help="measure nothing")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="measure nothing")
    options = parser.parse_args()
    if options.set and not options.at:
        parser.error("--set needs --at")
    if options.at:
        preset = options.preset or next(iter(PRESETS))
        times = tuple(sorted(options.at))
        chosen = [Curve(preset, values(None, options.set), times=times)]
    else:
        chosen = [one for one in curves() if options.preset in (None, one.preset)]
    if not options.table and not options.plot:
        measure_all(
            chosen, options.seeds, options.clock, options.results, options.resume
        )
    points = read(options.results)
    if options.plot:
        showing.plot(points, chosen, options.clock, options.plot)
    if options.table or not options.plot:
        print(showing.table(points, chosen, options.clock))


if __name__ == "__main__":
    main()
