"""Many games as one Stable-Baselines3 VecEnv, without a Python loop over them.

Owns episodes: rewards, infos, automatic resets. Deliberately doesn't know learners.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, overload

import numpy as np
from gymnasium.spaces import Discrete
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices

from tetris_widget.config import DEFAULT_REWARD
from tetris_widget.envs.observations import Observer, observation_space
from tetris_widget.envs.rewards import (
    DEFAULT_GAMMA,
    POINTS,
    Rewards,
    Terms,
    all_terms,
    terms_of,
)
from tetris_widget.game import Games, kernels
from tetris_widget.game.render import to_rgb
from tetris_widget.game.state import Field, State, split, take

Info = dict[str, Any]
ILLEGAL = ("nearest", "raise")


class Infos(Sequence[Info]):
    """The infos of a step, one per env, each made when it is first asked for.

    Most are never looked at, and a thousand dicts cost more than a thousand moves. What
    is put into one stays there; but infos may have the same `reward_terms`.

    Args:
        final: (n, 2) lines and pieces of each env after the step.
        cleared: (n,) lines cleared by the step.
        terms: (n,) each of the reward's, before its weight.
    """

    def __init__(
        self, final: NDArray[np.int64], cleared: NDArray[np.int64], terms: Terms
    ) -> None:
        self._final = final
        self._cleared = cleared
        self._terms = terms
        # Those that were asked for; all of them, once they were gone through.
        self._made: dict[int, Info] = {}
        self._all: list[Info] | None = None

    def __len__(self) -> int:
        return len(self._cleared)

    @overload
    def __getitem__(self, index: int) -> Info: ...
    @overload
    def __getitem__(self, index: slice) -> list[Info]: ...
    def __getitem__(self, index: int | slice) -> Info | list[Info]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        # Refuses what a list would, and counts negative indices from the end.
        index = range(len(self))[index]
        if self._all is not None:
            return self._all[index]
        made = self._made.get(index)
        if made is None:
            lines, pieces = self._final[index].tolist()
            made = {
                "lines": lines,
                "pieces": pieces,
                "lines_cleared": int(self._cleared[index]),
                "reward_terms": terms_of(self._terms, index),
            }
            self._made[index] = made
        return made

    def __iter__(self) -> Iterator[Info]:
        if self._all is None:
            self._all = self._make_all()
        return iter(self._all)

    def _make_all(self) -> list[Info]:
        rows = zip(
            *self._final.T.tolist(),
            self._cleared.tolist(),
            all_terms(self._terms),
            strict=True,
        )
        made: list[Info] = [
            {
                "lines": lines,
                "pieces": pieces,
                "lines_cleared": cleared,
                "reward_terms": terms,
            }
            for lines, pieces, cleared, terms in rows
        ]
        for env, info in self._made.items():
            made[env] = info
        return made


class TetrisVecEnv(VecEnv):
    """`n_envs` games of Tetris under benchmark rules.

    Observations: see `envs.observations`. Actions: `rotation × columns + column`. An
    episode is terminated when the next piece has no placement, and truncated after
    `max_pieces`.

    `infos[i]` (see `Infos`) has `lines` and `pieces` (of this episode so far, at its
    end the final ones), `lines_cleared` (by this step) and `reward_terms` (of this
    step, before their weights); `infos[0]` also has `frame`, see `move_frame`.

    Args:
        n_envs: how many games.
        rows: 4 to 28.
        columns: 4 to 12.
        randomizer: `bag` or `uniform`.
        observation: `afterstates` or `board`.
        reward: a weight for each of its terms (`config.REWARD_TERMS`, see
            `envs.rewards`); one whose weight is 0 is only reported. Can be changed at
            any time: `set_attr("reward", {"lines": 1, "holes": -0.5})`.
        gamma: the learner's discount, by which shaping must discount too.
        illegal: what an action is that isn't legal: `nearest`, it stands for the
            nearest that is; `raise`, an error that says which are.
        max_pieces: None: never truncated.
        seed: env `i` plays the games of `TetrisEnv` with seed `seed + i`.
    """

    def __init__(
        self,
        n_envs: int,
        *,
        rows: int = 20,
        columns: int = 10,
        randomizer: str = "bag",
        observation: str = "afterstates",
        reward: Mapping[str, float] = DEFAULT_REWARD,
        gamma: float = DEFAULT_GAMMA,
        illegal: str = "nearest",
        max_pieces: int | None = None,
        seed: int | None = None,
    ) -> None:
        self.games = Games(n_envs, rows, columns, randomizer, seed, max_pieces)
        self._is_strict = is_strict(illegal)
        self._rewards = Rewards(Placements(self.games), reward, gamma)
        self._observer = Observer(observation, self.games)
        self._actions = np.zeros(n_envs, np.int64)
        self.render_mode = "rgb_array"
        super().__init__(
            n_envs,
            observation_space(observation, rows, columns),
            Discrete(self.games.n_actions),
        )

    def reset(self) -> NDArray[Any]:
        """Begin every game anew and return the observations."""
        if any(seed is not None for seed in self._seeds):
            self.games.seed(self._seeds[0])
        self._reset_seeds()
        self.games.reset()
        self._rewards.begin()
        first = {"lines": 0, "pieces": 0, "lines_cleared": 0}
        self.reset_infos = [dict(first) for _ in range(self.num_envs)]
        return self._observe()

    def step_async(self, actions: NDArray[np.int64]) -> None:
        """Take the actions of the next step: (n_envs,) integers."""
        self._actions = np.ascontiguousarray(actions, np.int64)

    def step_wait(self) -> Any:
        """Carry out the step; return observations, rewards, dones, infos.

        Raises:
            ValueError: an action is out of range, or, where `illegal` says so, not
                legal; no game is changed.
        """
        games = self.games
        if self._is_strict:
            check_legal(games, self._actions)
        games.step(self._actions)
        dones = games.terminated | games.truncated
        rewards, terms = self._rewards.take()
        return self._observe(), rewards, dones, self._new_infos(dones, terms)

    @property
    def reward(self) -> dict[str, float]:
        """The weights of the reward's terms, as a copy; can be set at any time."""
        return self._rewards.weights

    @reward.setter
    def reward(self, weights: Mapping[str, float]) -> None:
        self._rewards.weights = weights

    @property
    def actions(self) -> NDArray[np.int64]:
        """The actions of the last step: (n_envs,)."""
        return self._actions

    def action_masks(self) -> NDArray[np.bool_]:
        """Return which actions are legal: (n_envs, 4 × columns) bool."""
        return self.games.mask()

    def get_state(self) -> State:
        """Return everything between two steps, generators included, as copies."""
        return self.games.get_state() | take(self._fields())

    def set_state(self, state: State) -> None:
        """Go on from a state that an env like this was in, bit for bit.

        Raises:
            ValueError: it is not one; the message names the field; nothing is changed.
        """
        own, games = split(state, self._fields())
        self.games.set_state(games)
        self._rewards.begin()
        seed = int(own["seed"])
        self._seeds = [None if seed < 0 else seed + i for i in range(self.num_envs)]

    def _fields(self) -> dict[str, Field]:
        # The seed that waits for the next reset; -1 is none.
        seed = self._seeds[0]
        return {"seed": Field(np.array(-1 if seed is None else seed), -1, 2**62)}

    def _observe(self) -> NDArray[Any]:
        return self._observer.observe(self.games.columns, self.games.piece)

    def _new_infos(self, dones: NDArray[np.bool_], terms: Terms) -> Infos:
        games = self.games
        infos = Infos(games.final.copy(), games.moves[:, 3].copy(), terms)
        infos[0]["frame"] = move_frame(games)
        ended = np.flatnonzero(dones)
        if len(ended):
            last = self._observer.observe_once(
                games.final_columns[ended], games.final_piece[ended]
            )
            truncated = games.truncated[ended].tolist()
            for env, seen, is_cut in zip(ended.tolist(), last, truncated, strict=True):
                info = infos[env]
                info["terminal_observation"] = seen
                info["TimeLimit.truncated"] = is_cut
        return infos

    # The rest of SB3's interface

    def close(self) -> None:
        """Nothing is open."""

    def get_images(self) -> Sequence[NDArray[np.uint8] | None]:
        """Return a picture of game 0; the others' colours are not kept."""
        return [to_rgb(self.games.cells), *[None] * (self.num_envs - 1)]

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Return an attribute, the same for every env."""
        value = getattr(self, attr_name)
        return [value for _ in self._get_indices(indices)]

    def set_attr(
        self, attr_name: str, value: Any, indices: VecEnvIndices = None
    ) -> None:
        """Set an attribute of all envs at once."""
        setattr(self, attr_name, value)

    def env_method(
        self,
        method_name: str,
        *method_args: Any,
        indices: VecEnvIndices = None,
        **method_kwargs: Any,
    ) -> list[Any]:
        """Call a method for all envs, and return the chosen envs' results."""
        results = getattr(self, method_name)(*method_args, **method_kwargs)
        return [results[index] for index in self._get_indices(indices)]

    def env_is_wrapped(
        self, wrapper_class: type[Any], indices: VecEnvIndices = None
    ) -> list[bool]:
        """No env is wrapped."""
        return [False for _ in self._get_indices(indices)]


