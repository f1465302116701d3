"""Boards as arrays of cells, and the boards that somebody else has made.

Owns the way from cells to the kernels' columns and back, and what a board must be.
Deliberately doesn't know games or moves.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tetris_widget.game.pieces import PIECE_NAMES, UNKNOWN

# Of `numpy.dtype.kind`.
INTEGER_KINDS = "iu"


def columns_of(cells: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Return cells (rows, columns), top row first, as a board's columns, in bits."""
    bits = np.int32(1) << np.arange(len(cells), dtype=np.int32)[::-1, None]
    columns: NDArray[np.int32] = ((cells > 0) * bits).sum(0, dtype=np.int32)
    return columns


def cells_of_columns(columns: NDArray[np.int32], rows: int) -> NDArray[np.uint8]:
    """Return a board's columns as cells (rows, columns); full ones are UNKNOWN."""
    full = columns >> np.arange(rows)[::-1, None] & 1
    return (full * UNKNOWN).astype(np.uint8)


def cells_from(board: Any, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Return what is given as a board as cells; of bools, full ones are UNKNOWN.

    Raises:
        ValueError: it is none of this shape, with numbers from 0 to 8, or a row of it
            is full.
    """
    given = np.asarray(board)
    if given.shape != shape:
        raise ValueError(f"board: shape {given.shape}; allowed: {shape}")
    if given.dtype == np.bool_:
        given = given * UNKNOWN
    if given.dtype.kind not in INTEGER_KINDS:
        raise ValueError(f"board: type {given.dtype}; allowed: integers or bools")
    if given.min() < 0 or given.max() > UNKNOWN:
        bad = given.min() if given.min() < 0 else given.max()
        raise ValueError(f"board: {bad}; allowed: 0 to {UNKNOWN}")
    full = np.flatnonzero((given > 0).all(1))
    if len(full):
        raise ValueError(
            f"board: row {full[0]} is full; allowed: rows with an empty cell"
        )
    return given.astype(np.uint8)


def check_rows(columns: NDArray[np.int32], rows: int) -> None:
    """Raise ValueError if one of the boards (n, columns) has a full row.

    It would have been cleared.
    """
    full = np.bitwise_and.reduce(columns, 1)
    if full.any():
        game = int((full != 0).argmax())
        row = rows - int(full[game]).bit_length()
        raise ValueError(
            f"columns: row {row} of game {game} is full; allowed: rows with an empty "
            "cell"
        )


def put_first(queue: NDArray[np.int8], piece: Any, is_bag: bool) -> None:
    """Bring a piece, by its name, to the front of a queue; a bag remains one.

    Raises:
        ValueError: there is no such piece.
    """
    names = PIECE_NAMES[1:]
    if piece not in names:
        raise ValueError(f"piece: {piece!r}; allowed: {', '.join(names)}")
    number = PIECE_NAMES.index(piece)
    if is_bag:
        queue[queue.tolist().index(number)] = queue[0]
    queue[0] = number
