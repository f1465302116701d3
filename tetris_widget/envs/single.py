"""One game as a gymnasium environment.

Owns gymnasium's interface to a game; rewards and observations are those of
`TetrisVecEnv`. Deliberately doesn't know learners.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium.spaces import Discrete
from numpy.typing import NDArray

from tetris_widget.config import DEFAULT_REWARD
from tetris_widget.envs.observations import Observer, observation_space
from tetris_widget.envs.rewards import DEFAULT_GAMMA, Rewards, terms_of
from tetris_widget.envs.vec import Placements, check_legal, is_strict, move_frame
from tetris_widget.game import Games
from tetris_widget.game.render import to_ansi, to_rgb
from tetris_widget.game.state import Field, State, split, take

Observation = NDArray[Any]


class TetrisEnv(gymnasium.Env[Observation, np.int64]):
    """One game of Tetris under benchmark rules; see `TetrisVecEnv` for all else.

    Args:
        rows: 4 to 28.
        columns: 4 to 12.
        randomizer: `bag` or `uniform`.
        observation: `afterstates` or `board`.
        reward: a weight for each of its terms.
        gamma: the learner's discount, by which shaping must discount too.
        illegal: `nearest` or `raise`: what is done with an action that isn't legal.
        max_pieces: the game is truncated after so many; None: never.
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
        observation: str = "afterstates",
        reward: Mapping[str, float] = DEFAULT_REWARD,
        gamma: float = DEFAULT_GAMMA,
        illegal: str = "nearest",
        max_pieces: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        allowed = (None, *self.metadata["render_modes"])
        if render_mode not in allowed:
            raise ValueError(f"render_mode: {render_mode!r}; allowed: {allowed}")
        self.render_mode = render_mode
        self.games = Games(1, rows, columns, randomizer, None, max_pieces)
        space: Any = observation_space(observation, rows, columns)
        self.observation_space = space
        self.action_space = Discrete(self.games.n_actions)
        self._observer = Observer(observation, self.games)
        self._is_strict = is_strict(illegal)
        self._rewards = Rewards(Placements(self.games), reward, gamma)
        self._has_ended = False

    @property
    def reward(self) -> dict[str, float]:
        """The weights of the reward's terms, as a copy; can be set at any time."""
        return self._rewards.weights

    @reward.setter
    def reward(self, weights: Mapping[str, float]) -> None:
        self._rewards.weights = weights

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin a game; with a seed, always the same one.

        Args:
            seed: of the pieces that are drawn from now on.
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
        # At the end of a game the kernel has begun the next one already.
        if "state" not in options and (seed is not None or not self._has_ended):
            self.games.reset()
        self._rewards.begin()
        self._has_ended = False
        lines, pieces = int(self.games.lines[0]), int(self.games.pieces[0])
        return self._observe(), {"lines": lines, "pieces": pieces, "lines_cleared": 0}

    def step(
        self, action: np.int64
    ) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Place the current piece.

        Raises:
            ValueError: the action is out of range, or, where `illegal` says so, not
                legal; the game is unchanged.
        """
        games = self.games
        actions = np.array([action], np.int64)
        if self._is_strict:
            check_legal(games, actions)
        games.step(actions)
        terminated, truncated = bool(games.terminated[0]), bool(games.truncated[0])
        frame = move_frame(games)
        rewards, terms = self._rewards.take()
        info = {
            "lines": frame["lines"],
            "pieces": frame["pieces"],
            "lines_cleared": int(games.moves[0, 3]),
            "reward_terms": terms_of(terms, 0),
            "frame": frame,
        }
        self._has_ended = terminated or truncated
        if self._has_ended:
            # The kernel has begun a new game; this is the old one's last board.
            observation = self._observer.observe(games.final_columns, games.final_piece)
        else:
            observation = self._observer.observe(games.columns, games.piece)
        return observation.copy()[0], float(rewards[0]), terminated, truncated, info

    def action_masks(self) -> NDArray[np.bool_]:
        """Return which actions are legal: (4 × columns,) bool."""
        return self.games.mask()[0]  # type: ignore[no-any-return]

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
        self._has_ended = bool(own["has_ended"])

    def _fields(self) -> dict[str, Field]:
        return {"has_ended": Field(np.array(self._has_ended))}

    def render(self) -> Any:
        """Return the board as coloured text or as an (h, w, 3) uint8 picture."""
        cells = self.games.after if self._has_ended else self.games.cells
        if self.render_mode == "ansi":
            return to_ansi(cells)
        if self.render_mode == "rgb_array":
            return to_rgb(cells)
        return None

    def _observe(self) -> Observation:
        games = self.games
        observation = self._observer.observe(games.columns, games.piece)
        return np.array(observation[0])
