"""The state of games: all of it, and nothing that isn't one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tetris_widget.game import Games
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
