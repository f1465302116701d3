"""Pictures of games: what is on them, and where."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tetris_widget.envs import TetrisEnv
from tetris_widget.game import Games
from tetris_widget.game.guideline import KEYS, GuidelineGames
from tetris_widget.game.render import (
    CELL_PIXELS,
    COLOURS,
    state_to_ansi,
    state_to_rgb,
    to_ansi,
    to_rgb,
    view_to_ansi,
    view_to_rgb,
)
from tetris_widget.game.state import State

CELLS = Games(1, rows=12).get_state()["cells"]


def cell(picture: np.ndarray, row: int, column: int) -> list[int]:
    """The colour in the middle of a cell."""
    half = CELL_PIXELS // 2
    return picture[row * CELL_PIXELS + half, column * CELL_PIXELS + half].tolist()


def test_a_board_has_its_colours() -> None:
    cells = np.array([[0, 1], [7, 0]], np.uint8)
    picture = to_rgb(cells)
    assert picture.shape == (32, 32, 3)
    for row, column in np.ndindex(2, 2):
        assert cell(picture, row, column) == COLOURS[cells[row, column]].tolist()
    assert to_ansi(cells).count("\n") == 2


def test_a_guideline_game_shows_piece_ghost_hold_and_next() -> None:
    games = GuidelineGames(1, seed=0, previews=3)
    games.step(np.array([KEYS.index("hold")]))
    games.step(np.array([KEYS.index("soft")]))
    view = games.view(0)
    picture = view_to_rgb(view)
    assert picture.shape == (20 * CELL_PIXELS, 15 * CELL_PIXELS, 3)
    own = COLOURS[view.kind].tolist()
    assert len(view.piece) == len(view.ghost) == 4
    for place in view.piece:
        assert cell(picture, *place) == own
    for place in view.ghost:
        assert cell(picture, *place) not in (own, COLOURS[0].tolist())
    shown = [view.hold, *view.next]
    assert len(shown) == 4
    for slot, piece in enumerate(shown):
        rows = [3 * slot, 3 * slot + 1]
        colours = [cell(picture, row, 10 + j) for row in rows for j in range(5)]
        assert colours.count(COLOURS[piece].tolist()) == 4
    assert len(picture) == 20 * CELL_PIXELS


def test_text_has_the_ghost_and_the_score() -> None:
    games = GuidelineGames(1, seed=0)
    text = view_to_ansi(games.view(0))
    assert text.count("[]") == 4
    assert text.endswith("0 points, 0 lines, level 1")
    assert len(text.split("\n")) == 22


def test_a_small_board_is_as_high_as_what_stands_beside_it() -> None:
    games = GuidelineGames(1, 4, 4, seed=0, previews=6)
    assert view_to_rgb(games.view(0)).shape == (21 * 16, 9 * 16, 3)
    assert len(view_to_ansi(games.view(0)).split("\n")) == 22
    while not games.over[0]:
        games.step(np.array([KEYS.index("hard")]))
    assert view_to_ansi(games.view(0)).endswith("over")


def test_a_state_is_drawn_without_its_games() -> None:
    games = Games(2, 6, 5, seed=0)
    for action in (0, 7):
        games.step(np.array([action, action]))
    state = games.get_state()
    assert np.array_equal(state_to_rgb(state), to_rgb(games.cells))
    assert state_to_ansi(state) == to_ansi(games.cells)
    assert np.array_equal(state_to_rgb(games.get_state(0)), to_rgb(games.cells))
    other, grey = state_to_rgb(state, 1), COLOURS[8].tolist()
    full = games.columns[1, 0] & 1
    assert cell(other, 5, 0) == (grey if full else COLOURS[0].tolist())
    assert grey in other.reshape(-1, 3).tolist()


def test_a_guideline_state_is_drawn_as_its_game_is() -> None:
    games = GuidelineGames(3, 8, 6, seed=0, previews=5, level=3, tick=1 / 60)
    for key in ("cw", "hold", "hard", "left"):
        games.step(np.full(3, KEYS.index(key)))
    state = games.get_state()
    for game in range(3):
        view = games.view(game)
        assert np.array_equal(state_to_rgb(state, game), view_to_rgb(view))
        assert state_to_ansi(state, game) == view_to_ansi(view)
    assert state_to_ansi(games.get_state(2)) == view_to_ansi(games.view(2))


def test_an_ended_game_of_an_env_shows_its_last_board() -> None:
    env = TetrisEnv(rows=4, columns=4, max_pieces=1, render_mode="ansi")
    env.reset(seed=0)
    env.step(np.int64(0))
    assert state_to_ansi(env.get_state()) == env.render()
    assert not env.games.cells.any()


def sliced(state: State) -> State:
    return state | {"cells": state["cells"][..., :3]}


@pytest.mark.parametrize(
    ("state", "game", "message"),
    [
        (3, 0, "state: int; allowed: a mapping of arrays"),
        ({}, 0, "cells: is missing from the state"),
        ({"games": np.zeros(1)}, 0, "cells: is missing from the state"),
        (Games(1).get_state() | {"cells": CELLS + 9}, 0, "cells: uint8 .*0 to 8"),
        (Games(1).get_state() | {"cells": CELLS[0]}, 0, r"cells: uint8 \(10,\); allow"),
        (Games(1).get_state() | {"cells": CELLS - 1.0}, 0, "cells: float64 .*; allow"),
        (Games(2).get_state(), 2, "game: 2; allowed: 0 to 1"),
        (GuidelineGames(2).get_state(), 2, "game: 2; allowed: 0 to 1"),
        (GuidelineGames(1).get_state() | {"games": np.zeros(1)}, 0, "none of guidel"),
        (sliced(GuidelineGames(1).get_state()), 0, "columns: 3; allowed: 4 to 12"),
        (GuidelineGames(1).get_state() | {"tick": 1}, 0, "tick: int; allowed: an arr"),
    ],
)
def test_what_is_no_state_is_not_drawn(state: Any, game: int, message: str) -> None:
    for draw in (state_to_ansi, state_to_rgb):
        with pytest.raises(ValueError, match=message):
            draw(state, game)
