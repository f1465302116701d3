"""Controllers: the published ones' scores, and which games are played."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from tests.game.reference import features, place
from tetris_widget.game import FEATURES, PIECE_NAMES, Games, play

NAMES = (
    "landing_height",
    "eroded_cells",
    "row_transitions",
    "column_transitions",
    "holes",
    "cumulative_wells",
    "hole_depth",
    "rows_with_holes",
    "diversity",
)
# Weights; mean lines per game on 10 × 10 with uniform pieces and its standard error,
# measured with the authors' own program. Gabillon, Ghavamzadeh & Scherrer (2013);
# Thiery & Scherrer (2009).
PUBLISHED: dict[str, tuple[tuple[float, ...], float, float]] = {
    "BCTS": (
        (-12.63, 6.60, -9.22, -19.77, -13.08, -10.49, -1.61, -24.04),
        4056,
        117,
    ),
    "DT-10": (
        (-2.18, 2.42, -2.17, -3.31, 0.95, -2.22, -0.81, -9.65, 1.27),
        5071,
        193,
    ),
    "DT-20": (
        (-2.68, 1.38, -2.41, -6.32, 2.03, -2.71, -0.43, -9.48, 0.89),
        4677,
        163,
    ),
}


def controller(name: str) -> dict[str, float]:
    return dict(zip(NAMES, PUBLISHED[name][0], strict=False))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_controllers_reach_their_published_scores(name: str) -> None:
    _, published, error = PUBLISHED[name]
    lines = play(controller(name), rows=10, games=1_500, seed=123, threads=2).lines
    own_error = float(lines.mean()) / math.sqrt(len(lines))
    assert abs(lines.mean() - published) < 3 * math.hypot(error, own_error)


def test_it_plays_what_the_reference_would_play() -> None:
    weights = {name: w for name, w in controller("DT-10").items() if name != "holes"}
    played = play(weights, rows=8, cols=5, games=3, seed=7, max_pieces=60)
    for game in range(3):
        pieces = Games(1, 8, 5, "uniform", 7 + game)
        board = [[0] * 5 for _ in range(8)]
        lines = count = 0
        while count < 60:
            name = PIECE_NAMES[pieces.piece[0]]
            best: tuple[float, int] | None = None
            for action in range(4 * 5):
                placed = place(board, name, *divmod(action, 5))
                if placed is None:
                    continue
                after, cleared, eroded, landing = placed
                told = {
                    **features(after),
                    "landing_height": landing,
                    "eroded_cells": eroded,
                }
                score = sum(weight * told[key] for key, weight in weights.items())
                # Rounding may tell apart what is equal: not what is first.
                if best is None or score > best[0] + 1e-9:
                    best = score, action
                    chosen = after, cleared
            if best is None:
                break
            board, cleared = chosen
            lines += cleared
            count += 1
            pieces.step(np.array([best[1]], np.int64))
        assert (played.lines[game], played.pieces[game]) == (lines, count)
        assert played.over[game] == (count < 60)


def test_the_same_games_whatever_the_number_of_threads_and_games() -> None:
    weights = controller("BCTS")
    one, two, few = (
        play(weights, rows=8, cols=6, games=games, seed=5, threads=threads)
        for games, threads in ((100, 1), (100, 2), (7, 3))
    )
    assert np.array_equal(one.lines, two.lines)
    assert np.array_equal(one.pieces, two.pieces)
    assert np.array_equal(one.lines[:7], few.lines)
    assert one.over.all()
    other = play(weights, rows=8, cols=6, games=100, seed=6)
    assert np.array_equal(one.lines[1:], other.lines[:-1])


def test_numbers_of_numpys_are_taken_for_what_they_are() -> None:
    options: dict[str, Any] = {"rows": 8, "cols": 6, "games": 100, "max_pieces": 50}
    plain = play(controller("BCTS"), seed=3, threads=8, **options)
    for kind in (np.int8, np.int64):
        given = {name: kind(value) for name, value in options.items()}
        for seed in (3, kind(3)):
            played = play(controller("BCTS"), seed=seed, threads=kind(8), **given)
            assert np.array_equal(played.lines, plain.lines)
            assert np.array_equal(played.pieces, plain.pieces)


def test_games_are_cut_at_max_pieces() -> None:
    played = play(controller("DT-20"), games=5, max_pieces=50)
    assert played.pieces.tolist() == [50] * 5
    assert not played.over.any()
    assert play({}, games=5, rows=4, cols=4).over.all()


def test_the_seven_bag_is_easier() -> None:
    options: dict[str, Any] = {"rows": 10, "games": 50, "max_pieces": 2_000}
    weights = {"holes": -4.0, "bumpiness": -1.0, "sum_heights": -1.0}
    uniform = play(weights, **options).lines.mean()
    bag = play(weights, **options, randomizer="bag").lines.mean()
    assert bag > uniform


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"hole": 1.0}, "weights: 'hole' is not a feature; did you mean 'holes'?"),
        ({"zzz": 1.0}, f"'zzz' is not a feature; allowed: {', '.join(FEATURES)}"),
        ({"holes": math.nan}, r"weights\['holes'\]: nan; allowed: a finite number"),
        ({"holes": -math.inf}, r"weights\['holes'\]: -inf; allowed"),
        ({"holes": "much"}, r"weights\['holes'\]: 'much'; allowed"),
        ({"holes": 10**400}, r"weights\['holes'\]: 10+; allowed"),
        ({"holes": 1e301}, r"weights\['holes'\]: 1e\+301; allowed: .*1e\+300"),
        ({"holes": True}, r"weights\['holes'\]: True; allowed"),
        ([1, 2], r"weights: \[1, 2\]; allowed: a mapping of features to numbers"),
        (None, "weights: None; allowed: a mapping"),
    ],
)
def test_bad_weights_are_refused(weights: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("?", r"\?")):
        play(weights)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cols": 3}, "cols: 3; allowed: 4 to 12"),
        ({"cols": 13}, "cols: 13; allowed: 4 to 12"),
        ({"rows": 3}, "rows: 3; allowed: 4 to 28"),
        ({"rows": 29}, "rows: 29; allowed: 4 to 28"),
        ({"randomizer": "fair"}, "randomizer: 'fair'; allowed: bag, uniform"),
        ({"games": 0}, "games: 0; allowed: 1 to"),
        ({"seed": -1}, "seed: -1; allowed: 0 to"),
        ({"randomizer": []}, r"randomizer: \[\]; allowed: bag, uniform"),
        ({"threads": 0}, "threads: 0; allowed: 1 to"),
        ({"max_pieces": 0}, "max_pieces: 0; allowed: 1 to"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        play({"holes": -1.0}, **options)
