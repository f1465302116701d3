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

from tetris_widget.envs.observations import Observer, observation_space
from tetris_widget.game import Games
from tetris_widget.game.render import to_rgb
from tetris_widget.game.state import Field, State, split, take

Info = dict[str, Any]
REWARDS = ("lines", "survival")


class Infos(Sequence[Info]):
    """The infos of a step, one per env, each made when it is first asked for.

    Most are never looked at, and a thousand dicts cost more than a thousand moves. What
    is put into one stays there.

    Args:
        final: (n, 2) lines and pieces of each env after the step.
        cleared: (n,) lines cleared by the step.
    """

    def __init__(self, final: NDArray[np.int64], cleared: NDArray[np.int64]) -> None:
        self._final = final
        self._cleared = cleared
        self._made: dict[int, Info] = {}

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
        made = self._made.get(index)
        if made is None:
            lines, pieces = self._final[index].tolist()
            cleared = int(self._cleared[index])
            made = {"lines": lines, "pieces": pieces, "lines_cleared": cleared}
            self._made[index] = made
        return made

    def __iter__(self) -> Iterator[Info]:
        rows = zip(self._final.tolist(), self._cleared.tolist(), strict=True)
        for env, ((lines, pieces), cleared) in enumerate(rows):
            made = {"lines": lines, "pieces": pieces, "lines_cleared": cleared}
            yield self._made.setdefault(env, made)


class TetrisVecEnv(VecEnv):
    """`n_envs` games of Tetris under benchmark rules.

    Observations: see `envs.observations`. Actions: `rotation × columns + column`; those
    that are not legal stand for the nearest that is. An episode is terminated when the
    next piece has no placement, and truncated after `max_pieces`.

    `infos[i]` (see `Infos`) has `lines` and `pieces` (of this episode so far, at its
    end the final ones) and `lines_cleared` (by this step); `infos[0]` also has `frame`,
    see `move_frame`.

    Args:
        n_envs: how many games.
        rows: 4 to 28.
        columns: 4 to 12.
        randomizer: `bag` or `uniform`.
        observation: `afterstates` or `board`.
        reward: weights of `lines` that the step clears, and of `survival`, which is 1
            for a piece that was placed.
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
        reward: Mapping[str, float] | None = None,
        max_pieces: int | None = None,
        seed: int | None = None,
    ) -> None:
        self._reward = {"lines": 1.0} if reward is None else dict(reward)
        unknown = sorted(set(self._reward) - set(REWARDS))
        if unknown:
            allowed = ", ".join(REWARDS)
            raise ValueError(f"reward: {unknown[0]!r}; allowed: {allowed}")
        self.games = Games(n_envs, rows, columns, randomizer, seed, max_pieces)
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
        first = {"lines": 0, "pieces": 0, "lines_cleared": 0}
        self.reset_infos = [dict(first) for _ in range(self.num_envs)]
        return self._observe()

    def step_async(self, actions: NDArray[np.int64]) -> None:
        """Take the actions of the next step: (n_envs,) integers."""
        self._actions = np.ascontiguousarray(actions, np.int64)

    def step_wait(self) -> Any:
        """Carry out the step; return observations, rewards, dones, infos."""
        games = self.games
        games.step(self._actions)
        dones = games.terminated | games.truncated
        return self._observe(), self._rewards(), dones, self._new_infos(dones)

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
        seed = int(own["seed"])
        self._seeds = [None if seed < 0 else seed + i for i in range(self.num_envs)]

    def _fields(self) -> dict[str, Field]:
        # The seed that waits for the next reset; -1 is none.
        seed = self._seeds[0]
        return {"seed": Field(np.array(-1 if seed is None else seed), -1, 2**62)}

    def _observe(self) -> NDArray[Any]:
        return self._observer.observe(self.games.columns, self.games.piece)

    def _rewards(self) -> NDArray[np.float32]:
        moves = self.games.moves
        # A piece that would not fit was not placed.
        survived = self._reward.get("survival", 0.0) * (moves[:, 2] >= 0)
        rewards = survived + self._reward.get("lines", 0.0) * moves[:, 3]
        return rewards.astype(np.float32)

    def _new_infos(self, dones: NDArray[np.bool_]) -> Infos:
        games = self.games
        infos = Infos(games.final.copy(), games.moves[:, 3].copy())
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
