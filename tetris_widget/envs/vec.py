"""Many games as one Stable-Baselines3 VecEnv, without a Python loop over them.

Owns SB3's interface to a problem: automatic resets, seeds, what can be set while it
runs. Deliberately doesn't know rules, rewards or learners.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tetris_widget.config import DEFAULT_REWARD
from tetris_widget.envs.array_env import ArrayVecEnv
from tetris_widget.envs.options import (
    DEFAULT_LEVEL,
    DEFAULT_TICK,
    ILLEGAL,
    MAX_SEED,
    check_seed,
    choose,
    env_fields,
    first_state,
    make_problem,
    refuse_illegal,
)
from tetris_widget.envs.rewards import DEFAULT_GAMMA
from tetris_widget.game.games import whole_actions
from tetris_widget.game.state import Field, State, split, take

Options = dict[str, Any]


class TetrisVecEnv(ArrayVecEnv):
    """`n_envs` games of Tetris.

    `env_method` calls `action_masks`, `get_state` and `set_state` of single games,
    whose states are those of a `TetrisEnv`.

    Actions: `placements` under benchmark rules, `rotation × columns + column`, those
    that are not legal stand for the nearest that is (see `game.kernels.fold`; one that
    is too high: `nearest_legal`); `keys` under guideline rules, one of
    `game.guideline.KEYS` a step, after which a tick passes (a key that is blocked does
    nothing); or `reachable` under guideline rules, one of the placements that keys can
    reach, or hold, a step, and no time passes (see `GuidelineGames.mask_placements`;
    one out of reach stands for the next in reach).

    Observations of placements: see `envs.observations`; of the others: `envs.keys`.
    SB3's MlpPolicy takes `flat` and `board`, its MultiInputPolicy `dict` and `both`.
    Its CnnPolicy takes `board` with a network for small boards in the place of its own:
    `PPO("CnnPolicy", env, policy_kwargs={"features_extractor_class": BoardExtractor})`,
    with `from tetris_widget import BoardExtractor`.

    An episode is terminated when the game is over (of placements: when the next piece
    has none), and truncated after `max_pieces`.

    `infos[i]` has `lines` and `pieces` (of this episode so far, at its end the final
    ones), `lines_cleared` and `reward_terms` (by this step, before their weights);
    under guideline rules also `score`. `infos[0]` also has `frame`, see `move_frame`
    and `Guideline.frame`.

    Args:
        n_envs: how many games.
        rows: 4 to 28.
        columns: 4 to 12.
        randomizer: `bag` or `uniform`.
        action: `placements`, `keys` or `reachable`.
        observation: `afterstates` (the default of placements), `heights`, `both`,
            `board`, `flat` (the default of the others) or `dict`; the first three of
            placements only.
        reward: a weight for each of its terms (`config.REWARD_TERMS`, see
            `envs.rewards`); one whose weight is 0 is only reported. Can be changed at
            any time: `set_attr("reward", {"lines": 1, "holes": -0.5})`. Under guideline
            rules `score` are the points, and a piece survives when it locks.
        gamma: the learner's discount, by which shaping must discount too.
        previews: 0 to 6; None: 0 for placements, 5 for the others.
        hold: whether there is hold; None: not for placements, which have none.
        tick: seconds that pass with a key, 0.001 to 1; not for placements.
        level: at which games under guideline rules begin, 1 to 20; not for placements.
        max_pieces: None: never truncated.
        illegal: what an action is that isn't legal: `nearest`, it stands for the
            nearest that is (a key, for none); `raise`, an error that says which are,
            and no game is changed. An error in any case: one that is no integer, or out
            of range.
        seed: 0 to 2^62; env `i` plays the games of `TetrisEnv` with seed `seed + i`.

    Raises:
        ValueError: an option is out of its bounds, or does not fit another one.
    """

    def __init__(
        self,
        n_envs: int,
        *,
        rows: int = 20,
        columns: int = 10,
        randomizer: str = "bag",
        action: str = "placements",
        observation: str | None = None,
        reward: Mapping[str, float] = DEFAULT_REWARD,
        gamma: float = DEFAULT_GAMMA,
        previews: int | None = None,
        hold: bool | None = None,
        tick: float = DEFAULT_TICK,
        level: int = DEFAULT_LEVEL,
        max_pieces: int | None = None,
        illegal: str = "nearest",
        seed: int | None = None,
    ) -> None:
        seed = check_seed(seed)
        problem = make_problem(
            n_envs,
            rows=rows,
            columns=columns,
            randomizer=randomizer,
            action=action,
            observation=observation,
            reward=reward,
            gamma=gamma,
            previews=previews,
            hold=hold,
            tick=tick,
            level=level,
            max_pieces=max_pieces,
            seed=seed,
        )
        self._problem = problem
        # A `Games`, or a `GuidelineGames`.
        self.games: Any = problem.games
        self._is_strict = choose("illegal", illegal, ILLEGAL) == "raise"
        self._n_actions = int(problem.action_space.n)
        n_envs = len(self.games)
        self._actions = np.zeros(n_envs, np.int64)
        self.render_mode = "rgb_array"
        super().__init__(n_envs, problem.observation_space, problem.action_space)
        if seed is not None:
            self.seed(seed)

    @property
    def reward(self) -> dict[str, float]:
        """The weights of the reward's terms, as a copy; can be set at any time."""
        return self._problem.rewards.weights

    @reward.setter
    def reward(self, weights: Mapping[str, float]) -> None:
        self._problem.rewards.weights = weights

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Seed the games anew at the next reset; see SB3's `VecEnv.seed`.

        Raises:
            ValueError: `seed` is no whole number from 0 to 2^62; the one that waits
                stays.
        """
        return super().seed(check_seed(seed))

    def set_options(self, options: list[Options] | Options | None = None) -> None:
        """Set the options of the next reset, for all games or a dict for each.

        Args:
            options: `state`: the game begins there, a state as `state_from_board`,
                `env_method("get_state")` or `TetrisEnv.get_state` give it; pieces that
                are not drawn yet are those of its seed, if one waits.

        Raises:
            ValueError: an option is unknown, `state` is none of a game that goes on, or
                there are not as many dicts as games; the options stay what they were.
        """
        given = {} if options is None else options
        different = given if isinstance(given, list) else [given]
        if isinstance(given, list) and len(given) != self.num_envs:
            raise ValueError(
                f"options: {len(given)} dicts; allowed: {self.num_envs}, or one for all"
            )
        for one in different:
            first_state(self._problem, one)
        super().set_options(options)

    def reset(self) -> Any:
        """Begin every game anew and return the observations."""
        problem, seed = self._problem, self._seeds[0]
        if seed is not None:
            problem.games.seed(seed)
        problem.begin()
        for game, options in enumerate(self._options):
            state = first_state(problem, options) if options else None
            if state is not None:
                problem.set_state(state, game)
                if seed is not None:
                    problem.games.seed(seed + game, game)
        self._reset_seeds()
        self._reset_options()
        self.reset_infos = problem.first_infos()
        return problem.observe()

    def step_async(self, actions: NDArray[np.int64]) -> None:
        """Take the actions of the next step: (n_envs,) integers.

        Raises:
            ValueError: they are none; no game is changed.
        """
        self._actions = whole_actions("action", actions, self.num_envs, self._n_actions)

    def step_wait(self) -> Any:
        """Carry out the step; return observations, rewards, dones, infos.

        Raises:
            ValueError: an action is out of range, or, where `illegal` says so, not
                legal; no game is changed.
        """
        problem = self._problem
        if self._is_strict:
            refuse_illegal(problem, self._actions)
        rewards = problem.step(self._actions)
        infos = problem.infos()
        dones = problem.over | problem.truncated
        ended = np.flatnonzero(dones)
        if len(ended):
            self._end(ended, infos)
        return problem.observe(), rewards, dones, infos

    @property
    def actions(self) -> NDArray[np.int64]:
        """The actions of the last step: (n_envs,)."""
        return self._actions

    def action_masks(self) -> NDArray[np.bool_]:
        """Return which actions are legal, or do something: (n_envs, actions) bool."""
        return self._problem.action_masks()

    def get_state(self) -> State:
        """Return everything between two steps, generators included, as copies.

        Options that wait for a reset are not part of it.
        """
        return self._problem.get_state() | take(self._fields())

    def set_state(self, state: State) -> None:
        """Go on from a state that an env like this was in, bit for bit.

        Raises:
            ValueError: it is not one; the message names the field; nothing is changed.
        """
        own, games = split(state, self._fields())
        self._problem.set_state(games)
        seed = int(own["seed"])
        self._seeds = [None if seed < 0 else seed + i for i in range(self.num_envs)]

    def state_from_board(self, board: Any, piece: str | None = None) -> State:
        """Return the state of a game on a board; see `TetrisEnv.state_from_board`."""
        state = self._problem.games.state_from_board(board, piece)
        return state | take(env_fields(has_ended=False))

    def env_methods(self) -> Mapping[str, Callable[..., list[Any]]]:
        """Return what can be called for single games; see `ArrayVecEnv`."""
        return {
            "action_masks": self._masks_of,
            "get_state": self._states_of,
            "set_state": self._set_states_of,
        }

    def get_images(self) -> Sequence[NDArray[np.uint8]]:
        """Return a picture of every game: placements but the first in grey."""
        return self._problem.pictures()

    def _masks_of(self, games: list[int]) -> list[NDArray[np.bool_]]:
        masks = self.action_masks()
        return [masks[game] for game in games]

    def _states_of(self, games: list[int]) -> list[State]:
        own = env_fields(has_ended=False)
        return [self._problem.get_state(game) | take(own) for game in games]

    def _set_states_of(self, games: list[int], state: State) -> list[None]:
        checked = first_state(self._problem, {"state": state})
        assert checked is not None
        for game in games:
            self._problem.set_state(checked, game)
        return [None for _ in games]

    def _fields(self) -> dict[str, Field]:
        # The seed that waits for the next reset; -1 is none.
        seed = self._seeds[0]
        return {"seed": Field(np.array(-1 if seed is None else seed), -1, MAX_SEED)}

    def _end(self, ended: NDArray[np.int64], infos: Any) -> None:
        """Add the last observations to the infos of games that ended; begin anew."""
        self._problem.end_infos(infos, ended)
        self._problem.begin_some(ended)
