"""The rules and features, against the rules themselves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.game.reference import Board, Placed, features, orientations, place
from tetris_widget.game import FEATURES, PIECE_NAMES, Games, kernels
from tetris_widget.game.pieces import ROTATIONS, WIDTHS, cells

ONE = np.ones(len(FEATURES))


def board_of(games: Games) -> Board:
    return [
        [int(games.columns[0, c] >> row & 1) for c in range(games.n_columns)]
        for row in range(games.rows - 1, -1, -1)
    ]


def random_games(seed: int, rows: int, columns: int, moves: int) -> Games:
    games = Games(1, rows, columns, "uniform", seed)
    rng = np.random.default_rng(seed)
    for _ in range(moves):
        legal = np.flatnonzero(games.mask()[0])
        games.step(np.array([rng.choice(legal)], np.int64))
    return games


sizes = st.tuples(st.integers(4, 28), st.integers(4, 12))
# Weights that play well enough to clear lines, and to see full boards of any shape.
SKILL = {"landing_height": -2, "holes": -4, "row_transitions": -3, "eroded_cells": 3}
WEIGHTS = np.array([SKILL.get(name, 0) for name in FEATURES], float)


def told(row: np.ndarray) -> dict[str, float]:
    """What a row of an observation says of a board."""
    return dict(zip(FEATURES, row[:-1].tolist(), strict=True))


def observed(games: Games) -> np.ndarray:
    out = np.zeros((1, 4 * games.n_columns + 1, len(FEATURES) + 1))
    kernels.observe_afterstates(games.columns, games.piece, games.rows, ONE, out)
    return out[0]


def placed(games: Games, board: Board, action: int) -> Placed | None:
    name = PIECE_NAMES[games.piece[0]]
    return place(board, name, *divmod(action, games.n_columns))


def truth(after: Placed) -> dict[str, float]:
    board, lines, eroded, landing = after
    own = {"lines": lines, "eroded_cells": eroded, "landing_height": landing}
    return features(board) | own


def check_every_placement(games: Games, board: Board) -> None:
    """Compare all that the kernels say of a position with the rules."""
    out, mask = observed(games), games.mask()[0]
    for action in range(games.n_actions):
        expected = placed(games, board, action)
        assert out[action, -1] == mask[action] == (expected is not None)
        if expected is None:
            assert not out[action].any()
        else:
            assert told(out[action]) == truth(expected)
    assert told(out[-1]).items() >= features(board).items()


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), size=sizes, moves=st.integers(0, 40))
def test_every_placement_equals_the_reference(
    seed: int, size: tuple[int, int], moves: int
) -> None:
    games = random_games(seed, *size, moves)
    check_every_placement(games, board_of(games))


def heights(board: Board) -> list[int]:
    """How high each column of a board is, top row first."""
    return [
        len(board) - next((y for y, cell in enumerate(column) if cell), len(board))
        for column in zip(*board, strict=True)
    ]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), size=sizes, moves=st.integers(0, 40))
def test_heights_are_told_behind_the_features(
    seed: int, size: tuple[int, int], moves: int
) -> None:
    games = random_games(seed, *size, moves)
    board, plain = board_of(games), observed(games)
    shape = (1, *plain.shape[:-1], plain.shape[-1] + games.n_columns)
    out = np.full(shape, 9.0)  # what was there before
    kernels.observe_afterstates(games.columns, games.piece, games.rows, ONE, out)
    n = len(FEATURES)
    assert np.array_equal(np.delete(out[0], np.s_[n:-1], axis=-1), plain)
    assert out[0, -1, n:-1].tolist() == heights(board)
    for action in range(games.n_actions):
        after = placed(games, board, action)
        expected = [0] * games.n_columns if after is None else heights(after[0])
        assert out[0, action, n:-1].tolist() == expected


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), size=sizes, previews=st.integers(0, 2))
def test_cells_and_pieces_are_seen_on_boards_of_any_size(
    seed: int, size: tuple[int, int], previews: int
) -> None:
    (rows, n_columns), n = size, 3
    games = Games(n, rows, n_columns, "uniform", seed)
    rng = np.random.default_rng(seed)
    shown = np.zeros((n, 2 + previews), np.int8)
    image = np.zeros((n, 1 + 7 * (1 + previews), rows, n_columns), np.uint8)
    flat = np.full((n, rows * n_columns + 7 * (1 + previews)), 9, np.uint8)
    for _ in range(12):
        games.step((rng.random((n, games.n_actions)) * games.mask()).argmax(1))
        pieces = games.coming(previews)
        kernels.observe_boards(games.columns, pieces, rows, shown, image)
        kernels.observe_flat(games.columns, pieces, rows, flat)
        cells = games.columns[:, None, :] >> np.arange(rows)[::-1, None] & 1
        kinds = np.eye(8)[pieces][..., 1:].reshape(n, -1)
        assert np.array_equal(image[:, 0], cells)
        planes = np.broadcast_to(kinds[..., None, None], image[:, 1:].shape)
        assert np.array_equal(image[:, 1:], planes)
        assert np.array_equal(flat, np.hstack((cells.reshape(n, -1), kinds)))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), size=sizes)
def test_the_greedy_move_is_the_first_of_the_highest_scores(
    seed: int, size: tuple[int, int]
) -> None:
    rng = np.random.default_rng(seed)
    games = random_games(seed, *size, moves=20)
    # Few different whole weights: many placements score the same.
    weights = rng.integers(-2, 3, len(FEATURES)).astype(float)
    out = np.zeros((1, 4 * size[1] + 1, len(FEATURES) + 1))
    kernels.observe_afterstates(games.columns, games.piece, size[0], ONE, out)
    scores = out[0, :-1, :-1] @ weights
    scores[out[0, :-1, -1] == 0] = -np.inf
    factors = kernels.factors_of(weights)
    chosen = kernels.greedy_actions(games.columns, games.piece, size[0], factors)
    assert chosen.tolist() == [scores.argmax()]


def follow(
    seed: int, size: tuple[int, int], randomizer: str, luck: float, moves: int
) -> None:
    """Play, and compare masks, features, boards, lines and ends at every move.

    Args:
        luck: the share of moves that are random; the others are greedy ones.
    """
    games = Games(1, *size, randomizer, seed)
    rng = np.random.default_rng(seed)
    board, total = board_of(games), 0
    for count in range(moves):
        mask, out = games.mask()[0], observed(games)
        options = [placed(games, board, action) for action in range(games.n_actions)]
        assert mask.tolist() == [option is not None for option in options]
        action = int(rng.choice(np.flatnonzero(mask)))
        if rng.random() > luck:
            args = games.columns, games.piece, size[0], kernels.factors_of(WEIGHTS)
            action = int(kernels.greedy_actions(*args)[0])
        expected = options[action]
        assert expected is not None
        assert told(out[action]) == truth(expected)
        assert told(out[-1]).items() >= features(board).items()
        if count == moves - 1:
            check_every_placement(games, board)
        games.step(np.array([action], np.int64))
        board, lines, _, _ = expected
        total += lines
        assert games.moves[0, 3] == lines
        assert games.final[0, 0] == total
        assert ((games.after > 0).astype(int).tolist()) == board
        last = PIECE_NAMES[games.final_pieces[0, 0]]
        if games.terminated[0]:
            columns = size[1]
            every = [
                place(board, last, *divmod(a, columns)) for a in range(4 * columns)
            ]
            assert not any(every)
            board, total = board_of(games), 0
            assert not any(map(any, board))
        assert board == board_of(games)


played_games = given(
    seed=st.integers(0, 2**32),
    size=sizes | st.sampled_from([(10, 10), (20, 10)]),
    randomizer=st.sampled_from(["bag", "uniform"]),
    luck=st.sampled_from([1.0, 0.3, 0.05]),
)


@settings(max_examples=60, deadline=None)
@played_games
def test_games_equal_the_reference_move_by_move(
    seed: int, size: tuple[int, int], randomizer: str, luck: float
) -> None:
    follow(seed, size, randomizer, luck, moves=40)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@settings(max_examples=2_000, deadline=None)
@played_games
def test_thousands_of_games_equal_the_reference_move_by_move(
    seed: int, size: tuple[int, int], randomizer: str, luck: float
) -> None:
    follow(seed, size, randomizer, luck, moves=50)


def test_placements_of_each_piece_on_an_empty_board() -> None:
    # Research: I 17, O 9, S 17, Z 17, T 34, L 34, J 34.
    counts = {}
    for piece in range(1, 8):
        mask = np.zeros((1, 40), np.bool_)
        kernels.mask_actions(
            np.zeros((1, 10), np.int32), np.array([piece], np.int8), 20, mask
        )
        counts[PIECE_NAMES[piece]] = int(mask.sum())
    assert counts == {"I": 17, "O": 9, "T": 34, "S": 17, "Z": 17, "J": 34, "L": 34}


def test_a_line_is_cleared_and_what_is_above_falls() -> None:
    games = Games(1, 6, 4, seed=0)
    # Rows from the floor: ###. , ###. , .#.. ; an I standing in the last column.
    games.columns[0] = [0b011, 0b111, 0b011, 0b000]
    games.cells[:] = board_of(games)
    games._queue[0, 0] = 1
    games.step(np.array([1 * 4 + 3], np.int64))
    assert games.final[0].tolist() == [2, 1]
    assert [bin(c) for c in games.columns[0]] == ["0b0", "0b1", "0b0", "0b11"]


def test_same_seed_same_games() -> None:
    a, b, c = (random_games(seed, 20, 10, 50) for seed in (3, 3, 4))
    assert (a.columns == b.columns).all()
    assert (a._queue == b._queue).all()
    assert not (a._queue == c._queue).all()


def test_game_i_of_many_is_game_0_of_its_own_seed() -> None:
    many, one = Games(5, seed=10), Games(1, seed=13)
    assert (many._queue[3] == one._queue[0]).all()


def test_every_seven_pieces_are_a_bag() -> None:
    games = Games(1, 20, 10, "bag", 5)
    pieces = []
    for _ in range(70):
        pieces.append(int(games.piece[0]))
        games.step(np.array([int(np.flatnonzero(games.mask()[0])[0])], np.int64))
        if games.terminated[0]:
            pieces = []
        if len(pieces) == 7:
            assert sorted(pieces) == list(range(1, 8))
            pieces = []


def test_uniform_pieces_are_uniform() -> None:
    games = Games(20_000, 20, 10, "uniform", 1)
    counts = np.bincount(games.piece, minlength=8)[1:]
    expected = len(games) / 7
    # Chi-square of 6 degrees of freedom is below 27.9 in 99.99 % of cases.
    assert (((counts - expected) ** 2) / expected).sum() < 27.9


def test_previews_come_true() -> None:
    games = Games(1, seed=2)
    shown = games.previews(0)
    for piece in shown:
        games.step(np.array([int(np.flatnonzero(games.mask()[0])[0])], np.int64))
        assert games.piece[0] == piece
    assert Games(1, randomizer="uniform").previews(0) == []


@pytest.mark.parametrize("action", [-1, 40, 10**9])
def test_an_action_out_of_range_is_refused_and_changes_nothing(action: int) -> None:
    games = random_games(1, 20, 10, 20)
    before = games.columns.copy(), games.pieces.copy()
    with pytest.raises(ValueError, match=f"action: {action}; allowed: 0 to 39"):
        games.step(np.array([action], np.int64))
    assert (games.columns == before[0]).all()
    assert (games.pieces == before[1]).all()


def nearest(board: Board, name: str, action: int) -> tuple[int, int]:
    """The rotation and column that an action stands for, by the words alone."""
    n_columns, n_rotations = len(board[0]), len(orientations(name))
    rotation, column = divmod(action, n_columns)
    column = min(column, n_columns - len(orientations(name)[rotation % n_rotations][0]))
    for turns in range(n_rotations):
        turned = (rotation + turns) % n_rotations
        legal = [c for c in range(n_columns) if place(board, name, turned, c)]
        if legal:
            return turned, min(legal, key=lambda c: (abs(c - column), c))
    raise AssertionError("the game was over")


def test_an_action_that_is_not_legal_stands_for_the_nearest_that_is() -> None:
    too_high = others = 0
    for seed in range(150):
        games = random_games(seed, 4 + seed % 5, 4 + seed % 7, moves=6 + seed % 20)
        state, board = games.get_state(), board_of(games)
        name = PIECE_NAMES[games.piece[0]]
        for action in np.flatnonzero(~games.mask()[0]).tolist():
            games.set_state(state)
            games.step(np.array([action], np.int64))
            rotation, column, row, _ = games.moves[0].tolist()
            assert (rotation, column) == nearest(board, name, action)
            assert row >= 0
            folded = kernels.fold(action, games.placed, games.n_columns)
            too_high += folded != (rotation, column)
            others += folded[0] != rotation
    # In another column, and even in another orientation.
    assert too_high > 300 and others > 30


def test_a_board_that_no_game_leads_to_is_over_at_once() -> None:
    games = Games(1, 4, 4, seed=0)
    games.columns[0] = [0b1110, 0b0111, 0b1110, 0b0111]
    games._queue[0, 0] = 1
    games.step(np.zeros(1, np.int64))
    assert games.terminated[0]
    assert games.final_columns[0].tolist() == [0b1110, 0b0111, 0b1110, 0b0111]


def test_every_action_in_range_stands_for_a_placement() -> None:
    for piece in range(1, 8):
        for action in range(40):
            rotation, column = kernels.fold(action, piece, 10)
            assert rotation < ROTATIONS[piece]
            assert column + WIDTHS[piece, rotation] <= 10
            assert len(cells(piece, rotation)) == 4


def test_games_that_are_over_begin_again_and_nothing_is_told_of_them() -> None:
    games = Games(3, 6, 5, seed=0)
    for _ in range(3):
        games.step(np.zeros(3, np.int64))
    kept = games.columns[1].copy()
    over = np.array([True, False, True])
    assert kernels.begin_again(games.state, over, games.randomizer) is None
    assert not over.any()
    assert games.pieces.tolist() == [0, 3, 0]
    assert not games.columns[::2].any()
    assert np.array_equal(games.columns[1], kept)


def test_colours_follow_the_board() -> None:
    games = random_games(7, 12, 6, 200)
    assert ((games.cells > 0).astype(int).tolist()) == board_of(games)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rows": 3}, "rows: 3; allowed: 4 to 28"),
        ({"columns": 13}, "columns: 13; allowed: 4 to 12"),
        ({"randomizer": "fair"}, "randomizer: 'fair'; allowed: bag, uniform"),
        ({"rows": 20.5}, "rows: 20.5; allowed: a whole number"),
        ({"max_pieces": 0}, "max_pieces: 0; allowed"),
    ],
)
def test_bad_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Games(1, **options)  # type: ignore[arg-type]
