"""Evaluation: the numbers of the headline curve, and what they cost."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from tetris_widget.config import TrainingConfig
from tetris_widget.game.features import FEATURE_SCALE, FEATURES
from tetris_widget.training import evaluation
from tetris_widget.training.environments import tetris_env
from tetris_widget.training.evaluation import Evaluator, exponential_interval
from tetris_widget.training.policies import build_model

pytestmark = pytest.mark.timeout(60)

# Weights of E-Tetris (El-Ashi 2011): games of ten thousands of lines.
EL_TETRIS = {
    "landing_height": -4.50,
    "eroded_cells": 3.42,
    "row_transitions": -3.22,
    "column_transitions": -9.35,
    "holes": -7.90,
    "cumulative_wells": -3.39,
}
KINDS: list[dict[str, Any]] = [
    {},
    {"action": "keys", "observation": "flat", "policy": "mlp"},
    {"action": "reachable", "observation": "board", "policy": "cnn"},
]


def make(**options: Any) -> tuple[TrainingConfig, Any]:
    config = TrainingConfig(**options)
    small = config.replace(n_envs=2, n_steps=8, batch_size=16)
    return config, build_model(small, tetris_env(config, 2, seed=0))


def run(evaluator: Evaluator) -> Any:
    while (result := evaluator.advance(0.05)) is None:
        pass
    return result


@pytest.mark.parametrize("kind", KINDS)
def test_the_mean_is_the_plain_one_when_every_game_ends(kind: dict[str, Any]) -> None:
    config, model = make(evaluation_games=10, **kind)
    evaluator = Evaluator(config)
    evaluator.begin(model)
    result = run(evaluator)
    assert result.finished == result.games == 10
    assert result.mean_lines == evaluator._table.games.lines.mean()
    assert not result.capped


@pytest.mark.parametrize("kind", KINDS)
def test_games_that_are_cut_count_as_not_ended(kind: dict[str, Any]) -> None:
    config, model = make(evaluation_games=4, evaluation_max_pieces=3, **kind)
    evaluator = Evaluator(config)
    evaluator.begin(model)
    result = run(evaluator)
    assert result.finished == 0
    assert result.capped
    assert result.pieces == 12


@pytest.mark.parametrize("kind", KINDS)
def test_each_evaluation_plays_other_games_and_a_rerun_the_same(
    kind: dict[str, Any],
) -> None:
    config, model = make(evaluation_games=5, **kind)
    first, again = Evaluator(config), Evaluator(config)
    pieces = []
    for evaluator in (first, first, again):
        evaluator.begin(model)
        run(evaluator)
        pieces.append(evaluator._table.games.pieces.tolist())
    assert pieces[0] == pieces[2]
    assert pieces[0] != pieces[1]


def test_the_policy_is_frozen_when_it_begins() -> None:
    config, model = make(evaluation_games=5)
    first, second = Evaluator(config), Evaluator(config)
    first.begin(model)
    second.begin(model)
    for parameter in model.policy.parameters():
        parameter.data.mul_(-1)
    assert run(first) == run(second)


def test_a_slice_takes_about_as_long_as_it_may() -> None:
    config, model = make(evaluation_games=20, evaluation_max_pieces=100_000)
    scorer = model.policy.net.scorer.layers.weight.data
    scorer.zero_()
    scorer[0, 4] = -1.0  # few holes: games that last
    evaluator = Evaluator(config)
    evaluator.begin(model)
    evaluator.advance(0.01)
    seconds = []
    for _ in range(20):
        before = time.perf_counter()
        evaluator.advance(0.004)
        seconds.append(time.perf_counter() - before)
    assert np.median(seconds) < 0.03


def begun(good: bool, **options: Any) -> Evaluator:
    """Return an evaluator at work; the games of a good policy hardly end."""
    config, model = make(evaluation_games=4, **options)
    scorer = model.policy.net.scorer.layers.weight.data
    scorer.zero_()
    for name, weight in EL_TETRIS.items() if good else ():
        i = FEATURES.index(name)
        scorer[0, i] = weight / float(FEATURE_SCALE[i])
    evaluator = Evaluator(config)
    evaluator.begin(model)
    return evaluator


@pytest.mark.parametrize(
    ("good", "options", "longer"),
    [
        pytest.param(True, {}, 4_000, id="cut"),
        pytest.param(True, {"evaluation_max_pieces": 3_000}, 3_000, id="the limit"),
        pytest.param(False, {}, 2_000, id="they end by themselves"),
    ],
)
def test_games_last_longer_after_most_have_been_cut(
    good: bool, options: dict[str, Any], longer: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "LONG_SECONDS", 60.0)  # whatever compiling takes
    evaluator = begun(good, **options)
    assert evaluator.max_pieces == 2_000
    result = run(evaluator)
    assert (result.pieces == 4 * 2_000) == result.capped == good
    assert evaluator.max_pieces == longer


@pytest.mark.parametrize(("target", "longer"), [(None, 2_000), (3_201, 4_000)])
def test_evaluations_get_no_longer_than_the_time_allows_but_show_the_goal(
    target: float | None, longer: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "LONG_SECONDS", 0.0)
    evaluator = begun(good=True, target_lines=target)
    assert run(evaluator).capped
    assert evaluator.max_pieces == longer


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    covered, trials = 0, 2_000
    for _ in range(trials):
        lengths = rng.exponential(100.0, 20)
        cut = np.minimum(lengths, 80.0)
        lower, upper = exponential_interval(cut.sum(), int((lengths < 80.0).sum()))
        covered += lower <= 100.0 <= upper
    assert 0.93 < covered / trials < 0.985


@pytest.mark.parametrize("mean", [0.02, 0.3, 1.0, 5.0])
@pytest.mark.parametrize("games", [20, 100])
def test_few_lines_are_no_certainty(mean: float, games: int) -> None:
    rng = np.random.default_rng(0)
    totals = rng.negative_binomial(games, 1 / (1 + mean), 2_000)
    intervals = [exponential_interval(total, games) for total in totals]
    covered = np.mean([lower <= mean <= upper for lower, upper in intervals])
    # Whole numbers of few lines leave no interval that is wrong just as often.
    assert covered > 0.93


def test_nothing_cleared_is_an_interval_from_zero() -> None:
    lower, upper = exponential_interval(0, 20)
    assert lower == 0.0
    # Twenty games of this mean have no line in one case of forty.
    assert (1 / (1 + upper)) ** 20 == pytest.approx(0.025, rel=0.05)
