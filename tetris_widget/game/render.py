"""Pictures of states and boards, as text or as pixels, without a window.

`state_to_ansi` and `state_to_rgb` take what any `get_state` gives: that of `TetrisEnv`,
`TetrisVecEnv`, `Games` or `GuidelineGames`. Owns colours. Deliberately doesn't know the
rules.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tetris_widget.game.boards import cells_of_columns
from tetris_widget.game.games import check_whole
from tetris_widget.game.guideline import View, view_of_state
from tetris_widget.game.pieces import UNKNOWN
from tetris_widget.game.pieces import cells as cells_of
from tetris_widget.game.state import State, require

CELL_PIXELS = 16
# Empty, then the pieces 1 to 7, as in the panel, and a full cell of no known piece.
COLOURS = np.array(
    [
        (246, 247, 249),
        (42, 165, 196),
        (217, 164, 0),
        (155, 81, 201),
        (63, 155, 70),
        (214, 69, 69),
        (60, 111, 209),
        (223, 123, 28),
        (128, 134, 145),
    ],
    np.uint8,
)
_GRID = np.array((225, 228, 232), np.uint8)
# Cells of what stands beside a board: hold on top, then the pieces to come.
_SIDE_COLUMNS, _SLOT_ROWS = 5, 3


def state_to_rgb(state: State, game: int = 0) -> NDArray[np.uint8]:
    """Return a picture of a game from its state.

    Under benchmark rules the board, (rows × 16, columns × 16, 3); games but the first
    are grey, for their states don't say which piece a cell came from. Under guideline
    rules as `view_to_rgb`, with the next five pieces.

    Args:
        state: of one game, or of several.
        game: which of them.

    Raises:
        ValueError: it is no state, or has no such game; the message says why.
    """
    if _is_guideline(state):
        return view_to_rgb(view_of_state(state, game))
    return to_rgb(_cells_in(state, game))


def state_to_ansi(state: State, game: int = 0) -> str:
    """Return a game from its state as coloured text; see `state_to_rgb`."""
    if _is_guideline(state):
        return view_to_ansi(view_of_state(state, game))
    return to_ansi(_cells_in(state, game))


def to_rgb(cells: NDArray[Any]) -> NDArray[np.uint8]:
    """Return a picture of cells (rows, columns): (rows × 16, columns × 16, 3)."""
    picture: NDArray[np.uint8] = COLOURS[cells]
    picture = picture.repeat(CELL_PIXELS, 0).repeat(CELL_PIXELS, 1)
    picture[::CELL_PIXELS] = _GRID
    picture[:, ::CELL_PIXELS] = _GRID
    return picture


def to_ansi(cells: NDArray[Any]) -> str:
    """Return cells (rows, columns) as coloured text, two characters a cell."""
    rows = ["│" + "".join(_ansi_cell(int(c)) for c in row) + "│" for row in cells]
    return "\n".join([*rows, "└" + "──" * cells.shape[1] + "┘"])


def view_to_rgb(view: View) -> NDArray[np.uint8]:
    """Return a picture of a game under guideline rules, without text.

    The board, the ghost in a paler colour, and at the right the held piece above the
    pieces to come: (max(rows, 3 × (1 + previews)) × 16, (columns + 5) × 16, 3).
    """
    rows, columns = view.board.shape
    board = to_rgb(_with_piece(view))
    ghost = (COLOURS[view.kind].astype(np.uint16) + 3 * COLOURS[0]) // 4
    for row, column in set(view.ghost) - set(view.piece):
        top, left = row * CELL_PIXELS, column * CELL_PIXELS
        board[top + 1 : top + CELL_PIXELS, left + 1 : left + CELL_PIXELS] = ghost
    side = _side(view)
    height = max(rows, len(side)) * CELL_PIXELS
    width = (columns + _SIDE_COLUMNS) * CELL_PIXELS
    picture = np.empty((height, width, 3), np.uint8)
    picture[:] = COLOURS[0]
    picture[: len(board), : board.shape[1]] = board
    drawn = COLOURS[side].repeat(CELL_PIXELS, 0).repeat(CELL_PIXELS, 1)
    picture[: len(drawn), board.shape[1] :] = drawn
    return picture


def view_to_ansi(view: View) -> str:
    """Return a game under guideline rules as coloured text, the ghost as `[]`."""
    rows = [[_ansi_cell(int(c)) for c in row] for row in _with_piece(view)]
    for row, column in set(view.ghost) - set(view.piece):
        rows[row][column] = "[]"
    columns = view.board.shape[1]
    lines = ["│" + "".join(row) + "│" for row in rows] + ["└" + "──" * columns + "┘"]
    side = [
        "".join("  " if not c else _ansi_cell(c) for c in row) for row in _side(view)
    ]
    blank = " " * (2 * columns + 2)
    lines += [blank] * (len(side) - len(lines))
    text = [f"{a}{b}" for a, b in zip(lines, side, strict=False)] + lines[len(side) :]
    over = ", over" if view.over else ""
    score = f"{view.score:,} points, {view.lines:,} lines, level {view.level}{over}"
    return "\n".join([*text, score])


def _is_guideline(state: State) -> bool:
    require(state, ())
    return "games" in state


def _cells_in(state: State, game: int) -> NDArray[np.uint8]:
    require(state, ("cells", "after", "columns"))
    columns = state["columns"]
    game = check_whole("game", game, 0, len(columns) - 1)
    # An env's game that has ended shows its last board until it is begun anew.
    has_ended = bool(state.get("has_ended", False)) and not game
    name = "after" if has_ended else "cells"
    cells = state[name]
    if cells.ndim != 2 or cells.dtype != np.uint8 or cells.max(initial=0) > UNKNOWN:
        raise ValueError(
            f"{name}: {cells.dtype} {cells.shape}; allowed: uint8 (rows, columns), "
            f"0 to {UNKNOWN}"
        )
    return cells_of_columns(columns[game], len(cells)) if game else cells


def _with_piece(view: View) -> NDArray[np.uint8]:
    board = view.board.copy()
    for cell in view.piece:
        board[cell] = view.kind
    return board


def _side(view: View) -> NDArray[np.uint8]:
    """The held piece, or an empty slot, and the pieces to come, one below another."""
    slots = [view.hold, *view.next]
    side = np.zeros((_SLOT_ROWS * len(slots), _SIDE_COLUMNS), np.uint8)
    for slot, piece in enumerate(slots):
        if piece:
            for row, column in cells_of(piece, 0):
                side[slot * _SLOT_ROWS + row, 1 + column] = piece
    return side


def _ansi_cell(piece: int) -> str:
    if not piece:
        return " ·"
    red, green, blue = COLOURS[piece].tolist()
    return f"\x1b[48;2;{red};{green};{blue}m  \x1b[0m"
