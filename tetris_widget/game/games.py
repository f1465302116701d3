"""Many games of Tetris: their arrays, and the moves that can be made.

Owns the state of the games, and what a state or an action of theirs must be.
Deliberately doesn't know rewards, observations in the sense of gymnasium, or who plays.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tetris_widget.game import kernels, pieces
from tetris_widget.game.boards import (
    INTEGER_KINDS,
    cells_from,
    cells_of_columns,
    check_rows,
    columns_of,
    put_first,
)
from tetris_widget.game.state import Field, State, check, take

MIN_SIZE, MAX_ROWS, MAX_COLUMNS = 4, 28, kernels.MAX_COLUMNS
RANDOMIZERS = {"bag": kernels.BAG, "uniform": kernels.UNIFORM}
N_PREVIEWS = 3
_WORD = 2**64 - 1
_COUNT = 2**62


class Games:
    """`n` games on boards of the same size.

    Args:
        n: how many.
        rows: 4 to 28.
        columns: 4 to 12.
        randomizer: `bag` (7-bag), or `uniform` as in the literature.
        seed: 0 to 2^64 - 1; game `i` is the same as game 0 of a `Games` with seed
            `seed + i`; None: a new one each time.
        max_pieces: games are truncated after so many pieces; None: never.

    Raises:
        ValueError: an option is out of its bounds.

    Attributes:
        columns: (n, columns) int32, a board's columns as bits, bit 0 the floor.
        lines: (n,) int64, lines cleared so far.
        pieces: (n,) int64, pieces placed so far.
        cells: (rows, columns) uint8, top row first: which piece each cell of game 0
            came from; 0 is empty, 8 full from the beginning.
    """

    def __init__(
        self,
        n: int,
        rows: int = 20,
        columns: int = 10,
        randomizer: str = "bag",
        seed: int | None = None,
        max_pieces: int | None = None,
    ) -> None:
        rows = check_whole("rows", rows, MIN_SIZE, MAX_ROWS)
        columns = check_whole("columns", columns, MIN_SIZE, MAX_COLUMNS)
        n = check_whole("n", n, 1, 2**31 - 1)
        if max_pieces is not None:
            max_pieces = check_whole("max_pieces", max_pieces, 1, 2**62)
        self.rows = rows
        self.n_columns = columns
        self.n_actions = pieces.MAX_ROTATIONS * columns
        self.randomizer = check_randomizer(randomizer)
        self.has_previews = randomizer == "bag"
        self._randomizer_name = randomizer
        self.max_pieces = max_pieces
        self.columns: NDArray[np.int32] = np.zeros((n, columns), np.int32)
        self.lines: NDArray[np.int64] = np.zeros(n, np.int64)
        self.pieces: NDArray[np.int64] = np.zeros(n, np.int64)
        self.cells: NDArray[np.uint8] = np.zeros((rows, columns), np.uint8)
        self._queue = np.zeros((n, kernels.QUEUE_LENGTH), np.int8)
        self._position = np.zeros(n, np.int64)
        self._rng = np.zeros(n, np.uint64)
        # The results of the last step, and what game 0 looked like around it.
        self.placed = 0
        self.shown: list[int] = []
        self.before = self.after = self.cells.copy()
        self.moves: NDArray[np.int64] = np.zeros((n, 4), np.int64)
        self.final: NDArray[np.int64] = np.zeros((n, 2), np.int64)
        self.terminated: NDArray[np.bool_] = np.zeros(n, np.bool_)
        self.truncated: NDArray[np.bool_] = np.zeros(n, np.bool_)
        self.final_columns: NDArray[np.int32] = np.zeros((n, columns), np.int32)
        known = 1 + kernels.MAX_PREVIEWS
        self.final_pieces: NDArray[np.int8] = np.zeros((n, known), np.int8)
        self.seed(seed)
        self.reset()

    def __len__(self) -> int:
        return len(self.lines)

    @property
    def state(self) -> tuple[NDArray[Any], ...]:
        """The arrays that a kernel works on."""
        return (
            self.columns,
            self._queue,
            self._position,
            self._rng,
            self.lines,
            self.pieces,
        )

    @property
    def piece(self) -> NDArray[np.int8]:
        """The current piece of every game: (n,) int8, 1 to 7."""
        return self.coming(0)[:, 0]

    def coming(self, previews: int) -> NDArray[np.int8]:
        """Return every game's current piece and the next ones: (n, 1 + previews)."""
        coming = np.empty((len(self), 1 + previews), np.int8)
        kernels.look_ahead(self._queue, self._position, coming)
        return coming

    def previews(self, game: int) -> list[int]:
        """Return the next pieces of a game; none where rules give no preview."""
        if not self.has_previews:
            return []
        first = int(self._position[game]) + 1
        return [int(p) for p in self._queue[game, first : first + N_PREVIEWS]]

    def cells_of(self, game: int) -> NDArray[np.uint8]:
        """Return a copy of a game's `cells`; but for game 0, all full ones are 8."""
        if game == 0:
            return self.cells.copy()
        return cells_of_columns(self.columns[game], self.rows)

    def seed(self, seed: int | None, game: int | None = None) -> None:
        """Set the generators; the pieces already drawn stay until `reset`.

        Args:
            game: of this one alone.

        Raises:
            ValueError: `seed` is no whole number from 0 to 2^64 - 1; nothing changes.
        """
        if game is None:
            self._rng[:] = seed_words(seed, len(self))
        else:
            self._rng[game] = seed_words(seed, 1)[0]

    def reset(self) -> None:
        """Begin every game anew; the generators go on."""
        kernels.start(self.state, self.randomizer)
        self.cells[:] = 0

    def step(self, actions: NDArray[np.int64]) -> None:
        """Carry out an action in every game; games that end begin anew.

        Args:
            actions: (n,) integers, rotation × columns + column. One that isn't legal
                stands for the nearest that is (see `kernels.fold` and
                `kernels.nearest_legal`).

        Raises:
            ValueError: an action is no integer, or out of range; nothing is changed.
        """
        actions = whole_actions("action", actions, len(self), self.n_actions)
        placed, shown = int(self._queue[0, self._position[0]]), self.previews(0)
        wrong = kernels.step(
            self.state,
            actions,
            self.rows,
            self.randomizer,
            self.max_pieces or 0,
            (
                self.moves,
                self.final,
                self.terminated,
                self.truncated,
                self.final_columns,
                self.final_pieces,
            ),
        )
        if wrong >= 0:
            bad = int(actions[wrong])
            raise ValueError(f"action: {bad}; allowed: 0 to {self.n_actions - 1}")
        self.placed, self.shown = placed, shown
        self._paint()

    # State in and out

    def get_state(self, game: int | None = None) -> State:
        """Return everything that the games are, generators included, as copies.

        Args:
            game: of this one alone. Of games but the first, the pieces that full cells
                came from are not known, nor the last move's picture.
        """
        return take(self._fields(game))

    def set_state(self, state: State, game: int | None = None) -> None:
        """Go on from a state that games like these were in, bit for bit.

        Args:
            game: set this one alone, from a state of one game.

        Raises:
            ValueError: it is not a state of so many games of this size and these rules;
                the message names the field; nothing is changed.
        """
        values = self.check_state(state, game)
        # What these show may still be in somebody's hands.
        self.before, self.after = self.before.copy(), self.after.copy()
        for name, field in self._fields(game).items():
            field.array[...] = values[name]
        if not game:
            self.placed = int(values["placed"])
            self.shown = [piece for piece in values["shown"].tolist() if piece]

    def check_state(self, state: Any, game: int | None = None) -> State:
        """Return `state` if `set_state` would take it.

        Raises:
            ValueError: as there.
        """
        values = check(state, self._fields(game))
        check_rows(values["columns"], self.rows)
        if not np.array_equal(columns_of(values["cells"]), values["columns"][0]):
            raise ValueError("cells: full where columns are empty, or the reverse")
        self._check_room(values)
        return values

    def state_from_board(self, board: Any, piece: str | None = None) -> State:
        """Return the state of one game like these that begins on a board.

        Args:
            board: (rows, columns), top row first: 0 is empty, 1 to 7 a cell of that
                piece, 8 any other full one; or bools.
            piece: which comes first, see PIECE_NAMES; None: the one that is drawn. It
                and those to come are drawn by a copy of game 0's generator.

        Raises:
            ValueError: there is no such board or piece, or no room for it; the message
                says what is allowed.
        """
        cells = cells_from(board, (self.rows, self.n_columns))
        drawn = Games(
            1, self.rows, self.n_columns, self._randomizer_name, 0, self.max_pieces
        )
        drawn._rng[0] = self._rng[0]
        drawn.reset()
        if piece is not None:
            put_first(drawn._queue[0], piece, is_bag=self.has_previews)
        drawn.cells[:] = cells
        drawn.columns[0] = columns_of(cells)
        return drawn.check_state(drawn.get_state())

    def _check_room(self, values: State) -> None:
        columns, queue = values["columns"], values["queue"]
        coming = queue[np.arange(len(columns)), values["position"]]
        mask = np.empty((len(columns), self.n_actions), np.bool_)
        kernels.mask_actions(columns, coming, self.rows, mask)
        stuck = np.flatnonzero(~mask.any(1))
        if len(stuck):
            name = pieces.PIECE_NAMES[coming[stuck[0]]]
            raise ValueError(
                f"columns: no room for piece {name} in game {stuck[0]}; allowed: "
                "boards on which the game is not over"
            )

    def mask(self) -> NDArray[np.bool_]:
        """Return which actions are legal: (n, 4 × columns) bool."""
        out = np.empty((len(self), self.n_actions), np.bool_)
        kernels.mask_actions(self.columns, self.piece, self.rows, out)
        return out

    def surfaces(self, boards: NDArray[np.int32]) -> NDArray[np.int64]:
        """Return the holes, sum of heights, and bumpiness of boards: (n, 3).

        Args:
            boards: (n, columns), as in `columns`.
        """
        out = np.empty((len(boards), 3), np.int64)
        kernels.measure_surfaces(boards, out)
        return out

    def landing_row(self) -> int:
        """Return the row, from the top, where game 0's last piece landed."""
        rotation, _, row, _ = self.moves[0].tolist()
        height = int(pieces.HEIGHTS[self.placed, rotation])
        return int(self.rows - row - height)

    def _fields(self, game: int | None) -> dict[str, Field]:
        """The arrays of a state; what isn't an array of the games is a copy."""
        if game is not None:
            game = check_whole("game", game, 0, len(self) - 1)
        bits, n_pieces = 2**self.rows - 1, pieces.N_PIECES
        one = slice(None) if game is None else slice(game, game + 1)
        shown, placed, limit = np.zeros(N_PREVIEWS, np.int64), 0, self.max_pieces or 0
        if game:
            cells = before = after = self.cells_of(game)
        else:
            cells, before, after = self.cells, self.before, self.after
            shown[: len(self.shown)], placed = self.shown, self.placed
        return {
            "rows": Field(np.array(self.rows), self.rows, self.rows),
            "randomizer": Field(
                np.array(self.randomizer), self.randomizer, self.randomizer
            ),
            "max_pieces": Field(np.array(limit), limit, limit),
            "columns": Field(self.columns[one], 0, bits),
            "queue": Field(self._queue[one], 1, n_pieces),
            "position": Field(self._position[one], 0, n_pieces - 1),
            "rng": Field(self._rng[one], 1, _WORD),
            "lines": Field(self.lines[one], 0, _COUNT),
            "pieces": Field(self.pieces[one], 0, _COUNT),
            "cells": Field(cells, 0, pieces.UNKNOWN),
            "placed": Field(np.array(placed), 0, n_pieces),
            "shown": Field(shown, 0, n_pieces),
            "before": Field(before, 0, pieces.UNKNOWN),
            "after": Field(after, 0, pieces.UNKNOWN),
            "moves": Field(self.moves[one], kernels.NOT_LEGAL, MAX_ROWS),
            "final": Field(self.final[one], 0, _COUNT),
            "terminated": Field(self.terminated[one]),
            "truncated": Field(self.truncated[one]),
            "final_columns": Field(self.final_columns[one], 0, bits),
            "final_pieces": Field(self.final_pieces[one], 0, n_pieces),
        }

    def _paint(self) -> None:
        """Follow game 0's last move in `cells`."""
        rotation, column, row, _ = self.moves[0].tolist()
        self.before = self.cells.copy()
        if row != kernels.NOT_LEGAL:
            kernels.paint(self.cells, self.placed, rotation, column, row)
        self.after = self.cells.copy()
        if self.terminated[0] or self.truncated[0]:
            self.cells[:] = 0


