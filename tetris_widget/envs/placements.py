"""Benchmark Tetris as a learning problem: a placement a step.

Owns the spaces, rewards, infos and ends of episodes of games under benchmark rules.
Deliberately doesn't know the rules (`game.Games`), gymnasium's or SB3's interface.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar

import numpy as np
from gymnasium.spaces import Discrete, Space
from numpy.typing import NDArray

from tetris_widget.envs.infos import Info, Infos
from tetris_widget.envs.observations import Observed, Observer, observation_space
from tetris_widget.envs.rewards import POINTS, Rewards, Terms
from tetris_widget.game import Games
from tetris_widget.game.games import check_whole
from tetris_widget.game.kernels import MAX_PREVIEWS
from tetris_widget.game.render import to_ansi, to_rgb
from tetris_widget.game.state import State


class Placements:
    """Games under benchmark rules, and what of them is an observation or an info.

    Games that end have begun anew after the step.

    Raises:
        ValueError: an option is out of its bounds.
    """

    begins_anew: ClassVar[bool] = True

    def __init__(
        self,
        n: int,
        *,
        rows: int,
        columns: int,
        randomizer: str,
        observation: str,
        reward: Mapping[str, float],
        gamma: float,
        previews: int,
        max_pieces: int | None,
        seed: int | None,
    ) -> None:
        previews = check_whole("previews", previews, 0, MAX_PREVIEWS)
        self._previews = previews
        # Made first, for it checks the sizes.
        self.games = games = Games(n, rows, columns, randomizer, seed, max_pieces)
        self.observation_space: Space[Any] = observation_space(
            observation, games.rows, games.n_columns, previews
        )
        self.action_space = Discrete(games.n_actions)
        self._observer = Observer(observation, games, previews)
        self._terms: Terms = {}
        self.rewards = Rewards(self, reward, gamma)

    @property
    def over(self) -> NDArray[np.bool_]:
        """Which games the step has lost: (n,)."""
        return self.games.terminated

    @property
    def truncated(self) -> NDArray[np.bool_]:
        """Which games were cut: (n,)."""
        return self.games.truncated

    # What `Rewards` asks

    def term(self, name: str) -> NDArray[np.int64]:
        """Return a term of the last step: (n,)."""
        games = self.games
        cleared: NDArray[np.int64] = games.moves[:, 3]
        if name == "lines":
            return cleared.copy()
        if name == "lines_squared":
            return cleared * cleared
        if name == "score":
            points: NDArray[np.int64] = POINTS[cleared]
            return points
        if name == "survival":  # every step places a piece
            return np.ones(len(games), np.int64)
        return games.terminated.astype(np.int64)

    def surfaces(self) -> NDArray[np.int64]:
        """Return the present boards' surfaces: (n, 3)."""
        return self.games.surfaces(self.games.columns)

    def surfaces_around(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the surfaces that the step led to, and those the next begins with."""
        games = self.games
        following = self.surfaces()
        cut = games.truncated
        if not cut.any():
            # Games that are over have begun anew, with nothing on their boards.
            return following, following
        led_to = following.copy()
        led_to[cut] = games.surfaces(games.final_columns[cut])
        return led_to, following

    # Steps

    def begin(self) -> None:
        """Begin every game anew; the generators go on."""
        self.games.reset()
        self.rewards.begin()

    def begin_some(self, which: NDArray[np.int64]) -> None:
        """Nothing is left to do: the kernel has begun them."""

    def step(self, actions: NDArray[np.int64]) -> NDArray[np.float32]:
        """Carry out an action in every game; return the rewards."""
        self.games.step(actions)
        rewards, self._terms = self.rewards.take()
        return rewards

    def observe(self) -> Observed:
        """Return every game's observation; valid until the next but one call."""
        return self._observer.observe_games(self.games)

    def observe_now(self, which: NDArray[np.int64]) -> Observed:
        """Return the observations of some games, to keep."""
        games = self.games
        pieces = games.coming(self._previews)[which]
        return self._observer.observe_once(games.columns[which], pieces)

    def observe_last(self, which: NDArray[np.int64]) -> Observed:
        """Return the last observations of games that have ended, to keep."""
        return self._look_back(which)()

    def _look_back(self, which: NDArray[np.int64]) -> Callable[[], Observed]:
        """Keep how some games have ended, and return what observes that."""
        games = self.games
        columns = games.final_columns[which]
        pieces = games.final_pieces[which, : 1 + self._previews]
        return partial(self._observer.observe_once, columns, pieces)

    def infos(self) -> Infos:
        """Return every game's info of the step; those of game 0 have `frame`."""
        games = self.games
        values = np.empty((3, len(games)), np.int64)
        values[0], values[1] = games.final[:, 0], games.final[:, 1]
        values[2] = games.moves[:, 3]
        infos = Infos(_info, values, self._terms)
        infos[0]["frame"] = move_frame(games)
        return infos

    def end_infos(self, infos: Infos, ended: NDArray[np.int64]) -> None:
        """Add to the infos of a step how games have ended."""
        infos.end(ended, self.truncated[ended], self._look_back(ended))

    def first_infos(self) -> list[Info]:
        """Return every game's info before its next step."""
        games = self.games
        return [
            {"lines": lines, "pieces": pieces, "lines_cleared": 0}
            for lines, pieces in zip(
                games.lines.tolist(), games.pieces.tolist(), strict=True
            )
        ]

    def action_masks(self) -> NDArray[np.bool_]:
        """Return which actions are legal: (n, 4 × columns)."""
        return self.games.mask()

    def get_state(self, game: int | None = None) -> State:
        """Return everything between two steps, generators included, as copies.

        Args:
            game: of this one alone.
        """
        return self.games.get_state(game)

    def set_state(self, state: State, game: int | None = None) -> None:
        """Go on from a state, all games or one.

        Raises:
            ValueError: it is not one; nothing is changed.
        """
        self.games.set_state(state, game)
        self.rewards.begin()

    def check_first(self, state: State) -> State:
        """Return the state of one game if an episode can begin from it.

        Raises:
            ValueError: it can't.
        """
        return self.games.check_state(state, 0)

    # Pictures

    def to_ansi(self, has_ended: bool) -> str:
        """Return game 0 as text; at its end, its last board."""
        return to_ansi(self.games.after if has_ended else self.games.cells)

    def to_rgb(self, has_ended: bool) -> NDArray[np.uint8]:
        """Return a picture of game 0; at its end, of its last board."""
        return to_rgb(self.games.after if has_ended else self.games.cells)

    def pictures(self) -> list[NDArray[np.uint8]]:
        """Return a picture of every game; those but the first are grey."""
        return [to_rgb(self.games.cells_of(game)) for game in range(len(self.games))]


def _info(lines: int, pieces: int, cleared: int, terms: dict[str, float]) -> Info:
    return {
        "lines": lines,
        "pieces": pieces,
        "lines_cleared": cleared,
        "reward_terms": terms,
    }


def move_frame(games: Games) -> Info:
    """Return game 0's last move, fit to be drawn.

    `cells` and `board`: (rows, columns) uint8, top row first, before and after the
    move; `piece`, `rotation`; `column`, `row`: the top left of the piece's box where it
    landed; `next`: the pieces that were to come; `lines`, `pieces` after the move.
    """
    rotation, column, _, _ = games.moves[0].tolist()
    lines, pieces = games.final[0].tolist()
    return {
        "cells": games.before,
        "board": games.after,
        "piece": games.placed,
        "rotation": rotation,
        "column": column,
        "row": games.landing_row(),
        "next": games.shown,
        "lines": lines,
        "pieces": pieces,
    }
