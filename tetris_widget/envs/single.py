"""One game as a gymnasium environment.

Owns gymnasium's interface to a problem; all else is as in `TetrisVecEnv`. Deliberately
doesn't know rules, rewards or learners.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import gymnasium
import numpy as np
from numpy.typing import NDArray

from tetris_widget.config import DEFAULT_REWARD
from tetris_widget.envs.options import (
    DEFAULT_LEVEL,
    DEFAULT_TICK,
    ILLEGAL,
    check_seed,
    choose,
    env_fields,
    first_state,
    make_problem,
    refuse_illegal,
)
from tetris_widget.envs.rewards import DEFAULT_GAMMA
from tetris_widget.game.games import whole_actions
from tetris_widget.game.state import State, split, take

Observation = Any  # an array, or a dict of them
FIRST = np.zeros(1, np.int64)


class TetrisEnv(gymnasium.Env[Observation, np.int64]):
    """One game of Tetris; see `TetrisVecEnv` for all options but the last.

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
        render_mode: str | None = None,
    ) -> None:
        if render_mode is not None:
            choose("render_mode", render_mode, self.metadata["render_modes"])
        self.render_mode = render_mode
        self._problem = make_problem(
            1,
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
            seed=None,
        )
        self.games = self._problem.games
        self._is_strict = choose("illegal", illegal, ILLEGAL) == "raise"
        self.observation_space = self._problem.observation_space
        self.action_space: Any = self._problem.action_space
        self._has_ended = False

    @property
    def reward(self) -> dict[str, float]:
        """The weights of the reward's terms, as a copy; can be set at any time."""
        return self._problem.rewards.weights

    @reward.setter
    def reward(self, weights: Mapping[str, float]) -> None:
        self._problem.rewards.weights = weights

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin a game; with a seed, always the same one.

        Args:
            options: `state`: begin there, a state as `state_from_board` or `get_state`
                give it; pieces that are not drawn yet are those of `seed`, if there is
                one.

        Raises:
            ValueError: an option is unknown, `state` is none of a game that goes on, or
                `seed` is over 2^62; nothing changes.
            gymnasium.error.Error: `seed` is none; nothing changes.
        """
        problem = self._problem
        state = first_state(problem, {} if options is None else options)
        if isinstance(seed, int) and seed >= 0:  # Gymnasium refuses all others
            check_seed(seed)
        super().reset(seed=seed)
        is_new = seed is None and self._has_ended and problem.begins_anew
        if state is not None:
            problem.set_state(state)
        if seed is not None:
            problem.games.seed(seed)
        if state is None and not is_new:
            problem.begin()
        self._has_ended = False
        return self._first(problem.observe_now(FIRST)), problem.first_infos()[0]

    def step(
        self, action: np.int64
    ) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Place the piece, or press a key and let a tick pass.

        Raises:
            ValueError: the action is no integer, out of range, or, where `illegal` says
                so, not legal; the game is unchanged.
        """
        problem = self._problem
        n_actions = int(self.action_space.n)
        actions = whole_actions("action", np.asarray(action)[None], 1, n_actions)
        if self._is_strict:
            refuse_illegal(problem, actions)
        reward = float(problem.step(actions)[0])
        info = problem.infos()[0]
        terminated, truncated = bool(problem.over[0]), bool(problem.truncated[0])
        self._has_ended = terminated or truncated
        look = problem.observe_last if self._has_ended else problem.observe_now
        return self._first(look(FIRST)), reward, terminated, truncated, info

    def action_masks(self) -> NDArray[np.bool_]:
        """Return which actions are legal, or do something: (actions,) bool."""
        masks: NDArray[np.bool_] = self._problem.action_masks()[0]
        return masks

    def get_state(self) -> State:
        """Return everything between two steps, generators included, as copies."""
        return self._problem.get_state() | take(env_fields(self._has_ended))

    def set_state(self, state: State) -> None:
        """Go on from a state that an env like this was in, bit for bit.

        Raises:
            ValueError: it is not one; the message names the field; nothing is changed.
        """
        own, games = split(state, env_fields(self._has_ended))
        self._problem.set_state(games)
        self._has_ended = bool(own["has_ended"])

    def state_from_board(self, board: Any, piece: str | None = None) -> State:
        """Return the state of a new game that begins on a board, for `reset`.

        `env.reset(options={"state": env.state_from_board(board, "T")})`.

        Args:
            board: (rows, columns), top row first: 0 is empty, 1 to 7 a cell of that
                piece (as `info["frame"]["board"]` has them), 8 any other full one; or
                bools.
            piece: which comes first: I, O, T, S, Z, J or L; None: one that is drawn.

        Raises:
            ValueError: there is no such board or piece, a row is full, or there is no
                room for the piece; the message says what is allowed.
        """
        state = self._problem.games.state_from_board(board, piece)
        return state | take(env_fields(has_ended=False))

    def render(self) -> Any:
        """Return the game as coloured text or as an (h, w, 3) uint8 picture."""
        if self.render_mode == "ansi":
            return self._problem.to_ansi(self._has_ended)
        if self.render_mode == "rgb_array":
            return self._problem.to_rgb(self._has_ended)
        return None

    @staticmethod
    def _first(observations: Observation) -> Observation:
        if isinstance(observations, dict):
            return {name: part[0] for name, part in observations.items()}
        return observations[0]
