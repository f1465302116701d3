"""How good a learner gets in how long: the kept best model, judged in fresh games.

Trains through the panel's own process, keeps every model that the run calls its best,
and judges afterwards, in games that nobody has played before, those that were the best
at given times. Times are of the clock that is named, from the first training step:
`wall` on a quiet machine; `cpu`, the learning thread's own, on a busy one (the contest
for the best model has a second core, and is slowed as the rest).

    python -m benchmarks.learner                      # every goal, five seeds: 2 hours
    python -m benchmarks.learner --preset instant --set rows=10 --at 30 180 --seeds 3
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import threading
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.training import spread
from tetris_widget.cli import values
from tetris_widget.config import TrainingConfig
from tetris_widget.game import FEATURES, play
from tetris_widget.game.features import FEATURE_SCALE
from tetris_widget.manager import TrainingManager
from tetris_widget.training.evaluation import Player, Table, exponential_interval
from tetris_widget.training.policies import linear_weights, load_model

# No seed of a run's: training, evaluation, display and contest count from 0, 1 to 3e9.
JUDGE_SEED = 9_000_000_000
THREADS = 2
# Longer games are cut; the mean is then of exponential lengths. A controller of a
# million lines per game ends nine of ten games before.
MAX_PIECES = 6_000_000
# A network's games are cut when so many seconds have been played.
NETWORK_SECONDS = 60.0
FOREVER = 100_000_000_000


@dataclass(frozen=True)
class Goal:
    """A row of the table: lines per game to be reached at a time, by a preset."""

    preset: str
    changes: dict[str, Any]
    lines: float
    seconds: float = 0.0
    placements: int = 0


UNIFORM_20 = {"rows": 20, "columns": 10, "randomizer": "uniform"}
UNIFORM_10 = {"rows": 10, "columns": 10, "randomizer": "uniform"}
# Fewer games and longer rollouts learn more from a placement, and fewer a second.
FEW_GAMES = {"n_envs": 32, "n_steps": 32}
GOALS = [
    Goal("instant", UNIFORM_20, 10_000, seconds=10),
    Goal("instant", UNIFORM_20, 1_000_000, seconds=60),
    Goal("instant", {**UNIFORM_10, **FEW_GAMES}, 1_000, placements=60_000),
    Goal("instant", UNIFORM_10, 3_829, seconds=30),
    Goal("instant", UNIFORM_10, 4_500, seconds=180),
    Goal("instant", UNIFORM_10, 5_071, seconds=600),
    Goal("deep", UNIFORM_10, 5_379, seconds=600),
    Goal("board", UNIFORM_20, 100, seconds=600),
]


@dataclass(frozen=True)
class Kept:
    """A model that was the best from a moment on."""

    wall: float
    cpu: float
    timesteps: int
    path: Path


@dataclass(frozen=True)
class Judged:
    """What the games of a model showed."""

    mean: float
    lower: float
    upper: float
    games: int


class Training:
    """One run, and the models that it called its best."""

    def __init__(self, config: TrainingConfig, directory: Path) -> None:
        self.config = config
        self.kept: list[Kept] = []
        self.timesteps = 0
        self.wall = self.cpu = 0.0
        self._directory = directory
        self._state = ""
        self._ready = threading.Event()
        self._manager = TrainingManager(self._listen)

    def train(self, seconds: float, clock: str) -> None:
        """Train for so long by a clock, or until the timesteps are made."""
        self._manager.prepare()
        self._ready.wait()
        self._manager.start_training(self.config)
        status = self._manager.get_status()
        worker, run = psutil.Process(status["pid"]), Path(status["run_dir"])
        while self._state != "running":
            time.sleep(0.001)
        began, used = time.perf_counter(), _main_thread_seconds(worker)
        while self._manager.is_running():
            self.wall = time.perf_counter() - began
            self.cpu = _main_thread_seconds(worker) - used
            self._keep(run)
            if (self.cpu if clock == "cpu" else self.wall) >= seconds:
                break
            time.sleep(0.02)
        self._manager.stop_training()
        last = run / "checkpoints" / "last.zip"
        self.last = Path(shutil.copy(last, self._directory / "last.zip"))
        self._manager.close()

    def best_at(self, seconds: float, clock: str) -> Kept | None:
        """Return the model that was the best at a time."""
        kept = [k for k in self.kept if getattr(k, clock) <= seconds]
        return kept[-1] if kept else None

    def _keep(self, run: Path) -> None:
        source = run / "best_eval" / "model.zip"
        path = self._directory / f"{len(self.kept)}.zip"
        try:
            shutil.copy(source, path)
        except FileNotFoundError:
            return
        with zipfile.ZipFile(path) as archive:
            timesteps = json.loads(archive.read("metadata.json"))["timesteps"]
        if not self.kept or timesteps != self.kept[-1].timesteps:
            self.kept.append(Kept(self.wall, self.cpu, timesteps, path))

    def _listen(self, message: dict[str, Any]) -> None:
        if message["type"] == "status":
            self._state = message["state"]
            if self._state == "ready":
                self._ready.set()
        elif message["type"] == "metrics":
            self.timesteps = message["timesteps"]


def judge(config: TrainingConfig, path: Path, games: int, seed: int) -> Judged:
    """Play fresh games with a saved model, to the end where that does not take ages."""
    model = load_model(path, config)
    weights = linear_weights(model.policy)
    if weights is not None:
        named = dict(zip(FEATURES, (weights * FEATURE_SCALE).tolist(), strict=True))
        played = play(
            named,
            rows=config.rows,
            cols=config.columns,
            randomizer=config.randomizer,
            games=games,
            seed=seed,
            max_pieces=MAX_PIECES,
            threads=THREADS,
        )
        lines, over = played.lines, played.over
    else:
        table, player = Table(config, games, seed), Player(model)
        until = time.perf_counter() + NETWORK_SECONDS
        while player.move(table) and time.perf_counter() < until:
            pass
        lines, over = table.games.lines, table.over
    total, ended = int(lines.sum()), int(np.count_nonzero(over))
    lower, upper = exponential_interval(total, ended)
    return Judged(total / max(ended, 1), lower, upper, games)


def _main_thread_seconds(process: psutil.Process) -> float:
    """Return the CPU-seconds of the thread that learns."""
    for thread in process.threads():
        if thread.id == process.pid:
            return float(thread.user_time + thread.system_time)
    raise RuntimeError("a process without a main thread")


def measure(
    config: TrainingConfig, times: list[float], clock: str, games: int
) -> dict[float, Judged | None]:
    """Train once; return what the best models of these times are worth.

    A time of 0 stands for the end of the run's timesteps, and for the last model.
    """
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        changes = {"run_dir": str(directory / "runs"), "view": "headless"}
        training = Training(config.replace(**changes), directory)
        training.train(max(times) or FOREVER, clock)
        print(
            f"  seed {config.seed}: {training.timesteps:,} timesteps in "
            f"{training.wall:.1f} s, {training.cpu:.1f} CPU-seconds of learning",
            flush=True,
        )
        seed = JUDGE_SEED + (config.seed or 0) * games
        found: dict[float, Judged | None] = {}
        judged: dict[Path, Judged] = {}
        for at in times:
            kept = training.best_at(at, clock)
            path = training.last if not at else kept.path if kept else None
            if path is not None and path not in judged:
                judged[path] = judge(config, path, games, seed)
            found[at] = judged[path] if path else None
            print(f"    {_moment(at, config)}: {_tell(found[at])}", flush=True)
    return found


def compare(
    config: TrainingConfig, times: list[float], seeds: int, clock: str, games: int
) -> dict[float, list[float]]:
    """Train with every seed; return the means of each time, and print their spread."""
    means: dict[float, list[float]] = {at: [] for at in times}
    for seed in range(seeds):
        models = measure(config.replace(seed=seed), times, clock, games)
        for at, one in models.items():
            means[at].append(one.mean if one else 0.0)
    for at, reached in means.items():
        found = f"{spread(reached, ',.0f')} lines, {seeds} seeds"
        print(f"  {_moment(at, config)}: {found}", flush=True)
    return means


def main() -> None:
    """Measure the goals, or what the arguments say."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--preset", help="one of the presets; none: every goal")
    parser.add_argument("--set", nargs="+", action="extend", default=[])
    parser.add_argument("--at", nargs="+", type=float, default=[10.0, 30.0, 60.0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--games", type=int, default=400)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    options = parser.parse_args()
    print(f"clock: {options.clock}; {options.games} games judge each model")
    if options.preset is not None:
        changes = {"total_timesteps": FOREVER, **values(None, options.set)}
        config = TrainingConfig.preset(options.preset, **changes)
        compare(config, options.at, options.seeds, options.clock, options.games)
        return
    for goal in GOALS:
        total = goal.placements or FOREVER
        config = TrainingConfig.preset(
            goal.preset, **goal.changes, total_timesteps=total
        )
        print(f"{goal.preset}, {config.rows} × {config.columns} {config.randomizer}")
        times = [goal.seconds]
        means = compare(config, times, options.seeds, options.clock, options.games)
        reached = statistics.median(means[goal.seconds])
        print(f"  goal {goal.lines:,.0f}: {'met' if reached >= goal.lines else 'open'}")


def _moment(at: float, config: TrainingConfig) -> str:
    return f"{at:g} s" if at else f"{config.total_timesteps:,} placements"


def _tell(judged: Judged | None) -> str:
    if judged is None:
        return "no best model yet"
    return (
        f"{judged.mean:,.0f} lines ({judged.lower:,.0f} to {judged.upper:,.0f}, "
        f"{judged.games} games)"
    )


if __name__ == "__main__":
    main()
