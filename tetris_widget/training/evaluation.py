"""How good the policy is now: separate games, a frozen copy of it, a slice at a time.

Owns the games of an evaluation and their statistics. Training's own statistics go blind
once games outlast the training; these don't. Deliberately doesn't know when or how
often to evaluate, and draws from no generator that the training uses.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm

from tetris_widget.config import TrainingConfig
from tetris_widget.envs.observations import Observer
from tetris_widget.game import Games, kernels
from tetris_widget.training.policies import linear_weights

# Evaluation games never share a seed with training's (seed + env).
SEED_OFFSET = 1_000_000_007
# Nor do the games by which the best model is chosen, the same for every candidate.
CONTEST_OFFSET = 3_000_000_019
# Greedy decisions per second that a call to the kernel counts on; slow machines
# overrun their slice by little.
DECISIONS_PER_SECOND = 100_000
Z_95 = 1.959964


@dataclass(frozen=True)
class Evaluation:
    """What the games showed.

    Attributes:
        mean_lines: lines of all games per game that ended by itself. When none was cut
            that is the plain mean; otherwise the maximum-likelihood mean of the about
            exponential game lengths (Thiery & Scherrer 2009). When none ended it is a
            lower bound, and `capped` is True.
        lower: of the 95 % interval, from the chi-square distribution.
        upper: of the same.
        games: how many were played.
        finished: how many ended by themselves; the others were cut.
        max_lines: of a single game.
        pieces: placed in all games.
        capped: whether no game ended.
    """

    mean_lines: float
    lower: float
    upper: float
    games: int
    finished: int
    max_lines: int
    pieces: int
    capped: bool


class Evaluator:
    """Plays `evaluation_games` games of at most `evaluation_max_pieces` pieces each.

    Attributes:
        seed: of the next evaluation's first game; all games have different ones.
        is_busy: whether an evaluation has begun and isn't over.
    """

    def __init__(self, config: TrainingConfig) -> None:
        self._config = config
        self._games = Games(
            config.evaluation_games, config.rows, config.columns, config.randomizer, 0
        )
        self._over = np.zeros(config.evaluation_games, np.bool_)
        self._observer = Observer(config.observation, self._games)
        self._weights: Any = None
        self._policy: Any = None
        self.seed = (config.seed or 0) + SEED_OFFSET
        self.is_busy = False

    def begin(self, model: BaseAlgorithm) -> None:
        """Freeze the model's policy as it is now, and begin new games."""
        self._weights = linear_weights(model)
        self._policy = None if self._weights is not None else _frozen(model)
        self._begin_games(self.seed)
        self.seed += len(self._games)

    def begin_contest(self) -> None:
        """Begin, with the policy of the last evaluation, the games of every contest."""
        self._begin_games((self._config.seed or 0) + CONTEST_OFFSET)

    def advance(self, seconds: float) -> Evaluation | None:
        """Go on for about `seconds`; return the result when all games are over."""
        until = time.perf_counter() + seconds
        while self._advance_once(seconds):
            if time.perf_counter() >= until:
                return None
        self.is_busy = False
        return self._summarise()

    def _begin_games(self, seed: int) -> None:
        self._games.seed(seed)
        self._games.reset()
        self._over[:] = False
        self.is_busy = True

    def _advance_once(self, seconds: float) -> bool:
        """Make some moves in every game; return False when there are none left."""
        active = ~self._over & (self._games.pieces < self._config.evaluation_max_pieces)
        if not active.any():
            return False
        if self._weights is None:
            self._move_by_network(active)
            return True
        decisions = seconds * DECISIONS_PER_SECOND
        kernels.play_greedy(
            self._games.state,
            self._over,
            self._games.rows,
            self._games.randomizer,
            kernels.SCALE,
            self._weights,
            max(1, int(decisions / active.sum())),
            self._config.evaluation_max_pieces,
        )
        return True

    def _move_by_network(self, active: Any) -> None:
        games = self._games
        observation = self._observer.observe(games.columns, games.piece)
        actions = greedy_actions(self._policy, observation, games.mask())
        kernels.move_active(
            games.state, actions, active, self._over, games.rows, games.randomizer
        )

    def _summarise(self) -> Evaluation:
        lines = self._games.lines
        total, finished = int(lines.sum()), int(self._over.sum())
        lower, upper = exponential_interval(total, finished)
        return Evaluation(
            mean_lines=total / max(finished, 1),
            lower=lower,
            upper=upper,
            games=len(lines),
            finished=finished,
            max_lines=int(lines.max()),
            pieces=int(self._games.pieces.sum()),
            capped=finished == 0,
        )


def greedy_actions(policy: Any, observation: Any, mask: Any) -> Any:
    """Return a policy's likeliest legal actions (n,), drawing no random number."""
    with torch.no_grad():
        batch = torch.as_tensor(observation)
        if hasattr(policy, "q_net"):
            scores = policy.q_net(batch)
        elif hasattr(policy, "net"):
            scores = policy.net.scorer(batch)
        else:
            distribution = policy.get_distribution(batch).distribution
            scores = distribution.logits
    return np.where(mask, scores.numpy(), -np.inf).argmax(-1)


def exponential_interval(total: float, ended: int) -> tuple[float, float]:
    """Return the 95 % interval of the mean of exponential lifetimes.

    Args:
        total: time under test of all.
        ended: how many ended; the others were cut at a fixed time.

    Epstein & Sobel (1953): 2·total / χ²(2·ended + 2) to 2·total / χ²(2·ended); without
    any that ended there is no upper bound but the estimate's own, `total`.
    """
    lower = 2.0 * total / _chi_square(2 * ended + 2, Z_95)
    if not ended:
        return lower, float(total)
    return lower, 2.0 * total / _chi_square(2 * ended, -Z_95)


def _chi_square(degrees: int, z: float) -> float:
    """Return a quantile of chi-square (Wilson & Hilferty 1931)."""
    spread = 2.0 / (9.0 * degrees)
    return float(degrees * max(1.0 - spread + z * spread**0.5, 1e-3) ** 3)


def _frozen(model: BaseAlgorithm) -> Any:
    source: Any = model.policy
    # Not a deep copy: a policy in use holds tensors that have none. Making a new one
    # draws weights, which the training must not notice.
    with torch.random.fork_rng(devices=[]):
        policy = type(source)(**source._get_constructor_parameters())
    policy.load_state_dict(source.state_dict())
    policy.set_training_mode(False)
    return policy