def seed_words(seed: int | None, n: int) -> NDArray[np.uint64]:
    """Return the generators of `n` games; of new ones each time if there is no seed.

    Raises:
        ValueError: the seed is no whole number from 0 to 2^64 - 1.
    """
    if seed is None:
        seed = int(np.random.SeedSequence().generate_state(1, np.uint64)[0])
    seed = check_whole("seed", seed, 0, _WORD)
    return np.array([_splitmix(seed + game) for game in range(n)], np.uint64)


def _splitmix(seed: int) -> int:
    """Spread a seed over 64 bits (Steele et al., 2014); never 0, which is stuck."""
    word = (seed + 0x9E3779B97F4A7C15) & _WORD
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & _WORD
    return (word ^ (word >> 31)) or 1


def whole_actions(name: str, actions: Any, n: int, n_actions: int) -> NDArray[np.int64]:
    """Return `n` actions as integers; whether they are in range is not looked at.

    Raises:
        ValueError: they are no integers, or not so many.
    """
    given = np.asarray(actions)
    if given.dtype.kind not in INTEGER_KINDS:
        bad = given.ravel().tolist()[0] if given.size else given
        if given.dtype.kind == "f" and (given % 1 != 0).any():
            bad = given[given % 1 != 0].tolist()[0]
        raise ValueError(
            f"{name}: {bad!r} ({given.dtype}); allowed: integers from 0 to "
            f"{n_actions - 1}"
        )
    if given.shape != (n,):
        raise ValueError(f"{name}s: shape {given.shape}; allowed: {(n,)}")
    if given.dtype == np.int64 and given.flags.c_contiguous:  # in half the time
        return given
    return np.ascontiguousarray(given, np.int64)


def check_whole(name: str, value: Any, low: int, high: int) -> int:
    """Return `value` as an int: NumPy's small ones would wrap in arithmetic.

    Raises:
        ValueError: it is no whole number from `low` to `high`.
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise ValueError(f"{name}: {value!r}; allowed: a whole number")
    whole = int(value)
    if not low <= whole <= high:
        raise ValueError(f"{name}: {whole}; allowed: {low} to {high}")
    return whole


def check_flag(name: str, value: Any) -> bool:
    """Return `value` as a bool.

    Raises:
        ValueError: it is no truth value.
    """
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"{name}: {value!r}; allowed: True, False")
    return bool(value)


def check_randomizer(name: Any) -> int:
    """Return the kernels' number of a randomizer.

    Raises:
        ValueError: there is none of that name.
    """
    # What is no text may not be looked up in a dict at all.
    if not isinstance(name, str) or name not in RANDOMIZERS:
        raise ValueError(f"randomizer: {name!r}; allowed: {', '.join(RANDOMIZERS)}")
    return RANDOMIZERS[name]
