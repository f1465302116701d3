"""Which learners are followed, what they should reach, and what was found so far.

Owns the file of results, a JSON object a line: one model, of one seed, at one time.
Deliberately doesn't know how models are trained, judged or shown.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tetris_widget.config import PRESETS, TrainingConfig

RESULTS = Path(__file__).parents[1] / "results" / "learner.jsonl"
TIMES = (2.0, 5.0, 10.0, 30.0, 60.0, 180.0, 600.0)
# Of presets that are followed to see what they do, and not to a goal.
SHORT_TIMES = (2.0, 10.0, 30.0, 120.0)
# Of a run that ends by the clock.
FOREVER = 100_000_000_000
# Standard errors of 5 and, where there is a goal, 2.5 %, where all of them end.
GAMES, GAMES_AT_GOALS = 400, 1_600
# A controller of a million lines per game makes 2.5 million moves in each. So many are
# a minute's for both cores, and three minutes' where there is a goal: of such a
# controller 24 games end, and 60 (a standard error of 13 %).
MOVES, MOVES_AT_GOALS = 60_000_000, 150_000_000
# That judge a model, each so many games and moves.
THREADS = 2
# What a run is told that changes neither what it learns nor how long it has for it.
NOT_COMPARED = ("seed", "run_dir", "view", "evaluation_max_pieces")


@dataclass(frozen=True)
class Curve:
    """A learner, followed over time.

    Attributes:
        preset: its name.
        changes: fields of TrainingConfig that are others than the preset's.
        goals: lines per game that should be reached, by seconds; by None: when the
            placements are made.
        times: seconds at which it is judged.
        placements: made at most, and then it ends, and is judged; None: no matter.
    """

    preset: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    goals: Mapping[float | None, float] = field(default_factory=dict)
    times: tuple[float, ...] = TIMES
    placements: int | None = None

    def config(self, seed: int = 0) -> TrainingConfig:
        """Return what is trained."""
        config = TrainingConfig.preset(
            self.preset, **{"total_timesteps": FOREVER, **self.changes, "seed": seed}
        )
        if self.placements is None:
            return config
        # SB3 completes every rollout: those that fit in.
        rollout = config.n_envs * config.n_steps
        total = self.placements // rollout * rollout
        return config.replace(total_timesteps=total)

    def comparable(self) -> dict[str, Any]:
        """Return the fields of a configuration that what is learned depends on."""
        fields = self.config().to_dict()
        return {name: v for name, v in fields.items() if name not in NOT_COMPARED}

    def moments(self) -> tuple[float | None, ...]:
        """Return the seconds at which it is judged; None: at its end."""
        return self.times if self.placements is None else (None,)

    def games(self, at: float | None) -> int:
        """Return how many games judge a model of a time."""
        return GAMES_AT_GOALS if at in self.goals else GAMES

    def moves(self, at: float | None) -> int:
        """Return how many moves judge a model of a time, at most about."""
        return MOVES_AT_GOALS if at in self.goals else MOVES


@dataclass(frozen=True)
class Point:
    """What one model was worth.

    Attributes:
        preset: the learner's name.
        config: of the run, but for its seed.
        seed: of the run.
        seconds: at which it was the best, by the clock; None: that the run ended with.
        clock: `wall` or `cpu`.
        timesteps: that the model had learned from; without a model 0, as all that
            follow.
        elapsed: seconds at which it became the best, or the run ended.
        mean: see `judging.Judged`, as of the next five.
        machine: on which it was.
        date: of the measurement.
    """

    preset: str
    config: Mapping[str, Any]
    seed: int
    seconds: float | None
    clock: str
    timesteps: int
    elapsed: float
    mean: float
    lower: float
    upper: float
    games: int
    ended: int
    moves: int
    machine: str
    date: str


# A curve's points by time, one a seed.
Found = Mapping[float | None, list[Point]]

UNIFORM_20 = {"rows": 20, "columns": 10, "randomizer": "uniform"}
UNIFORM_10 = {"rows": 10, "columns": 10, "randomizer": "uniform"}
# Fewer games and longer rollouts learn more from a placement, and fewer a second.
FEW_GAMES = {"n_envs": 32, "n_steps": 32}
# Looks further ahead, and goes on learning, as `deep` does: for minutes, where the
# defaults are for seconds.
PATIENT = {"gamma": 0.995, "learning_rate_halving": 1_600_000}


def curves() -> list[Curve]:
    """Return those of the table, and one of every other preset."""
    found = [
        Curve("instant", UNIFORM_20, {10.0: 10_000, 60.0: 1_000_000}, TIMES[:5]),
        Curve("instant", {**UNIFORM_10, **FEW_GAMES}, {None: 1_000}, placements=60_000),
        Curve(
            "instant",
            {**UNIFORM_10, **PATIENT},
            {30.0: 3_829, 180.0: 4_500, 600.0: 5_071},
        ),
        Curve("deep", UNIFORM_10, {600.0: 5_379}),
        # The goal is for ten minutes; it is judged at ten seconds.
        Curve("board", UNIFORM_20, {10.0: 100}, TIMES[:5]),
    ]
    named = {curve.preset for curve in found}
    for name in PRESETS:
        if name not in named:
            is_benchmark = TrainingConfig.preset(name).action == "placements"
            changes = UNIFORM_20 if is_benchmark else {}
            found.append(Curve(name, changes, times=SHORT_TIMES))
    return found


def read(path: Path) -> list[Point]:
    """Return all that was found so far, in the order of the file."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8") as file:
        return [Point(**json.loads(line)) for line in file]


def append(path: Path, points: Iterable[Point]) -> None:
    """Add what was found of a seed, all at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(asdict(point)) + "\n" for point in points)
    with path.open("a", encoding="utf-8") as file:
        file.write(text)


def of_curve(points: Iterable[Point], curve: Curve, clock: str) -> Found:
    """Return a curve's points by time, one a seed; a later one replaces an earlier one.

    Those that were judged by fewer games than the curve's, or cut before a thread had
    made its share of the moves, are left out. A field that the configuration has got
    since is taken to change nothing.
    """
    now = curve.comparable()
    found: dict[float | None, dict[int, Point]] = defaultdict(dict)
    for point in points:
        is_same = point.preset == curve.preset and point.clock == clock
        then = point.config
        is_same &= all(now[name] == then[name] for name in now if name in then)
        if is_same and _is_judged(point, curve):
            found[point.seconds][point.seed] = point
    return {at: list(found[at].values()) for at in curve.moments() if at in found}


def _is_judged(point: Point, curve: Curve) -> bool:
    """Return whether a model was judged as the curve promises, where there was one."""
    if not point.games:
        return True
    is_cut = point.ended < point.games
    # Where one thread's games have all ended, only the other's were cut.
    least = curve.moves(point.seconds) // THREADS
    return point.games >= curve.games(point.seconds) and (
        not is_cut or point.moves >= least
    )
