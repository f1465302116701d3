"""Guideline Tetris as a learning problem: a key, or a reachable placement, a step.

Owns the spaces, rewards, infos and ends of episodes of games under guideline rules.
Deliberately doesn't know the rules (`game.guideline`), gymnasium's or SB3's interface.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, Space
from numpy.typing import NDArray

from tetris_widget.envs.infos import Info, Infos
from tetris_widget.envs.observations import Observed
from tetris_widget.envs.rewards import Rewards, Terms
from tetris_widget.game.games import check_whole
from tetris_widget.game.guideline import GuidelineGames
from tetris_widget.game.guideline_kernels import HIDDEN_ROWS, fill_planes, summarise
from tetris_widget.game.render import view_to_ansi, view_to_rgb
from tetris_widget.game.state import State

OBSERVATIONS = ("board", "flat", "dict")
_NO_LIMIT = 2**62


class _Page(NamedTuple):
    """A buffer for the observations of n games.

    Attributes:
        flat: (n, size).
        image: (n, planes, rows, columns) if that is what is observed, else none.
        shown: (n, flags), those that `image` shows.
    """

    flat: NDArray[np.uint8]
    image: NDArray[np.uint8]
    shown: NDArray[np.uint8]


class Guideline:
    """Games under guideline rules, and what of them is an observation or an info.

    Observations, all of them 0 or 1: `dict`: `planes` (3, rows, columns), top row
    first: full cells, the falling piece, its ghost; and `pieces`, one-hot: the falling
    piece, the next ones, and, if there is hold, the held one (all 0: none) and whether
    hold may be used: 7 × (1 + previews), and 8 more with hold. `flat`: both in one
    vector, for MLPs. `board`: (3 + those, rows, columns), a picture for convolutions:
    the planes, and one of zeros or ones for each number of `pieces`. Two buffers take
    turns: SB3 keeps the last observation while the env already steps.

    Games that end stay as they are until they are begun anew.

    Raises:
        ValueError: an option is out of its bounds.
    """

    begins_anew: ClassVar[bool] = False

    def __init__(
        self,
        n: int,
        *,
        rows: int,
        columns: int,
        randomizer: str,
        is_keys: bool,
        observation: str,
        reward: Mapping[str, float],
        gamma: float,
        previews: int,
        hold: bool,
        tick: float,
        level: int,
        max_pieces: int | None,
        seed: int | None,
    ) -> None:
        if max_pieces is not None:
            max_pieces = check_whole("max_pieces", max_pieces, 1, _NO_LIMIT)
        self.games = games = GuidelineGames(
            n,
            rows,
            columns,
            previews=previews,
            hold=hold,
            randomizer=randomizer,
            tick=tick,
            level=level,
            seed=seed,
        )
        n = len(games)
        self._is_keys = is_keys
        self._observation = observation
        self._max_pieces = max_pieces
        self._planes = (3, games.rows, games.n_columns)
        self._pages = [self._page(n) for _ in range(2)]
        self._before = games.cells[0, HIDDEN_ROWS:].copy()
        self.over: NDArray[np.bool_] = np.zeros(n, np.bool_)
        self.truncated: NDArray[np.bool_] = np.zeros(n, np.bool_)
        self._is_news = np.ones(n, np.bool_)
        self._which = np.zeros(n, np.int64)
        self._news = np.zeros((n, 4), np.int64)
        self._shown = np.zeros(9 + games.n_previews, np.int64)
        # The last infos, the games that they told of, and those of the others.
        self._infos: Infos | None = None
        self._told = self._which[:0]
        self._earlier: list[Info] = [{}] * n
        # The terms of the last step; none before the first.
        self._terms: Terms = {}
        self.rewards = Rewards(self, reward, gamma)

    @property
    def observation_space(self) -> Space[Any]:
        """The space of an observation."""
        if self._observation == "dict":
            return Dict(
                {
                    "planes": Box(0, 1, self._planes, np.uint8),
                    "pieces": Box(0, 1, (self._n_flags,), np.uint8),
                }
            )
        if self._observation == "flat":
            return Box(0, 1, (self.games.observation_size,), np.uint8)
        return Box(0, 1, self._image, np.uint8)

    @property
    def action_space(self) -> Discrete:
        """The keys, or the placements."""
        games = self.games
        return Discrete(games.n_keys if self._is_keys else games.n_placements)

    # What `Rewards` asks

    def term(self, name: str) -> NDArray[np.int64]:
        """Return a term of the last step: (n,)."""
        games = self.games.games
        if name == "score":
            return games["gained"].astype(np.int64)
        if name == "survival":
            has_locked: NDArray[np.bool_] = games["locked"] != 0
            return has_locked.astype(np.int64)
        if name == "game_over":
            return games["over"].astype(np.int64)
        cleared: NDArray[np.int64] = games["cleared"].astype(np.int64)
        return cleared if name == "lines" else cleared * cleared

    def surfaces(self) -> NDArray[np.int64]:
        """Return the present boards' surfaces: (n, 3)."""
        return self.games.surfaces()

    def surfaces_around(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the surfaces that the step led to, and those the next begins with."""
        led_to = self.surfaces()
        led_to[self.over] = 0
        following = led_to.copy()
        following[self.truncated] = 0
        return led_to, following

    # Steps

    def begin(self) -> None:
        """Begin every game anew; the generators go on."""
        self.games.begin()
        self._forget()

    def begin_some(self, which: NDArray[np.int64]) -> None:
        """Begin some games anew."""
        self.games.begin(which)

    def step(self, actions: NDArray[np.int64]) -> NDArray[np.float32]:
        """Carry out an action in every game; return the rewards."""
        before = self.games.cells[0, HIDDEN_ROWS:].copy()
        if self._is_keys:
            self.games.step(actions)
        else:
            self.games.place(actions)
        self._before = before
        self._find_ends()
        earlier = self._terms
        rewards, self._terms = self.rewards.take()
        if earlier.keys() != self._terms.keys():
            self._is_news[:] = True
        else:
            for name, term in self._terms.items():
                self._is_news |= term != earlier[name]
        return rewards

    def observe(self) -> Observed:
        """Return every game's observation; valid until the next but one call."""
        self._pages.reverse()
        self.games.observe(self._pages[0].flat)
        return self._layout(self._pages[0])

    def observe_now(self, which: NDArray[np.int64]) -> Observed:
        """Return the observations of some games, to keep."""
        page = self._page(len(which))
        self.games.observe(page.flat, which)
        return self._layout(page)

    def observe_last(self, which: NDArray[np.int64]) -> Observed:
        """Return the last observations of games that have ended, to keep."""
        return self.observe_now(which)

    def infos(self) -> Infos:
        """Return every game's info of the step, new where anything has changed.

        One that was handed out is never changed. That of game 0 has `frame`.
        """
        if self._infos is not None and self._infos.all is not None:
            self._earlier = self._infos.all
        else:  # nobody looked: what they told is news still
            self._is_news[self._told] = True
        self._is_news[0] = True
        count = summarise(
            self.games.games,
            self.games.rules,
            self._max_pieces or 0,
            self._is_news,
            self.over,
            self.truncated,
            self._which,
            self._news,
            self._shown,
        )
        self._told = told = self._which[:count].copy()
        terms = {name: term[told] for name, term in self._terms.items()}
        values = self._news[:count].T.copy()
        self._infos = infos = Infos(_info, values, terms, told, self._earlier)
        infos[0]["frame"] = self.frame()
        return infos

    def end_infos(self, infos: Infos, ended: NDArray[np.int64]) -> None:
        """Add to the infos of a step how games have ended."""
        last = self.observe_last(ended)  # the games are about to begin anew
        infos.end(ended, self.truncated[ended], lambda: last)

    def first_infos(self) -> list[Info]:
        """Return every game's info before its next step."""
        games = self.games.games
        return [
            {
                "lines": lines,
                "pieces": pieces,
                "lines_cleared": 0,
                "score": score,
            }
            for lines, pieces, score in zip(
                games["lines"].tolist(),
                games["pieces"].tolist(),
                games["score"].tolist(),
                strict=True,
            )
        ]

    def action_masks(self) -> NDArray[np.bool_]:
        """Return which actions do something: (n, actions)."""
        if self._is_keys:
            return self.games.mask_keys()
        return self.games.mask_placements()

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
        self._forget()

    def check_first(self, state: State) -> State:
        """Return the state of one game if an episode can begin from it.

        Raises:
            ValueError: it can't.
        """
        checked = self.games.check_state(state, 0)
        if checked["games"]["over"][0]:
            raise ValueError("state: its game is over; allowed: one that goes on")
        placed, most = int(checked["games"]["pieces"][0]), self._max_pieces
        if most is not None and placed >= most:
            raise ValueError(
                f"state: its game has {placed:,} pieces; allowed: fewer than "
                f"max_pieces, {most:,}"
            )
        return checked

    # Pictures

    def frame(self) -> Info:
        """Return game 0's last step, fit to be drawn, as `placements.move_frame` does.

        The piece is where it locked, or else where it is now; of one that is partly
        hidden, `row` is 0. Also `hold`, `score`, `level`, and whether it `falls` to its
        row with this step: not where a step is a key.
        """
        piece, rotation, column, row, *rest = self._shown.tolist()
        hold, lines, placed, score, level, *following = rest
        return {
            "cells": self._before,
            "board": self.games.cells[0, HIDDEN_ROWS:].copy(),
            "piece": piece,
            "rotation": rotation,
            "column": column,
            "row": row,
            "falls": not self._is_keys,
            "next": following,
            "hold": hold,
            "lines": lines,
            "pieces": placed,
            "score": score,
            "level": level,
        }

    def to_ansi(self, has_ended: bool) -> str:
        """Return game 0 as text."""
        return view_to_ansi(self.games.view(0))

    def to_rgb(self, has_ended: bool) -> NDArray[np.uint8]:
        """Return a picture of game 0."""
        return view_to_rgb(self.games.view(0))

    def pictures(self) -> list[NDArray[np.uint8]]:
        """Return a picture of every game."""
        return [view_to_rgb(self.games.view(game)) for game in range(len(self.games))]

    @property
    def _n_flags(self) -> int:
        return self.games.observation_size - self.games.planes_size

    @property
    def _image(self) -> tuple[int, int, int]:
        planes, rows, columns = self._planes
        return planes + self._n_flags, rows, columns

    def _page(self, n: int) -> _Page:
        has_image = self._observation == "board"
        return _Page(
            np.zeros((n, self.games.observation_size), np.uint8),
            np.zeros((n, *self._image) if has_image else 0, np.uint8),
            np.zeros((n, self._n_flags), np.uint8),
        )

    def _layout(self, page: _Page) -> Observed:
        if self._observation == "flat":
            return page.flat
        size = self.games.planes_size
        planes = page.flat[:, :size].reshape(len(page.flat), *self._planes)
        flags = page.flat[:, size:]
        if self._observation == "dict":
            return {"planes": planes, "pieces": flags}
        page.image[:, : len(planes[0])] = planes
        fill_planes(flags, page.shown, len(planes[0]), page.image)
        return page.image

    def _forget(self) -> None:
        """Make all infos new the next time: the games are others."""
        self._is_news[:] = True
        self._terms = {}
        self.rewards.begin()

    def _find_ends(self) -> None:
        games = self.games.games
        self.over = games["over"].copy()
        if self._max_pieces is not None:
            self.truncated = ~self.over & (games["pieces"] >= self._max_pieces)


def _info(
    lines: int, pieces: int, cleared: int, score: int, terms: dict[str, float]
) -> Info:
    return {
        "lines": lines,
        "pieces": pieces,
        "lines_cleared": cleared,
        "score": score,
        "reward_terms": terms,
    }
