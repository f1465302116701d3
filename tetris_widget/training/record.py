"""The best game, kept so that it can be played again move for move.

Owns what that takes: how the game's generator stood when it began, and its actions.
Every running game is recorded, for nobody knows which will be the best: a byte a move,
in a ring of fixed size. Deliberately doesn't know when a game is a record.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tetris_widget.envs.placements import move_frame
from tetris_widget.envs.vec import TetrisVecEnv
from tetris_widget.game import Games
from tetris_widget.game.games import RANDOMIZERS
from tetris_widget.game.state import Field, State, check, take

Record = dict[str, Any]

# Of the ring: 131,072 moves of 64 games.
RING_BYTES = 8 * 2**20
# Fields of a `Games` state that a game's pieces follow from.
PIECES = ("queue", "position", "rng")


class Recorder:
    """Records the games of a `TetrisVecEnv`, each since its beginning.

    Args:
        env: whose games; games that are under way already are recorded from the next.
        ring_bytes: a game that no longer fits is not recorded.
    """

    def __init__(self, env: TetrisVecEnv, ring_bytes: int = RING_BYTES) -> None:
        self._env = env
        n_envs = env.num_envs
        self._capacity = max(1, ring_bytes // n_envs)
        # Pages that were never written take no memory.
        self._ring: NDArray[np.uint8] = np.empty((self._capacity, n_envs), np.uint8)
        self._steps = 0
        fresh = env.games.pieces == 0
        self._begun = np.where(fresh, 0, -1)
        _, queue, position, generator, *_ = env.games.state
        # The games' own, which change in place, and as they were at each beginning.
        self._arrays: list[NDArray[Any]] = [queue, position, generator]
        self._pieces = [array.copy() for array in self._arrays]
        self._next: NDArray[np.intp] | None = None
        self._next_pieces: list[NDArray[Any]] = []

    def get_state(self) -> State:
        """Return the running games, each since its beginning, as copies.

        The last step's games are over for good: `game` has none of them any more.
        """
        self._begin_next()
        lengths = self._lengths()
        n_rows = int(lengths.max(initial=0))
        first = (self._steps - n_rows) % self._capacity
        around = max(0, first + n_rows - self._capacity)
        # By rows, as they are in memory: some belong to games that are over.
        actions = np.concatenate(
            [self._ring[first : first + n_rows], self._ring[:around]]
        )
        return {**take(self._fields()), "lengths": lengths, "actions": actions}

    def set_state(self, state: State) -> None:
        """Go on with the games that were running when `get_state` was called.

        Raises:
            ValueError: it is no such state; the message names the field.
        """
        actions = state.get("actions", np.zeros((0, 0), np.uint8))
        steps = len(actions)
        fields = {
            **self._fields(),
            "lengths": Field(np.zeros_like(self._begun), -1, steps),
            "actions": Field(np.zeros((steps, self._env.num_envs), np.uint8)),
        }
        check(state, fields)
        actions = actions[-self._capacity :]
        self._ring[: len(actions)] = actions
        self._steps = len(actions)
        lengths = state["lengths"]
        are_known = (lengths >= 0) & (lengths <= self._steps)
        self._begun = np.where(are_known, self._steps - lengths, -1)
        for name, array in zip(PIECES, self._pieces, strict=True):
            array[...] = state[name]
        self._next = None

    def add(self) -> None:
        """Take in the env's last step."""
        self._begin_next()
        self._ring[self._steps % self._capacity] = self._env.actions
        self._steps += 1

    def end(self, games: NDArray[np.intp]) -> None:
        """Take in which games the last step has ended; `game` then has them."""
        # The env has begun the next ones already.
        self._next = games
        self._next_pieces = [array[games] for array in self._arrays]

    def game(self, env: int) -> Record | None:
        """Return the game that ends with the last step, or None if it is not known."""
        length = int(self._lengths()[env])
        if length < 0:
            return None
        rows = np.arange(self._steps - length, self._steps) % self._capacity
        games = self._env.games
        (name,) = (n for n, code in RANDOMIZERS.items() if code == games.randomizer)
        record = {
            "rows": games.rows,
            "columns": games.n_columns,
            "randomizer": name,
            "max_pieces": games.max_pieces,
        }
        for field, array in zip(PIECES, self._pieces, strict=True):
            record[field] = array[env].tolist()
        return {**record, "actions": self._ring[rows, env].tolist()}

    def _begin_next(self) -> None:
        if self._next is None:
            return
        for kept, array in zip(self._pieces, self._next_pieces, strict=True):
            kept[self._next] = array
        self._begun[self._next] = self._steps
        self._next = None

    def _lengths(self) -> NDArray[np.int64]:
        """Return the moves of every running game; -1: its beginning is not known."""
        lengths = self._steps - self._begun
        are_known = (self._begun >= 0) & (lengths <= self._capacity)
        return np.where(are_known, lengths, -1)

    def _fields(self) -> dict[str, Field]:
        """How the games' generators stood at their beginnings."""
        names = zip(PIECES, self._pieces, strict=True)
        return {name: Field(array) for name, array in names}


def replay(record: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Play a recorded game again; yield its moves, as `move_frame` has them.

    Raises:
        ValueError: the record is none of a game by these rules.
    """
    try:
        games = Games(
            1,
            record["rows"],
            record["columns"],
            record["randomizer"],
            seed=0,
            max_pieces=record["max_pieces"],
        )
        state = games.get_state()
        for field in PIECES:
            state[field] = np.array([record[field]], state[field].dtype)
        games.set_state(state)
        actions = np.array(record["actions"], np.int64)
    except (KeyError, TypeError, OverflowError) as error:
        raise ValueError(f"this is no record of a game: {error!r}") from error
    for action in actions:
        games.step(np.array([action]))
        yield move_frame(games)
