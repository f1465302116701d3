"""Games that a policy plays side by side: under either rules, each to its own end.

Owns what is asked of such games whatever their rules: what is seen of them, a move in
some of them, who is over, and beginning anew. Deliberately doesn't know who plays, nor
when a game has been played for long enough.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tetris_widget.config import DEFAULT_REWARD, TrainingConfig
from tetris_widget.envs.observations import Observed, Observer
from tetris_widget.envs.options import make_problem
from tetris_widget.game import Games, kernels

# A piece falls from the top of the highest board and locks in less, if it isn't turned
# up again and again by kicks: that can go on forever, so it loses the game.
MAX_KEYS_PER_PIECE = 500

Flags = NDArray[np.bool_]
Actions = NDArray[np.int64]


class Ended(NamedTuple):
    """Games that have ended: how many, and what was in all of them."""

    games: int
    lines: int
    pieces: int


class Table:
    """Games that a player plays side by side; one that is over stays as it is.

    Args:
        config: whose game is played, and how it is seen.
        n: how many.
        seed: of the first game; all have different ones.

    Attributes:
        games: as they stand, `Games` or `GuidelineGames`; both have `lines` and
            `pieces`, (n,) int64.
        over: (n,) bool, which have ended by themselves, or by MAX_KEYS_PER_PIECE.
        is_benchmark: whether the rules are the benchmark ones, or the guideline's.
    """

    def __init__(self, config: TrainingConfig, n: int, seed: int) -> None:
        kind = _Placements if config.is_benchmark else _Guideline
        self._rules: _Placements | _Guideline = kind(config, n, seed)
        self.games: Any = self._rules.games
        self.over: Flags = np.zeros(n, np.bool_)
        self.is_benchmark = config.is_benchmark

    def begin(self, seed: int) -> None:
        """Begin every game anew, with the pieces of other seeds."""
        self.games.seed(seed)
        self._rules.begin()
        self.over[:] = False

    def begin_again(self) -> Ended:
        """Begin those games anew that are over; return what was in them."""
        lines = int(self.games.lines[self.over].sum())
        pieces = int(self.games.pieces[self.over].sum())
        games = int(self.over.sum())
        self._rules.begin_again(self.over)
        self.over[:] = False
        return Ended(games, lines, pieces)

    def observe(self) -> Observed:
        """Return every game's observation; valid until the next but one call."""
        return self._rules.observe()

    def mask(self) -> Flags:
        """Return which actions are legal: (n, actions) bool."""
        return self._rules.mask()

    def arguments(self) -> tuple[Any, ...]:
        """Return the first arguments of what plays whole games under these rules.

        See `kernels.play_greedy`, and `dense.play_greedy` under guideline rules.
        """
        return self._rules.arguments(self.over)

    def step(self, actions: Actions, active: Flags) -> None:
        """Carry out an action in every active game; the others rest.

        Args:
            actions: (n,) int64, legal ones.
            active: (n,) bool, none of a game that is over.
        """
        self._rules.step(actions, active, self.over)


class _Placements:
    """Benchmark rules."""

    def __init__(self, config: TrainingConfig, n: int, seed: int) -> None:
        self.games = Games(n, config.rows, config.columns, config.randomizer, seed)
        self._observer = Observer(config.observation, self.games, config.previews or 0)

    def begin(self) -> None:
        self.games.reset()

    def begin_again(self, over: Flags) -> None:
        kernels.begin_again(self.games.state, over, self.games.randomizer)

    def observe(self) -> Observed:
        return self._observer.observe_games(self.games)

    def mask(self) -> Flags:
        return self.games.mask()

    def arguments(self, over: Flags) -> tuple[Any, ...]:
        games = self.games
        return games.state, over, games.rows, games.randomizer

    def step(self, actions: Actions, active: Flags, over: Flags) -> None:
        games = self.games
        kernels.move_active(
            games.state, actions, active, over, games.rows, games.randomizer
        )


class _Guideline:
    """Guideline rules, by keys or by placements that are in reach."""

    def __init__(self, config: TrainingConfig, n: int, seed: int) -> None:
        self._problem = make_problem(
            n,
            action=config.action,
            observation=config.observation,
            previews=config.previews,
            hold=config.hold,
            rows=config.rows,
            columns=config.columns,
            randomizer=config.randomizer,
            reward=DEFAULT_REWARD,
            gamma=config.gamma,
            max_pieces=None,
            seed=seed,
        )
        self.games: Any = self._problem.games
        self._is_keys = config.action == "keys"
        self._waited: NDArray[np.int64] = np.zeros(n, np.int64)

    def begin(self) -> None:
        self._problem.begin()
        self._waited[:] = 0

    def begin_again(self, over: Flags) -> None:
        self._problem.begin_some(np.flatnonzero(over))
        self._waited[over] = 0

    def observe(self) -> Observed:
        return self._problem.observe()

    def mask(self) -> Flags:
        return self._problem.action_masks()

    def arguments(self, over: Flags) -> tuple[Any, ...]:
        games = self.games
        return (
            games.games,
            games.cells,
            games.rules,
            games.n_previews,
            games.observation_size,
            self._is_keys,
            self._waited,
            over,
            MAX_KEYS_PER_PIECE,
        )

    def step(self, actions: Actions, active: Flags, over: Flags) -> None:
        # The rules know one kind of game that rests: one that is over.
        rests, pieces = self.games.over, self.games.pieces.copy()
        rests[:] = ~active
        self._problem.step(actions)
        self._waited += active
        self._waited[self.games.pieces > pieces] = 0
        over |= active & (rests | (self._waited >= MAX_KEYS_PER_PIECE))
        rests[:] = over
