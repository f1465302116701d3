"""Pictures of games: what is on them, and where."""

from __future__ import annotations

import numpy as np

from tetris_widget.game.guideline import KEYS, GuidelineGames
from tetris_widget.game.render import (
    CELL_PIXELS,
    COLOURS,
    to_ansi,
    to_rgb,
    view_to_ansi,
    view_to_rgb,
)


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
