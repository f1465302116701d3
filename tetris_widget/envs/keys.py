"""Guideline Tetris as a learning problem: a key, or a reachable placement, a step.

Owns the spaces, rewards, infos and episodes of games under guideline rules.
Deliberately doesn't know the rules (`game.guideline`) or learners.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete
from numpy.typing import NDArray

from tetris_widget.config import DEFAULT_REWARD
from tetris_widget.envs.array_env import ArrayVecEnv
from tetris_widget.envs.rewards import DEFAULT_GAMMA, Rewards, Terms, all_terms
from tetris_widget.game.guideline import GuidelineGames, State
from tetris_widget.game.guideline_kernels import HIDDEN_ROWS, summarise
from tetris_widget.game.render import view_to_ansi, view_to_rgb

OBSERVATIONS = ("flat", "image", "dict")
ACTIONS = ("keys", "reachable")

Array = NDArray[Any]
Info = dict[str, Any]
Observation = Any  # an array, or a dict of them


def _choose(name: str, value: str, allowed: Sequence[str]) -> str:
    if value not in allowed:
        raise ValueError(f"{name}: {value!r}; allowed: {', '.join(allowed)}")
    return value


class _Problem:
    """The games, and what of them is an observation, a reward, an info.

    Every layout is a view of one buffer, so none costs more than another. Two buffers
    take turns: SB3 keeps the last observation while the env already steps.
    """

    def __init__(
        self,
        games: GuidelineGames,
        action: str,
        observation: str,
        reward: Mapping[str, float],
        gamma: float,
        max_pieces: int | None,
    ) -> None:
        if max_pieces is not None and max_pieces < 1:
            raise ValueError(
                f"max_pieces: {max_pieces!r}; allowed: None, or 1 and more"
            )
        self.games = games
        self.is_keys = _choose("action", action, ACTIONS) == "keys"
        self.observation = _choose("observation", observation, OBSERVATIONS)
        self.max_pieces = max_pieces
        self.rewards = Rewards(self, reward, gamma)
        self._planes = (3, games.rows, games.n_columns)
        self._buffers = [self._buffer(len(games)) for _ in range(2)]
        self._before = games.cells[0, HIDDEN_ROWS:].copy()
        n = len(games)
        self.over: NDArray[np.bool_] = np.zeros(n, np.bool_)
        self.truncated: NDArray[np.bool_] = np.zeros(n, np.bool_)
        self._is_news = np.ones(n, np.bool_)
        self._which = np.zeros(n, np.int64)
        self._news = np.zeros((4, n), np.int64)
        self._shown = np.zeros(9 + games.n_previews, np.int64)
        self._infos: list[Info] = [{}] * n
        # The terms of the last step; 0 before the first.
        self._terms = self._no_terms()

    @property
    def observation_space(self) -> gymnasium.Space[Any]:
        size, planes = self.games.observation_size, self._planes
        flat = Box(0, 1, (size,), np.uint8)
        image = Box(0, 1, planes, np.uint8)
        if self.observation == "dict":
            rest = Box(0, 1, (size - self.games.planes_size,), np.uint8)
            return Dict({"planes": image, "pieces": rest})
        return flat if self.observation == "flat" else image

    @property
    def action_space(self) -> Discrete:
        games = self.games
        return Discrete(games.n_keys if self.is_keys else games.n_placements)

    def _buffer(self, n: int) -> NDArray[np.uint8]:
        return np.zeros((n, self.games.observation_size), np.uint8)

    def _layout(self, buffer: NDArray[np.uint8]) -> Observation:
        if self.observation == "flat":
            return buffer
        size = self.games.planes_size
        planes = buffer[:, :size].reshape(len(buffer), *self._planes)
        if self.observation == "image":
            return planes
        return {"planes": planes, "pieces": buffer[:, size:]}

    def observe(self) -> Observation:
        """Return every game's observation; valid until the next but one call."""
        self._buffers.reverse()
        self.games.observe(self._buffers[0])
        return self._layout(self._buffers[0])

    def observe_some(self, which: NDArray[np.int64]) -> Observation:
        """Return the observations of some games, to keep."""
        buffer = self._buffer(len(which))
        self.games.observe(buffer, which)
        return self._layout(buffer)

    def step(self, actions: NDArray[np.int64]) -> NDArray[np.float32]:
        """Carry out an action in every game, and return the rewards."""
        self._before = self.games.cells[0, HIDDEN_ROWS:].copy()
        if self.is_keys:
            self.games.step(actions)
        else:
            self.games.place(actions)
        before = self._terms
        rewards, self._terms = self.rewards.take()
        if before.keys() != self._terms.keys():
            self._is_news[:] = True
        else:
            for name, term in self._terms.items():
                self._is_news |= term != before[name]
        return rewards

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
        games = self.games.games
        led_to = self.surfaces()
        led_to[games["over"]] = 0
        following = led_to
        if self.max_pieces is not None:
            following = led_to.copy()
            following[games["pieces"] >= self.max_pieces] = 0
        return led_to, following

    def action_masks(self) -> NDArray[np.bool_]:
        """Return which actions do something: (n, actions)."""
        if self.is_keys:
            return self.games.mask_keys()
        return self.games.mask_placements()

    def infos(self) -> list[Info]:
        """Return every game's info, new where anything has changed.

        One that was handed out is never changed.
        """
        games, which, news = self.games, self._which, self._news
        self._is_news[0] = True
        count = summarise(
            games.games,
            games.rules,
            self.max_pieces or 0,
            self._is_news,
            self.over,
            self.truncated,
            which,
            news,
            self._shown,
        )
        self._infos = self._infos.copy()
        infos = self._infos
        told = which[:count]
        terms = all_terms({name: term[told] for name, term in self._terms.items()})
        for env, lines, placed, cleared, score, reward_terms in zip(
            told.tolist(), *news[:, :count].tolist(), terms, strict=True
        ):
            infos[env] = {
                "lines": lines,
                "pieces": placed,
                "lines_cleared": cleared,
                "score": score,
                "reward_terms": reward_terms,
            }
        return infos

    def begin(self, which: NDArray[np.int64] | None = None) -> None:
        """Begin games anew, all or some."""
        self.games.begin(which)
        if which is None:
            self.forget()

    def forget(self) -> None:
        """Make all infos new the next time: the games are others."""
        self._is_news[:] = True
        self._terms = self._no_terms()
        self.rewards.begin()

    def _no_terms(self) -> Terms:
        nothing = np.zeros(len(self.games), np.int64)
        return dict.fromkeys(self.rewards.weights, nothing)

    def frame(self) -> Info:
        """Return game 0's last step, fit to be drawn, as `envs.vec.move_frame` does.

        The piece is where it locked, or else where it is now; of one that is partly
        hidden, `row` is 0. Also `hold`, `score` and `level`.
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
            "next": following,
            "hold": hold,
            "lines": lines,
            "pieces": placed,
            "score": score,
            "level": level,
        }


class TetrisKeysEnv(gymnasium.Env[Observation, np.int64]):
    """One game of Tetris under guideline rules; see `TetrisKeysVecEnv` for all else.

    Args:
        render_mode: `ansi`, `rgb_array` or None.
    """

    metadata: ClassVar[dict[str, Any]] = {  # type: ignore[misc]
        "render_modes": ["ansi", "rgb_array"],
        "render_fps": 10,
    }

    def __init__(
        self,
        *,
        rows: int = 20,
        columns: int = 10,
        action: str = "keys",
        observation: str = "flat",
        reward: Mapping[str, float] = DEFAULT_REWARD,
        gamma: float = DEFAULT_GAMMA,
        previews: int = 5,
        hold: bool = True,
        randomizer: str = "bag",
        tick: float = 0.1,
        level: int = 1,
        max_pieces: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        allowed = (None, *self.metadata["render_modes"])
        if render_mode not in allowed:
            raise ValueError(f"render_mode: {render_mode!r}; allowed: {allowed}")
        self.render_mode = render_mode
        self.games = GuidelineGames(
            1,
            rows,
            columns,
            previews=previews,
            hold=hold,
            randomizer=randomizer,
            tick=tick,
            level=level,
        )
        self._problem = _Problem(
            self.games, action, observation, reward, gamma, max_pieces
        )
        self.observation_space = self._problem.observation_space
        self.action_space: Any = self._problem.action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, Info]:
        """Begin a game; with a seed, always the same one.

        Args:
            options: `state`: go on from there, as `get_state` gave it.

        Raises:
            ValueError: an option is unknown, or `state` is no state; nothing changes.
        """
        options = options or {}
        unknown = sorted(set(options) - {"state"})
        if unknown:
            raise ValueError(f"options: {unknown[0]!r}; allowed: 'state'")
        if "state" in options:
            self.set_state(options["state"])
        super().reset(seed=seed)
        if seed is not None:
            self.games.seed(seed)
        if "state" not in options:
            self._problem.begin()
        info = {**self._problem.infos()[0], "lines_cleared": 0}
        return self._observe(), info

    def step(self, action: np.int64) -> tuple[Observation, float, bool, bool, Info]:
        """Press a key and let a tick pass, or place the piece.

        Raises:
            ValueError: the action is out of range; the game is unchanged.
        """
        problem = self._problem
        rewards = problem.step(np.array([action], np.int64))
        info = problem.infos()[0]
        info["frame"] = problem.frame()
        reward = float(rewards[0])
        terminated, truncated = bool(problem.over[0]), bool(problem.truncated[0])
        return self._observe(), reward, terminated, truncated, info

    @property
    def reward(self) -> dict[str, float]:
        """The weights of the reward's terms, as a copy; can be set at any time."""
        return self._problem.rewards.weights

    @reward.setter
    def reward(self, weights: Mapping[str, float]) -> None:
        self._problem.rewards.weights = weights

    def action_masks(self) -> NDArray[np.bool_]:
        """Return which actions do something: (actions,) bool."""
        masks: NDArray[np.bool_] = self._problem.action_masks()[0]
        return masks

    def get_state(self) -> State:
        """Return a copy of the game, its generator included."""
        return self.games.get_state()

    def set_state(self, state: State) -> None:
        """Go on from a state, bit for bit.

        Raises:
            ValueError: it is no state of such a game; nothing is changed.
        """
        self.games.set_state(state)
        self._problem.forget()

    def render(self) -> Any:
        """Return the game as coloured text or as an (h, w, 3) uint8 picture."""
        if self.render_mode == "ansi":
            return view_to_ansi(self.games.view(0))
        if self.render_mode == "rgb_array":
            return view_to_rgb(self.games.view(0))
        return None

    def _observe(self) -> Observation:
        observation = self._problem.observe_some(np.arange(1))
        if isinstance(observation, dict):
            return {name: part[0] for name, part in observation.items()}
        return observation[0]


