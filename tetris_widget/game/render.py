"""Pictures of a board, as text or as pixels, without a window.

Owns colours. Deliberately doesn't know the rules.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

CELL_PIXELS = 16
# Empty, then the pieces 1 to 7, as in the panel.
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
    ],
    np.uint8,
)
_GRID = np.array((225, 228, 232), np.uint8)


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


def _ansi_cell(piece: int) -> str:
    if not piece:
        return " ·"
    red, green, blue = COLOURS[piece].tolist()
    return f"\x1b[48;2;{red};{green};{blue}m  \x1b[0m"
