"""What a learner sees of a game under benchmark rules: the spaces, and their buffers.

Owns the layout of observations. Deliberately doesn't know rewards or episodes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.spaces import Box, Dict, Space
from numpy.typing import NDArray

from tetris_widget.game import FEATURES, Games, kernels
from tetris_widget.game.features import FEATURE_SCALE
from tetris_widget.game.pieces import N_PIECES

OBSERVATIONS = ("afterstates", "heights", "board", "flat", "dict", "both")
# The largest is cumulative_wells on 28 × 12: 6 wells of 28 cells, scaled, is 244.
MAX_FEATURE = 250.0

Array = NDArray[Any]
Observed = Any  # an array, or a dict of them


def observation_space(
    observation: str, rows: int, columns: int, previews: int = 0
) -> Space[Any]:
    """Return the space of an observation.

    `afterstates`: (4 × columns + 1, features + 1). Row `a` has the scaled features of
    the board that action `a` leads to and, last, 1 if it is legal; rows of illegal
    actions are 0. The last row has the features of the present board.

    `heights`: (4 × columns + 1, features + columns + 1). The same, with the heights of
    the columns behind the features, in rows.

    `board`: (8 + 7 × previews, rows, columns) bytes, 0 or 1. The cells, top row first;
    then seven planes for the current piece, of which its own is 1, and for each of the
    next ones that are shown.

    `flat`: (rows × columns + 7 × (1 + previews),) bytes: the cells, and the pieces
    one-hot. `dict`: the same as `planes` (1, rows, columns) and `pieces`.

    `both`: `afterstates` and `board`, in a dict.

    Raises:
        ValueError: `observation` is none of these.
    """
    n_pieces = 1 + previews
    if observation in ("afterstates", "heights"):
        n_heights = columns if observation == "heights" else 0
        shape = (4 * columns + 1, len(FEATURES) + n_heights + 1)
        return Box(0.0, MAX_FEATURE, shape, np.float32)
    if observation == "board":
        return Box(0, 1, (1 + N_PIECES * n_pieces, rows, columns), np.uint8)
    if observation == "flat":
        return Box(0, 1, (rows * columns + N_PIECES * n_pieces,), np.uint8)
    if observation == "dict":
        planes = Box(0, 1, (1, rows, columns), np.uint8)
        return Dict(
            {"planes": planes, "pieces": Box(0, 1, (N_PIECES * n_pieces,), np.uint8)}
        )
    if observation == "both":
        names = ("afterstates", "board")
        return Dict(
            {name: observation_space(name, rows, columns, previews) for name in names}
        )
    allowed = ", ".join(OBSERVATIONS)
    raise ValueError(f"observation: {observation!r}; allowed: {allowed}")


class Observer:
    """Writes the observations of boards into buffers that it owns; don't write there.

    Two take turns: SB3 keeps the last observation while the env already steps.

    Args:
        observation: see `observation_space`.
        games: whose boards they are.
        previews: how many of the next pieces are shown.
    """

    def __init__(self, observation: str, games: Games, previews: int = 0) -> None:
        self._rows, self._columns = games.rows, games.n_columns
        self._n_pieces = 1 + previews
        space = observation_space(observation, games.rows, games.n_columns, previews)
        self._parts: dict[str, Observer] = {}
        if observation == "both":
            for name in ("afterstates", "board"):
                self._parts[name] = Observer(name, games, previews)
            return
        self._observation = "flat" if observation == "dict" else observation
        self._is_dict = observation == "dict"
        if self._is_dict:
            space = observation_space("flat", games.rows, games.n_columns, previews)
        self._space = space
        self._pages = [self._new_page(len(games)) for _ in range(2)]

    def observe(self, columns: Array, pieces: Array) -> Observed:
        """Return the observations; valid until the next but one call.

        Args:
            columns: (n, columns) int32.
            pieces: (n, 1 + previews), the current ones first.
        """
        if self._parts:
            return {
                name: part.observe(columns, pieces)
                for name, part in self._parts.items()
            }
        self._pages.reverse()
        return self._layout(self._write(columns, pieces, self._pages[0]))

    def observe_games(self, games: Games) -> Observed:
        """Return the observations of games as they are; valid as those of `observe`."""
        return self.observe(games.columns, games.coming(self._n_pieces - 1))

    def observe_once(self, columns: Array, pieces: Array) -> Observed:
        """Return the observations of any number of boards, in arrays of their own."""
        if self._parts:
            return {
                name: part.observe_once(columns, pieces)
                for name, part in self._parts.items()
            }
        page = self._new_page(len(columns))
        return self._layout(self._write(columns, pieces, page))

    def _layout(self, out: Array) -> Observed:
        if not self._is_dict:
            return out
        size = self._rows * self._columns
        planes = out[:, :size].reshape(len(out), 1, self._rows, self._columns)
        return {"planes": planes, "pieces": out[:, size:]}

    def _new_page(self, n: int) -> tuple[Array, Array]:
        """Return a buffer for `n` boards, and what it shows: pieces and a height."""
        assert self._space.shape is not None
        return (
            np.zeros((n, *self._space.shape), self._space.dtype),
            np.zeros((n, self._n_pieces + 1), np.int8),
        )

    def _write(self, columns: Array, pieces: Array, page: tuple[Array, Array]) -> Array:
        out, shown = page
        rows = self._rows
        if self._observation in ("afterstates", "heights"):
            current = np.ascontiguousarray(pieces[:, 0])
            kernels.observe_afterstates(columns, current, rows, FEATURE_SCALE, out)
            return out
        if self._observation == "board":
            kernels.observe_boards(columns, pieces, rows, shown, out)
        else:
            kernels.observe_flat(columns, pieces, rows, out)
        return out
