"""What is found of learners: judged, kept, found again, told; not how much it is."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from benchmarks.learning import showing
from benchmarks.learning.curves import (
    GAMES,
    MOVES,
    MOVES_AT_GOALS,
    RESULTS,
    Curve,
    Point,
    append,
    curves,
    of_curve,
    read,
)
from benchmarks.learning.judging import judge
from benchmarks.learning.run import Run
from tests.training.runs import SMALL
from tetris_widget.config import PRESETS, TrainingConfig
from tetris_widget.envs import TetrisVecEnv
from tetris_widget.game import FEATURES, play
from tetris_widget.game.features import FEATURE_SCALE
from tetris_widget.training.best import save_model
from tetris_widget.training.policies import build_model, linear_weights

CURVE = Curve("instant", {"rows": 10}, {4.0: 100}, (2.0, 4.0))
MANY_MOVES = 1_000_000


def point(curve: Curve, seed: int, at: float | None, mean: float) -> Point:
    """A model all of whose games have ended."""
    games = curve.games(at)
    return Point(
        preset=curve.preset,
        config=curve.comparable(),
        seed=seed,
        seconds=at,
        clock="wall",
        timesteps=1_000,
        elapsed=1.0,
        mean=mean,
        lower=mean,
        upper=mean,
        games=games,
        ended=games,
        moves=1,
        machine="",
        date="",
    )


def points_of(curve: Curve, means: list[float], at: float) -> list[Point]:
    return [point(curve, seed, at, mean) for seed, mean in enumerate(means)]


@pytest.fixture
def saved(tmp_path: Path) -> tuple[TrainingConfig, Path, dict[str, float]]:
    """A model in a file, and its weights by name."""
    config = TrainingConfig(**SMALL, randomizer="uniform")
    env = TetrisVecEnv(config.n_envs, rows=config.rows, columns=config.columns, seed=0)
    model = build_model(config, env)
    save_model(model, tmp_path / "model.zip", {"timesteps": 0})
    weights = linear_weights(model.policy)
    assert weights is not None
    named = dict(zip(FEATURES, (weights * FEATURE_SCALE).tolist(), strict=True))
    return config, tmp_path / "model.zip", named


def test_a_judge_finds_what_play_does(
    saved: tuple[TrainingConfig, Path, dict[str, float]],
) -> None:
    config, path, weights = saved
    found = judge(config, path, 40, MANY_MOVES, seed=5)
    played = play(weights, rows=config.rows, cols=config.columns, games=40, seed=5)
    assert (found.games, found.ended) == (40, 40)
    assert found.moves == played.pieces.sum()
    assert found.mean == played.lines.sum() / 40
    assert found.lower < found.mean < found.upper or found.mean == 0


def test_a_judge_stops_after_so_many_moves(
    saved: tuple[TrainingConfig, Path, dict[str, float]],
) -> None:
    config, path, _ = saved
    found = judge(config, path, 40, 80, seed=5)
    assert (found.games, found.ended, found.moves) == (40, 0, 80)


@pytest.mark.parametrize("clock", ["wall", "cpu"])
def test_a_run_keeps_its_best_models_and_the_last(tmp_path: Path, clock: str) -> None:
    config = TrainingConfig(**SMALL, total_timesteps=6_400)
    run = Run(config, tmp_path, clock)
    run.train(float("inf"))
    assert run.last.timesteps() == 6_400
    kept = run.best_at(run.seconds)
    assert kept is not None and 0 <= kept.timesteps() <= 6_400
    assert run.best_at(-1.0) is None


def test_a_run_ends_in_time(tmp_path: Path) -> None:
    run = Run(TrainingConfig(**SMALL, total_timesteps=10**9), tmp_path, "wall")
    run.train(0.5)
    assert 0.5 <= run.seconds < 5
    assert 0 < run.last.timesteps() < 10**9


def test_every_preset_is_followed() -> None:
    assert {curve.preset for curve in curves()} == set(PRESETS)


def test_placements_are_not_exceeded() -> None:
    (curve,) = [one for one in curves() if one.placements]
    config = curve.config()
    rollout = config.n_envs * config.n_steps
    assert curve.placements is not None
    assert config.total_timesteps % rollout == 0
    assert 0 <= curve.placements - config.total_timesteps < rollout


def test_goals_are_at_times_that_are_judged() -> None:
    for curve in curves():
        assert set(curve.goals) <= set(curve.moments())


def test_what_was_found_later_counts(tmp_path: Path) -> None:
    path = tmp_path / "results" / "learner.jsonl"
    append(path, points_of(CURVE, [1.0, 2.0], 2.0))
    append(path, [point(CURVE, 1, 2.0, 3.0)])
    found = of_curve(read(path), CURVE, "wall")
    assert [one.mean for one in found[2.0]] == [1.0, 3.0]
    assert not of_curve(read(path), CURVE, "cpu")


def test_only_the_same_configuration_counts() -> None:
    old = point(CURVE, 0, 2.0, 1.0)
    other = replace(old, config={**old.config, "gamma": 0.5})
    assert not of_curve([other], CURVE, "wall")
    before_hold = {name: v for name, v in old.config.items() if name != "hold"}
    assert of_curve([replace(old, config=before_hold)], CURVE, "wall")


def test_only_models_that_were_judged_as_a_curve_promises_count() -> None:
    found = point(CURVE, 0, 4.0, 1.0)
    few = replace(found, games=GAMES, ended=GAMES)
    cut = replace(found, ended=5, moves=MOVES)
    whole = replace(found, ended=5, moves=MOVES_AT_GOALS)
    none_yet = replace(found, games=0, ended=0, moves=0)
    for one, counts in ((few, False), (cut, False), (whole, True), (none_yet, True)):
        assert (of_curve([one], CURVE, "wall") == {4.0: [one]}) is counts
    # Where there is no goal, fewer will do.
    early = point(CURVE, 0, 2.0, 1.0)
    assert early.games == GAMES
    assert of_curve([replace(early, ended=5, moves=MOVES)], CURVE, "wall")


def test_the_results_that_are_kept_are_of_the_presets_as_they_are() -> None:
    points = read(RESULTS)
    for curve in curves():
        if curve.preset in {point.preset for point in points}:
            assert of_curve(points, curve, "wall"), showing.title(curve)


def test_the_table_says_which_goal_is_met() -> None:
    points = points_of(CURVE, [50.0, 120.0, 130.0], 4.0)
    assert "120 (50 to 130) | 3 | 100: met |" in showing.table(points, [CURVE], "wall")
    points[2] = point(CURVE, 2, 4.0, 60.0)
    assert "60 (50 to 120) | 3 | 100: open |" in showing.table(points, [CURVE], "wall")


def test_the_table_says_which_preset_is_better() -> None:
    deep = replace(CURVE, preset="deep")
    points = points_of(CURVE, [10.0, 30.0, 20.0], 4.0)
    points += points_of(deep, [40.0, 20.0, 30.0], 4.0)
    said = showing.table(points, [CURVE, deep], "wall")
    assert "`deep` beats `instant` at 4 s" in said
    assert "ahead in 2 of 3 seeds" in said


def test_the_plot_is_a_picture(tmp_path: Path) -> None:
    points = points_of(CURVE, [0.0, 3.0], 2.0) + points_of(CURVE, [5.0, 9.0], 4.0)
    path = tmp_path / "docs" / "learning.png"
    showing.plot(points, [CURVE], "wall", path)
    assert path.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="nothing was found"):
        showing.plot([], [CURVE], "wall", path)


def test_labels_keep_their_distance() -> None:
    places = [0.1, 0.5, 0.5, 0.51, 0.9]
    free = showing._spread_out(places)
    gaps = [b - a for a, b in pairwise(free)]
    assert min(gaps) >= showing.LABEL_SPACING * 0.999
    assert free[0] == 0.1 and free[-1] == 0.9