def is_strict(illegal: str) -> bool:
    """Return whether actions that aren't legal are an error.

    Raises:
        ValueError: `illegal` is neither `nearest` nor `raise`.
    """
    if illegal not in ILLEGAL:
        raise ValueError(f"illegal: {illegal!r}; allowed: {', '.join(ILLEGAL)}")
    return illegal == "raise"


def check_legal(games: Games, actions: NDArray[np.int64]) -> None:
    """Raise ValueError if an action is not legal; `Games.step` checks their range."""
    mask = games.mask()
    chosen = np.clip(actions, 0, games.n_actions - 1)
    is_wrong = ~mask[np.arange(len(games)), chosen] & (chosen == actions)
    if is_wrong.any():
        game = int(is_wrong.argmax())
        allowed = ", ".join(map(str, np.flatnonzero(mask[game]).tolist()))
        raise ValueError(
            f"action: {actions[game]} is not legal in game {game}; allowed: {allowed}"
        )


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


class Placements:
    """What `envs.rewards` asks about the steps of games under benchmark rules."""

    def __init__(self, games: Games) -> None:
        self._games = games

    def term(self, name: str) -> NDArray[np.int64]:
        """Return a term of the last step: (n,)."""
        games = self._games
        cleared: NDArray[np.int64] = games.moves[:, 3]
        if name == "lines":
            return cleared.copy()
        if name == "lines_squared":
            return cleared * cleared
        if name == "score":
            points: NDArray[np.int64] = POINTS[cleared]
            return points
        if name == "survival":  # a piece that would not fit was not placed
            placed: NDArray[np.bool_] = games.moves[:, 2] != kernels.NOT_LEGAL
            return placed.astype(np.int64)
        return games.terminated.astype(np.int64)

    def surfaces(self) -> NDArray[np.int64]:
        """Return the present boards' surfaces: (n, 3)."""
        return self._games.surfaces(self._games.columns)

    def surfaces_around(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the surfaces that the step led to, and those the next begins with."""
        games = self._games
        following = self.surfaces()
        cut = games.truncated
        if not cut.any():
            # Games that are over have begun anew, with nothing on their boards.
            return following, following
        led_to = following.copy()
        led_to[cut] = games.surfaces(games.final_columns[cut])
        return led_to, following
