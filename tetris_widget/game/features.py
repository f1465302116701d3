"""The features of a board that a placement leads to: names, order, scale.

Owns their definitions: Thiery & Scherrer, "Improvements on Learning Tetris with Cross
Entropy" (2009), the Dellacherie–Thiery set; the rest are in common use. Computed by
`game.kernels`. Deliberately doesn't know policies.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# About the size of each on boards of play, so that scaled features are about 1.
_SCALES: dict[str, float] = {
    # row of the piece's bottom before clearing, plus (height of the piece - 1) / 2
    "landing_height": 10.0,
    # lines cleared times cells of this piece in those lines
    "eroded_cells": 4.0,
    # changes full/empty along the rows; walls are full, an empty row counts 2
    "row_transitions": 40.0,
    # changes full/empty down the columns; the floor is full, the sky empty
    "column_transitions": 20.0,
    # empty cells with a full cell somewhere above
    "holes": 5.0,
    # for every empty cell between two full ones: empty cells from it downwards
    "cumulative_wells": 10.0,
    # full cells directly above holes
    "hole_depth": 10.0,
    "rows_with_holes": 4.0,
    # how many of -2…2 occur among differences of adjacent column heights
    "diversity": 3.0,
    "sum_heights": 60.0,
    "max_height": 10.0,
    # sum of absolute differences of adjacent column heights
    "bumpiness": 15.0,
    "lines": 2.0,
}
FEATURES = tuple(_SCALES)
FEATURE_SCALE: NDArray[np.float32] = np.array(
    [1.0 / scale for scale in _SCALES.values()], dtype=np.float32
)
