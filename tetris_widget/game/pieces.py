"""The seven pieces and their orientations, as pictures and as tables for the kernels.

Owns shapes and their numbering (1 to 7; 0 is an empty cell, 8 a full one of which no
piece is known). Deliberately doesn't know boards or rules.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

PIECE_NAMES = ("", "I", "O", "T", "S", "Z", "J", "L")
N_PIECES = 7
UNKNOWN = N_PIECES + 1
MAX_ROTATIONS = 4
MAX_WIDTH = 4
N_CELLS = 4

# Each orientation row by row, top row first. Orientations that look alike are listed
# once: I, S, Z have two, O has one.
SHAPES: dict[str, tuple[tuple[str, ...], ...]] = {
    "I": (("####",), ("#", "#", "#", "#")),
    "O": (("##", "##"),),
    "T": (
        (".#.", "###"),
        ("#.", "##", "#."),
        ("###", ".#."),
        (".#", "##", ".#"),
    ),
    "S": ((".##", "##."), ("#.", "##", ".#")),
    "Z": (("##.", ".##"), (".#", "##", "#.")),
    "J": (
        ("#..", "###"),
        ("##", "#.", "#."),
        ("###", "..#"),
        (".#", ".#", "##"),
    ),
    "L": (
        ("..#", "###"),
        ("#.", "#.", "##"),
        ("###", "#.."),
        ("##", ".#", ".#"),
    ),
}


def cells(piece: int, rotation: int) -> list[tuple[int, int]]:
    """Return the (row, column) of a piece's cells in its box, row 0 on top."""
    rows = SHAPES[PIECE_NAMES[piece]][rotation]
    return [
        (i, j)
        for i, row in enumerate(rows)
        for j, char in enumerate(row)
        if char == "#"
    ]


def _tables() -> tuple[NDArray[np.int64], ...]:
    shape = (N_PIECES + 1, MAX_ROTATIONS)
    rotations = np.zeros(N_PIECES + 1, np.int64)
    widths, heights = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    masks = np.zeros((*shape, MAX_WIDTH), np.int64)
    bottoms = np.zeros((*shape, MAX_WIDTH), np.int64)
    for piece in range(1, N_PIECES + 1):
        pictures = SHAPES[PIECE_NAMES[piece]]
        rotations[piece] = len(pictures)
        for rotation, picture in enumerate(pictures):
            height = len(picture)
            widths[piece, rotation] = len(picture[0])
            heights[piece, rotation] = height
            for row, column in cells(piece, rotation):
                masks[piece, rotation, column] |= 1 << (height - 1 - row)
            for column in range(len(picture[0])):
                mask = int(masks[piece, rotation, column])
                bottoms[piece, rotation, column] = (mask & -mask).bit_length() - 1
    return rotations, widths, heights, masks, bottoms


# ROTATIONS (8,); WIDTHS, HEIGHTS (8, 4); MASKS (8, 4, 4): the cells of each column of
# the box as bits, bit 0 lowest; BOTTOMS (8, 4, 4): the lowest cell of each column.
ROTATIONS, WIDTHS, HEIGHTS, MASKS, BOTTOMS = _tables()

# The same for kernels that look at four columns whatever the piece, and at the one that
# follows. OUTLINES (8, 4, 4, 5): of each orientation MASK, BOTTOM, TOP (above the
# highest cell) and COUNT (of cells) in each of these columns. Where the piece has none,
# its bottom is too high to rest on anything and its top below everything.
MASK, BOTTOM, TOP, COUNT = range(4)
_FAR = 100


def _outlines() -> NDArray[np.int64]:
    outlines = np.zeros((N_PIECES + 1, MAX_ROTATIONS, 4, MAX_WIDTH + 1), np.int64)
    outlines[:, :, BOTTOM], outlines[:, :, TOP] = _FAR, -_FAR
    for piece in range(1, N_PIECES + 1):
        for rotation in range(ROTATIONS[piece]):
            for column in range(WIDTHS[piece, rotation]):
                mask = int(MASKS[piece, rotation, column])
                bottom = int(BOTTOMS[piece, rotation, column])
                top = mask.bit_length()
                values = mask, bottom, top, top - bottom
                outlines[piece, rotation, :, column] = values
    return outlines


OUTLINES = _outlines()
