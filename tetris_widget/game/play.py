"""Controllers: whole games played by a weighted sum of features.

Owns which games those are, and their division among threads. Deliberately doesn't know
where weights come from.
"""

from __future__ import annotations

import difflib
import math
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tetris_widget.game import kernels
from tetris_widget.game.features import FEATURES
from tetris_widget.game.games import (
    MAX_COLUMNS,
    MAX_ROWS,
    MIN_SIZE,
    Games,
    check_whole,
)

MAX_GAMES = 10_000_000
# So that no sum of features overflows: then all placements would be as good.
MAX_WEIGHT = 1e300
# What a thread fetches at once: games differ in length, so that few large shares would
# leave threads idle at the end.
SHARES_PER_THREAD = 16
# Between two looks at whether the caller has been interrupted: a fraction of a second.
MOVES_AT_ONCE = 100_000
_NO_LIMIT = 2**62
_ROOM = 128


class Played(NamedTuple):
    """The games that a controller has played.

    Attributes:
        lines: (games,) int64, cleared in each.
        pieces: (games,) int64, placed in each.
        over: (games,) bool; the others were cut at `max_pieces`.
    """

    lines: NDArray[np.int64]
    pieces: NDArray[np.int64]
    over: NDArray[np.bool_]


def play(
    weights: Mapping[str, float],
    *,
    rows: int = 20,
    cols: int = 10,
    randomizer: str = "uniform",
    games: int = 100,
    seed: int = 0,
    max_pieces: int | None = None,
    threads: int = 1,
) -> Played:
    """Play games by the highest weighted sum of features of the board after a move.

    The first maximum wins, orientations outer and columns from left to right.

    Args:
        weights: of features by name (see `FEATURES`), unscaled; others count nothing.
        rows: 4 to 28.
        cols: 4 to 12.
        randomizer: `uniform` as in the literature, or `bag` (7-bag).
        games: how many.
        seed: game `i` is the first of a `Games` with seed `seed + i`, whatever the
            number of games and threads.
        max_pieces: games are cut after so many pieces; None: never.
        threads: how many play at the same time.

    Raises:
        ValueError: `weights` is no mapping, an unknown feature, a weight that is not a
            finite number (up to MAX_WEIGHT), or an option out of its bounds.
    """
    rows = check_whole("rows", rows, MIN_SIZE, MAX_ROWS)
    cols = check_whole("cols", cols, MIN_SIZE, MAX_COLUMNS)
    games = check_whole("games", games, 1, MAX_GAMES)
    seed = check_whole("seed", seed, 0, _NO_LIMIT)
    threads = check_whole("threads", threads, 1, 256)
    factors = kernels.factors_of(_vector(weights))
    played = Games(games, rows, cols, randomizer, seed, max_pieces)
    over = np.zeros(games, np.bool_)
    is_abandoned = threading.Event()

    def play_some(some: slice) -> None:
        arrays = [array[some] for array in (*played.state, over)]
        # Two threads that write to one cache line wait for each other.
        *state, ended = [_apart(array) for array in arrays]
        moves = max(1, MOVES_AT_ONCE // len(ended))
        while not is_abandoned.is_set() and kernels.play_greedy(
            tuple(state),
            ended,
            rows,
            played.randomizer,
            factors,
            moves,
            played.max_pieces or _NO_LIMIT,
        ):
            pass
        for array, own in zip(arrays, (*state, ended), strict=True):
            array[...] = own

    share = math.ceil(games / (threads * SHARES_PER_THREAD))
    shares = [slice(first, first + share) for first in range(0, games, share)]
    with ThreadPoolExecutor(threads) as pool:
        try:
            # The list waits for them all, and raises what one has raised.
            list(pool.map(play_some, shares))
        finally:
            is_abandoned.set()
    return Played(played.lines, played.pieces, over)


def _apart(array: NDArray[Any]) -> NDArray[Any]:
    """Return a copy with more than a cache line's room on both sides."""
    room = np.empty(array.size + 2 * _ROOM, array.dtype)
    own = room[_ROOM : _ROOM + array.size].reshape(array.shape)
    own[...] = array
    return own


def _vector(weights: Mapping[str, float]) -> NDArray[np.float64]:
    """Return the weights of all features, in the order of FEATURES."""
    if not isinstance(weights, Mapping):
        raise ValueError(
            f"weights: {weights!r}; allowed: a mapping of features to numbers"
        )
    for name, weight in weights.items():
        if name not in FEATURES:
            near = difflib.get_close_matches(str(name), FEATURES, n=1, cutoff=0.5)
            allowed = ", ".join(FEATURES)
            hint = f"did you mean {near[0]!r}?" if near else f"allowed: {allowed}"
            raise ValueError(f"weights: {name!r} is not a feature; {hint}")
        is_number = isinstance(weight, (int, float, np.integer, np.floating))
        # NaN, infinities, and integers too large for a float fail the comparison.
        is_allowed = is_number and abs(weight) <= MAX_WEIGHT
        if isinstance(weight, bool) or not is_allowed:
            raise ValueError(
                f"weights[{name!r}]: {weight!r}; allowed: a finite number from "
                f"{-MAX_WEIGHT:g} to {MAX_WEIGHT:g}"
            )
    return np.array([weights.get(name, 0.0) for name in FEATURES], np.float64)
