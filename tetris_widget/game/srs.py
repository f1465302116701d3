"""The Super Rotation System: the boxes in which pieces turn, and their wall kicks.

Owns where a piece spawns, which cells it has in each of its four facings (0 as it
spawns, 1 turned right, 2, 3) and where it is tried when it is turned. Deliberately
doesn't know boards.

Sources: the tables of tetris.wiki/Super_Rotation_System and harddrop.com/wiki/SRS,
which agree; the spawn of the Tetris Guideline (harddrop.com/wiki/Tetris_Guideline):
centred, rounded to the left, the lowest cell in the first row above the visible ones,
and one row down at once if nothing is in the way. SRS has quarter turns only. Half
turns are additions of single games (each with kicks of its own), so there are none
here.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tetris_widget.game.pieces import N_PIECES, PIECE_NAMES, ROTATIONS, SHAPES

FACINGS = 4
BOX = 4
N_CELLS = 4
CLOCKWISE, COUNTERCLOCKWISE = 0, 1
N_KICKS = 5

# Where a piece turned right from facing 0, 1, 2, 3 is tried: (right, up), in order.
_CLOCKWISE_JLSTZ = (
    ((0, 0), (-1, 0), (-1, 1), (0, -2), (-1, -2)),
    ((0, 0), (1, 0), (1, -1), (0, 2), (1, 2)),
    ((0, 0), (1, 0), (1, 1), (0, -2), (1, -2)),
    ((0, 0), (-1, 0), (-1, -1), (0, 2), (-1, 2)),
)
_CLOCKWISE_I = (
    ((0, 0), (-2, 0), (1, 0), (-2, -1), (1, 2)),
    ((0, 0), (-1, 0), (2, 0), (-1, 2), (2, -1)),
    ((0, 0), (2, 0), (-1, 0), (2, 1), (-1, -2)),
    ((0, 0), (1, 0), (-2, 0), (1, -2), (-2, 1)),
)


def _kicks() -> NDArray[np.int64]:
    """A turn to the left is the turn to the right that it undoes, backwards."""
    kicks = np.zeros((N_PIECES + 1, FACINGS, 2, N_KICKS, 2), np.int64)
    for piece in range(1, N_PIECES + 1):
        name = PIECE_NAMES[piece]
        if name == "O":
            continue
        table = np.array(_CLOCKWISE_I if name == "I" else _CLOCKWISE_JLSTZ)
        for facing in range(FACINGS):
            kicks[piece, facing, CLOCKWISE] = table[facing]
            kicks[piece, (facing + 1) % FACINGS, COUNTERCLOCKWISE] = -table[facing]
    return kicks


def box(piece: int) -> tuple[str, ...]:
    """Return the square in which a piece turns, as it spawns, top row first."""
    name = PIECE_NAMES[piece]
    picture = SHAPES[name][0]
    if name == "O":
        return picture
    size = len(picture[0])
    empty = "." * size
    above = (empty,) if name == "I" else ()
    return (*above, *picture, *[empty] * (size - len(picture) - len(above)))


def _turned(picture: tuple[str, ...]) -> tuple[str, ...]:
    return tuple("".join(column) for column in zip(*picture[::-1], strict=True))


def _tables() -> tuple[NDArray[np.int64], ...]:
    shape = (N_PIECES + 1, FACINGS)
    sizes = np.zeros(N_PIECES + 1, np.int64)
    masks, lows = np.zeros((*shape, BOX), np.int64), np.zeros((*shape, BOX), np.int64)
    lefts, bottoms = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    folded = np.zeros(shape, np.int64)
    cells = np.zeros((*shape, N_CELLS, 2), np.int64)
    for piece in range(1, N_PIECES + 1):
        picture = box(piece)
        size = sizes[piece] = len(picture)
        for facing in range(FACINGS):
            cells[piece, facing] = [
                (column, row)
                for row, line in enumerate(reversed(picture))
                for column, char in enumerate(line)
                if char == "#"
            ]
            for column, row in cells[piece, facing]:
                masks[piece, facing, column] |= 1 << row
            full = [c for c in range(size) if masks[piece, facing, c]]
            for column in full:
                mask = int(masks[piece, facing, column])
                lows[piece, facing, column] = (mask & -mask).bit_length() - 1
            lefts[piece, facing] = full[0]
            bottoms[piece, facing] = lows[piece, facing, full].min()
            folded[piece, facing] = facing % ROTATIONS[piece]
            picture = _turned(picture)
    return sizes, cells, masks, lows, lefts, bottoms, folded


# KICKS (8, 4, 2, 5, 2): piece, facing before, direction, test, (right, up).
KICKS = _kicks()
# SIZES (8,): of the box. CELLS (8, 4, 4, 2): (right, up) in the box. BOX_MASKS, LOWS
# (8, 4, 4): the cells of each column of the box as bits, bit 0 lowest, and the lowest.
# LEFTS, BOTTOMS (8, 4): columns and rows of the box left of and under the cells.
# ORIENTATIONS (8, 4): which of `pieces.SHAPES` a facing looks like.
SIZES, CELLS, BOX_MASKS, LOWS, LEFTS, BOTTOMS, ORIENTATIONS = _tables()
