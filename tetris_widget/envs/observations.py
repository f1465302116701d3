"""What a learner sees of a game: the spaces, and their buffers.

Owns the layout of observations. Deliberately doesn't know rewards or episodes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from tetris_widget.game import FEATURES, Games, kernels
from tetris_widget.game.features import FEATURE_SCALE
from tetris_widget.game.pieces import N_PIECES

OBSERVATIONS = ("afterstates", "board")
# The largest is cumulative_wells on 28 × 12: 6 wells of 28 cells, scaled, is 244.
MAX_FEATURE = 250.0

Array = NDArray[Any]


def observation_space(observation: str, rows: int, columns: int) -> Box:
    """Return the space of an observation.

    `afterstates`: (4 × columns + 1, features + 1). Row `a` has the scaled features of
    the board that action `a` leads to and, last, 1 if it is legal; rows of illegal
    actions are 0. The last row has the features of the present board.

    `board`: (8, rows, columns), 0 or 1. The cells, top row first; then seven planes, of
    which the current piece's is 1.

    Raises:
        ValueError: `observation` is neither.
    """
    if observation == "afterstates":
        shape = (4 * columns + 1, len(FEATURES) + 1)
        return Box(0.0, MAX_FEATURE, shape, np.float32)
    if observation == "board":
        return Box(0.0, 1.0, (1 + N_PIECES, rows, columns), np.float32)
    allowed = ", ".join(OBSERVATIONS)
    raise ValueError(f"observation: {observation!r}; allowed: {allowed}")


class Observer:
    """Writes the observations of `n` boards into buffers that it owns.

    Two sets take turns: SB3 keeps the last observation while the env already steps.
    """

    def __init__(self, observation: str, games: Games) -> None:
        self._is_board = observation == "board"
        self._rows = games.rows
        space = observation_space(observation, games.rows, games.n_columns)
        shape = (len(games), *space.shape)
        self._buffers = [np.zeros(shape, np.float32) for _ in range(2)]

    def observe(self, columns: Array, pieces: Array) -> Array:
        """Return the observations; valid until the next but one call.

        Args:
            columns: (n, columns) int32.
            pieces: (n,) the current pieces.
        """
        self._buffers.reverse()
        out = self._buffers[0][: len(columns)]
        self.write(columns, pieces, out)
        return out

    def write(self, columns: Array, pieces: Array, out: Array) -> None:
        """Write the observations into `out`."""
        if self._is_board:
            kernels.observe_boards(columns, pieces, self._rows, out)
        else:
            kernels.observe_afterstates(columns, pieces, self._rows, FEATURE_SCALE, out)