class TetrisKeysVecEnv(ArrayVecEnv):
    """`n_envs` games of Tetris under guideline rules.

    Actions: `keys`, one of `game.guideline.KEYS` a step, after which a tick passes (a
    key that is blocked does nothing); or `reachable`, one of the placements that keys
    can reach, or hold, a step, and no time passes (see
    `GuidelineGames.mask_placements`; one out of reach stands for the next in reach).

    Observations, all of them 0 or 1: `flat`, one vector, for MLPs; `image`, its first
    part alone: (3, rows, columns), top row first: full cells, the falling piece, its
    ghost; `dict`, these as `planes`, and the second part, `pieces`, one-hot: the
    falling piece, the next ones, the held one (all 0: none), and whether hold may be
    used.

    An episode is terminated when the game is over, and truncated after `max_pieces`.

    `infos[i]` has `lines`, `pieces` and `score` (of this episode so far, at its end the
    final ones), `lines_cleared` and `reward_terms` (by this step, before their
    weights); `infos[0]` also has `frame`, see `_Problem.frame`. One in which nothing
    has changed is handed out again.

    Args:
        n_envs: how many games.
        rows: 4 to 28.
        columns: 4 to 12.
        action: `keys` or `reachable`.
        observation: `flat`, `image` or `dict`.
        reward: a weight for each of its terms, as for `TetrisVecEnv`; `score` are the
            guideline's points, and a piece survives when it locks.
        gamma: the learner's discount, by which shaping must discount too.
        previews: 0 to 6.
        hold: whether there is hold.
        randomizer: `bag` or `uniform`.
        tick: seconds that pass with a key, 0.001 to 1.
        level: at which games begin, 1 to 20.
        max_pieces: None: never truncated.
        seed: env `i` plays the games of `TetrisKeysEnv` with seed `seed + i`.
    """

    def __init__(
        self,
        n_envs: int,
        *,
        rows: int = 20,
        columns: int = 10,
        action: str = "keys",
        observation: str = "flat",
        reward: Mapping[str, float] = DEFAULT_REWARD,
        gamma: float = DEFAULT_GAMMA,
        previews: int = 5,
        hold: bool = True,
        randomizer: str = "bag",
        tick: float = 0.1,
        level: int = 1,
        max_pieces: int | None = None,
        seed: int | None = None,
    ) -> None:
        self.games = GuidelineGames(
            n_envs,
            rows,
            columns,
            previews=previews,
            hold=hold,
            randomizer=randomizer,
            tick=tick,
            level=level,
            seed=seed,
        )
        problem = _Problem(self.games, action, observation, reward, gamma, max_pieces)
        self._problem = problem
        self._actions = np.zeros(n_envs, np.int64)
        self.render_mode = "rgb_array"
        super().__init__(n_envs, problem.observation_space, problem.action_space)
        if seed is not None:
            self.seed(seed)

    def reset(self) -> Observation:
        """Begin every game anew and return the observations."""
        if any(seed is not None for seed in self._seeds):
            self.games.seed(self._seeds[0])
        self._reset_seeds()
        self._problem.begin()
        self.reset_infos = self._problem.infos()
        return self._problem.observe()

    def step_async(self, actions: NDArray[np.int64]) -> None:
        """Take the actions of the next step: (n_envs,) integers."""
        self._actions = np.ascontiguousarray(actions, np.int64)

    def step_wait(self) -> Any:
        """Carry out the step; return observations, rewards, dones, infos.

        Raises:
            ValueError: an action is out of range; the games are unchanged.
        """
        problem = self._problem
        rewards = problem.step(self._actions)
        infos = problem.infos()
        infos[0]["frame"] = problem.frame()
        dones = problem.over | problem.truncated
        ended = np.flatnonzero(dones)
        if len(ended):
            self._end(ended, infos)
        return problem.observe(), rewards, dones, infos

    @property
    def reward(self) -> dict[str, float]:
        """The weights of the reward's terms, as a copy; can be set at any time."""
        return self._problem.rewards.weights

    @reward.setter
    def reward(self, weights: Mapping[str, float]) -> None:
        self._problem.rewards.weights = weights

    def action_masks(self) -> NDArray[np.bool_]:
        """Return which actions do something: (n_envs, actions) bool."""
        return self._problem.action_masks()

    def get_state(self) -> State:
        """Return a copy of all games, their generators included."""
        return self.games.get_state()

    def set_state(self, state: State) -> None:
        """Go on from a state, bit for bit.

        Raises:
            ValueError: it is no state of such games; nothing is changed.
        """
        self.games.set_state(state)
        self._problem.forget()

    def get_images(self) -> Sequence[NDArray[np.uint8] | None]:
        """Return a picture of every game."""
        return [view_to_rgb(self.games.view(game)) for game in range(self.num_envs)]

    def _end(self, ended: NDArray[np.int64], infos: list[Info]) -> None:
        """Add the last observations to the infos of games that ended; begin anew."""
        last = self._problem.observe_some(ended)
        for row, env in enumerate(ended.tolist()):
            infos[env]["TimeLimit.truncated"] = bool(self._problem.truncated[env])
            infos[env]["terminal_observation"] = (
                {name: part[row] for name, part in last.items()}
                if isinstance(last, dict)
                else last[row]
            )
        self._problem.begin(ended)
