"""The state of games: all of it, and nothing that isn't one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tetris_widget.game import PIECE_NAMES, Games
from tetris_widget.game.state import State

SETTINGS = st.fixed_dictionaries(
    {
        "n": st.integers(1, 4),
        "rows": st.integers(4, 28),
        "columns": st.integers(4, 12),
        "randomizer": st.sampled_from(["bag", "uniform"]),
        "seed": st.integers(0, 2**32 - 1),
        "max_pieces": st.one_of(st.none(), st.integers(1, 30)),
    }
)


def play(games: Games, moves: int, seed: int) -> list[State]:
    """Make random moves; return the state after each."""
    rng = np.random.default_rng(seed)
    states = []
    for _ in range(moves):
        games.step(rng.integers(0, games.n_actions, len(games)))
        states.append(games.get_state())
    return states


def equal(first: State, second: State) -> bool:
    return first.keys() == second.keys() and all(
        np.array_equal(first[name], second[name]) for name in first
    )


@settings(max_examples=60, deadline=None)
@given(
    options=SETTINGS,
    before=st.integers(0, 40),
    after=st.integers(1, 40),
    actions=st.integers(0, 2**32 - 1),
)
def test_games_go_on_from_a_state_bit_for_bit(
    options: dict[str, Any], before: int, after: int, actions: int
) -> None:
    games = Games(**options)
    play(games, before, actions)
    taken = games.get_state()
    kept = {name: array.copy() for name, array in taken.items()}
    straight = play(games, after, actions + 1)
    assert equal(taken, kept)  # later moves don't change what was taken
    elsewhere = Games(**{**options, "seed": 99})
    for other in (games, elsewhere):
        other.set_state(taken)
        again = play(other, after, actions + 1)
        assert all(map(equal, straight, again))
    assert equal(taken, kept)


def test_what_was_shown_before_is_not_painted_over() -> None:
    games = Games(1, seed=0)
    fresh = games.get_state()
    play(games, 5, 0)
    shown = games.after
    kept = shown.copy()
    games.set_state(fresh)
    assert np.array_equal(shown, kept)


def filled(state: State, game: int, bits: int, other_bits: int) -> State:
    """Other columns of a game: full up to the top, but for one of them."""
    columns = state["columns"].copy()
    columns[game], columns[game, 1::2] = bits, other_bits
    return state | {"columns": columns}


def replaced(name: str, value: Any) -> Any:
    return lambda state: state | {name: value}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: None, "state: NoneType; allowed: a mapping of arrays"),
        (lambda state: {}, "rows: is missing"),
        (replaced("score", np.zeros(1)), "score: no such field"),
        (replaced("lines", [0, 0]), "lines: list; allowed: an array"),
        (replaced("lines", np.zeros(3, np.int64)), r"lines: shape \(3,\); allowed"),
        (replaced("lines", np.zeros(2, np.int32)), "lines: type int32; allowed: int64"),
        (replaced("rng", np.zeros(2, np.uint64)), "rng: 0; allowed: 1 to"),
        (replaced("position", np.array([0, 9])), "position: 9; allowed: 0 to 6"),
        (replaced("queue", np.full((2, 14), 8, np.int8)), "queue: 8; allowed: 1 to 7"),
        (replaced("columns", np.full((2, 5), 2**6, np.int32)), "columns: 64; allowed"),
        (lambda _: Games(2, 7, 5).get_state(), "rows: 7; allowed: 6"),
        (lambda _: Games(2, 6, 6).get_state(), r"columns: shape \(2, 6\)"),
        (lambda _: Games(3, 6, 5).get_state(), r"columns: shape \(3, 5\)"),
        (lambda _: Games(2, 6, 5, "uniform").get_state(), "randomizer: 1; allowed: 0"),
        (lambda _: Games(2, 6, 5, max_pieces=9).get_state(), "max_pieces: 9; allowed"),
        (lambda state: filled(state, 1, 0b1, 0b1), "row 5 of game 1 is full; allowed"),
        (
            lambda state: filled(state, 0, 0b10, 0),
            "cells: full where columns are empty",
        ),
        (
            lambda state: filled(state, 1, 0b101010, 0b010101),
            "columns: no room for piece [A-Z] in game 1; allowed: boards on which",
        ),
    ],
)
def test_what_is_no_state_is_refused_and_changes_nothing(
    change: Any, message: str
) -> None:
    games = Games(2, 6, 5, seed=1)
    play(games, 3, 0)
    before = games.get_state()
    with pytest.raises(ValueError, match=message):
        games.set_state(change(games.get_state()))
    assert equal(games.get_state(), before)


@pytest.mark.parametrize("randomizer", ["bag", "uniform"])
def test_one_game_goes_on_elsewhere_and_leaves_the_others_alone(
    randomizer: str,
) -> None:
    options: dict[str, Any] = {"rows": 8, "columns": 5, "randomizer": randomizer}
    games, others = Games(3, seed=1, **options), Games(4, seed=7, **options)
    play(games, 20, 0)
    play(others, 20, 1)
    before = [others.get_state(game) for game in range(4)]
    others.set_state(games.get_state(2), 1)
    for game in (0, 2, 3):
        assert equal(others.get_state(game), before[game])
    rng = np.random.default_rng(0)
    for _ in range(30):
        actions = rng.integers(0, 20, 3)
        games.step(actions)
        others.step(np.array([0, actions[2], 3, 4]))
        assert np.array_equal(games.columns[2], others.columns[1])
        assert np.array_equal(games.moves[2], others.moves[1])
        assert np.array_equal(games.coming(6)[2], others.coming(6)[1])
        assert games.final[2].tolist() == others.final[1].tolist()


def test_the_state_of_the_first_game_has_its_colours_and_that_of_others_has_none() -> (
    None
):
    games = Games(2, 8, 5, seed=1)
    while not games.columns.any(1).all():
        play(games, 1, 0)
    first, second = games.get_state(0), games.get_state(1)
    assert np.array_equal(first["cells"], games.cells)
    assert set(second["cells"].ravel().tolist()) == {0, 8}
    one = Games(1, 8, 5, seed=5)
    one.set_state(first)
    assert equal(one.get_state(), first)
    one.set_state(second, 0)
    assert np.array_equal(one.columns[0], games.columns[1])
    assert np.array_equal(one.cells, games.cells_of(1))
    assert equal(one.get_state(), second)
    for wrong in (-1, 2, 0.5):
        with pytest.raises(ValueError, match=f"game: {wrong}; allowed"):
            games.set_state(first, wrong)  # type: ignore[arg-type]


def test_one_game_is_seeded_alone() -> None:
    games, other = Games(3, seed=0), Games(1)
    before = games.get_state()["rng"]
    games.seed(9, 1)
    other.seed(9)
    assert games.get_state()["rng"][1] == other.get_state()["rng"][0]
    assert np.array_equal(games.get_state()["rng"][::2], before[::2])
    games.seed(None, 2)
    assert games.get_state()["rng"][2] != before[2]
    assert games.get_state()["rng"][0] == before[0]


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int64])
def test_numbers_of_numpys_are_taken_for_what_they_are(kind: Any) -> None:
    games = Games(kind(2), kind(20), kind(10), seed=127, max_pieces=kind(9))
    other = Games(2, 20, 10, seed=127, max_pieces=9)
    given = (games.rows, games.n_columns, games.n_actions, games.max_pieces)
    assert given == (20, 10, 40, 9)
    assert {type(number) for number in given} == {int}
    assert all(map(equal, play(games, 30, 0), play(other, 30, 0)))
    assert equal(Games(2, seed=kind(127)).get_state(), Games(2, seed=127).get_state())
    games.seed(kind(3), kind(1))
    other.seed(3, 1)
    assert equal(games.get_state(kind(1)), other.get_state(1))


def test_a_game_is_named_by_any_whole_number() -> None:
    games = Games(256, 6, 5, seed=0)
    last = np.uint8(255)
    assert equal(games.get_state(last), games.get_state(255))
    other = games.get_state(3)
    games.set_state(other, last)
    assert equal(games.get_state(255), other)
    for wrong in (-1, 256, 0.5):
        with pytest.raises(ValueError, match=f"game: {wrong}; allowed"):
            games.get_state(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", [-1, 2**64, 1.5, "a", True, [1]])
def test_what_is_no_seed_is_refused_and_changes_nothing(seed: Any) -> None:
    with pytest.raises(ValueError, match=r"seed: .*; allowed: "):
        Games(1, seed=seed)
    games = Games(2, seed=0)
    before = games.get_state()
    for game in (None, 1):
        with pytest.raises(ValueError, match=r"seed: .*; allowed: "):
            games.seed(seed, game)
    assert equal(games.get_state(), before)


@pytest.mark.parametrize("randomizer", ["bag", "uniform"])
@pytest.mark.parametrize("piece", [None, "I", "L"])
def test_a_game_begins_on_a_board(randomizer: str, piece: str | None) -> None:
    board = np.zeros((6, 5), int)
    board[5, :4], board[4, 0] = [1, 2, 8, 4], 7
    games = Games(2, 6, 5, randomizer, seed=3, max_pieces=9)
    before = games.get_state()
    state = games.state_from_board(board, piece)
    assert equal(games.get_state(), before)  # nothing was drawn
    one = Games(1, 6, 5, randomizer, seed=8, max_pieces=9)
    one.set_state(state)
    assert np.array_equal(one.cells, board)
    assert one.columns[0].tolist() == [0b11, 1, 1, 1, 0]
    assert (one.lines[0], one.pieces[0]) == (0, 0)
    if piece is not None:
        assert PIECE_NAMES[one.piece[0]] == piece
    if randomizer == "bag":
        assert sorted(one.coming(6)[0]) == [1, 2, 3, 4, 5, 6, 7]
    one.set_state(games.state_from_board(board, "I"))
    one.step(np.array([1 * 5 + 4]))  # standing in the gap
    assert one.moves[0].tolist() == [1, 4, 0, 1]
    assert one.cells[-1].tolist() == [7, 0, 0, 0, 1]


@pytest.mark.parametrize(
    ("board", "piece", "message"),
    [
        (np.zeros((6, 4), int), None, r"board: shape \(6, 4\); allowed: \(6, 5\)"),
        (np.zeros((6, 5), int), "X", "piece: 'X'; allowed: I, O, T, S, Z, J, L"),
        (np.indices((6, 5)).sum(0) % 2 == 0, "O", "no room for piece O in game 0"),
    ],
)
def test_a_board_that_no_game_can_begin_on_is_refused(
    board: Any, piece: str | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Games(1, 6, 5, seed=0).state_from_board(board, piece)


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        ([0, 1.9], r"action: 1.9 \(float64\); allowed: integers from 0 to 19"),
        (np.zeros(2), r"action: 0.0 \(float64\); allowed: integers"),
        ([True, False], r"action: True \(bool\); allowed: integers"),
        (["3", "4"], r"action: '3' \(<U1\); allowed: integers"),
        (None, r"action: None \(object\); allowed: integers"),
        ([], r"action: .* \(float64\); allowed: integers"),
        ([1, 2, 3], r"actions: shape \(3,\); allowed: \(2,\)"),
        ([[1], [2]], r"actions: shape \(2, 1\); allowed: \(2,\)"),
        ([0, 20], "action: 20; allowed: 0 to 19"),
    ],
)
def test_what_is_no_action_is_refused_and_changes_nothing(
    actions: Any, message: str
) -> None:
    games = Games(2, 6, 5, seed=1)
    before = games.get_state()
    with pytest.raises(ValueError, match=message):
        games.step(actions)
    assert equal(games.get_state(), before)
