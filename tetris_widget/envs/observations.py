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

    `board`: (8, rows, columns) bytes, 0 or 1. The cells, top row first; then seven
    planes, of which the current piece's is 1.

    Raises:
        ValueError: `observation` is neither.
    """
    if observation == "afterstates":
        shape = (4 * columns + 1, len(FEATURES) + 1)
        return Box(0.0, MAX_FEATURE, shape, np.float32)
    if observation == "board":
        return Box(0, 1, (1 + N_PIECES, rows, columns), np.uint8)
    allowed = ", ".join(OBSERVATIONS)
    raise ValueError(f"observation: {observation!r}; allowed: {allowed}")


class Observer:
    """Writes the observations of boards into buffers that it owns; don't write there.

    Two take turns: SB3 keeps the last observation while the env already steps.
    """

    def __init__(self, observation: str, games: Games) -> None:
        self._is_board = observation == "board"
        self._rows, self._columns = games.rows, games.n_columns
        self._space = observation_space(observation, games.rows, games.n_columns)
        self._pages = [self._new_page(len(games)) for _ in range(2)]

    def observe(self, columns: Array, pieces: Array) -> Array:
        """Return the observations; valid until the next but one call.

        Args:
            columns: (n, columns) int32.
            pieces: (n,) the current pieces.
        """
        self._pages.reverse()
        return self._write(columns, pieces, self._pages[0])

    def observe_once(self, columns: Array, pieces: Array) -> Array:
        """Return the observations of any number of boards, in an array of their own."""
        return self._write(columns, pieces, self._new_page(len(columns)))

    def _new_page(self, n: int) -> tuple[Array, Array, Array]:
        """Return a buffer for `n` boards, and the boards and pieces that it shows."""
        return (
            np.zeros((n, *self._space.shape), self._space.dtype),
            np.zeros((n, self._columns), np.int32),
            np.zeros(n, np.int8),
        )

    def _write(
        self, columns: Array, pieces: Array, page: tuple[Array, Array, Array]
    ) -> Array:
        out, shown_columns, shown_pieces = page
        if self._is_board:
            kernels.observe_boards(
                columns, pieces, self._rows, shown_columns, shown_pieces, out
            )
        else:
            kernels.observe_afterstates(columns, pieces, self._rows, FEATURE_SCALE, out)
        return out
