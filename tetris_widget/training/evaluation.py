"""How good the policy is now: separate games, a frozen copy of it, a slice at a time.

Owns the games of an evaluation and their statistics. Training's own statistics go blind
once games outlast the training; these don't. Deliberately doesn't know when or how
often to evaluate, and draws from no generator that the training uses.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm

from tetris_widget.config import TrainingConfig
from tetris_widget.game import FEATURE_SCALE, kernels
from tetris_widget.training import dense, network, patterns, tuples
from tetris_widget.training.policies import (
    dense_weights,
    linear_weights,
    network_weights,
    pattern_weights,
    tuple_weights,
)
from tetris_widget.training.table import Table

# Evaluation games never share a seed with training's (seed + env).
SEED_OFFSET = 1_000_000_007
# At most so many pieces a game has in a run's first evaluations. The better the policy,
# the longer it must be watched, and the fewer evaluations its share of the time allows:
# they grow until one takes so many seconds of it, or can show the run's goal.
FIRST_PIECES = 2_000
LONG_SECONDS = 0.25
# Greedy decisions per second that a call to the kernel counts on; slow machines
# overrun their slice by little.
DECISIONS_PER_SECOND = 100_000
# Of a call that is given no slice: some milliseconds, as short as a network's move.
DECISIONS_AT_ONCE = 5_000
NO_LIMIT = 2**62
Z_95 = 1.959964
# Taken for no line at all, which has no logarithm.
LEAST_LINES = 0.5


@dataclass(frozen=True)
class Evaluation:
    """What the games showed.

    Attributes:
        mean_lines: lines of all games per game that ended by itself. When none was cut
            that is the plain mean; otherwise the maximum-likelihood mean of the about
            exponential game lengths (Thiery & Scherrer 2009). When none ended there is
            no such mean, `capped` is True, and this is the lines of all games, as if
            one had ended: the mean is higher with 63 % confidence (1 - 1/e).
        lower: of the 95 % interval, from the chi-square distribution; when none ended
            all that may be cited, as "at least".
        upper: of the same; when none ended not known, and `mean_lines`.
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


class Player:
    """A frozen copy of a model's greedy policy.

    Args:
        model: as it is now; nothing of it is changed, no number drawn.
        parameters: in place of the model's own, as its `get_parameters` gives them.
    """

    def __init__(
        self, model: BaseAlgorithm, parameters: Mapping[str, Any] | None = None
    ) -> None:
        self._policy = _frozen(model, parameters)
        self._play = _compiled_play(self._policy)
        layers = dense_weights(self._policy)
        self._play_guideline = (
            None if layers is None else _bind(dense.play_greedy, layers)
        )

    def move(
        self,
        table: Table,
        decisions: int = DECISIONS_AT_ONCE,
        max_pieces: int = NO_LIMIT,
    ) -> int:
        """Make moves in every game that is not over; return how many in all.

        Args:
            table: games of the model's kind.
            decisions: to be made, about; where nothing plays whole games by such a
                policy, one move is made in each.
            max_pieces: a game rests (it isn't over) after so many pieces.
        """
        active = ~table.over & (table.games.pieces < max_pieces)
        n_active = int(np.count_nonzero(active))
        if not n_active:
            return 0
        play = self._play if table.is_benchmark else self._play_guideline
        if play is not None:
            moves = max(1, decisions // n_active)
            return int(play(*table.arguments(), moves, max_pieces))
        table.step(greedy_actions(self._policy, table.observe(), table.mask()), active)
        return n_active


class Evaluator:
    """Plays `evaluation_games` games of at most `max_pieces` pieces each.

    Attributes:
        seed: of the next evaluation's first game; all games have different ones.
        max_pieces: twice as many whenever most games have been cut, and never more than
            `evaluation_max_pieces`.
        is_busy: whether an evaluation has begun and isn't over.
    """

    def __init__(self, config: TrainingConfig) -> None:
        self._config = config
        self._table = Table(config, config.evaluation_games, 0)
        self._player: Player | None = None
        self._seconds = 0.0
        self.seed = (config.seed or 0) + SEED_OFFSET
        self.max_pieces = min(FIRST_PIECES, config.evaluation_max_pieces)
        self.is_busy = False

    def begin(self, model: BaseAlgorithm) -> None:
        """Freeze the model's policy as it is now, and begin new games."""
        self._player = Player(model)
        self._table.begin(self.seed)
        self._seconds = 0.0
        self.seed += self._config.evaluation_games
        self.is_busy = True

    def advance(self, seconds: float) -> Evaluation | None:
        """Go on for about `seconds`; return the result when all games are over."""
        assert self._player is not None
        before, spent = time.perf_counter(), 0.0
        decisions = int(seconds * DECISIONS_PER_SECOND)
        while is_under_way := self._player.move(
            self._table, decisions, self.max_pieces
        ):
            spent = time.perf_counter() - before
            if spent >= seconds:
                break
        self._seconds += spent
        if is_under_way:
            return None
        self.is_busy = False
        result = summarise(self._table)
        self._grow(result)
        return result

    def _grow(self, result: Evaluation) -> None:
        """Let the next games last longer, if these were too short to tell."""
        limit = self._config.evaluation_max_pieces
        is_short = 2 * self._seconds <= LONG_SECONDS
        target, most = self._config.target_lines, self._config.most_evaluated_lines
        is_blind = target is not None and most(self.max_pieces) < target
        if (is_short or is_blind) and 2 * result.finished < result.games:
            self.max_pieces = min(2 * self.max_pieces, limit)


def summarise(table: Table) -> Evaluation:
    """Return what the games of a table have shown so far."""
    lines = table.games.lines
    total, finished = int(lines.sum()), int(table.over.sum())
    lower, upper = exponential_interval(total, finished)
    return Evaluation(
        mean_lines=total / max(finished, 1),
        lower=lower,
        upper=upper,
        games=len(lines),
        finished=finished,
        max_lines=int(lines.max()),
        pieces=int(table.games.pieces.sum()),
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
    """Return the 95 % interval of the mean of about exponential game lengths.

    Args:
        total: lines of all games.
        ended: how many games ended; the others were cut at a fixed length.

    Lines are whole numbers, so what is exponential is geometric: the interval is that
    of the negative binomial distribution. Of long games it is Epstein & Sobel's (1953);
    of games with hardly a line it is that of Poisson counts. Without any that ended
    there is no upper bound but the estimate's own, `total`.
    """
    lower = 0.0
    if total > 0:
        lower = total / (ended + 1) * _f_quantile(2 * total, 2 * (ended + 1), -Z_95)
    if not ended:
        return lower, float(total)
    return lower, (total + 1) / ended * _f_quantile(2 * (total + 1), 2 * ended, Z_95)


def relative_error(total: float, ended: int) -> float:
    """Return the standard error of a mean of game lengths, as a share of it.

    Args:
        total: lines of all games.
        ended: how many games ended.
    """
    return math.sqrt(1.0 / max(ended, 1) + 1.0 / max(total, LEAST_LINES))


def _f_quantile(degrees: float, others: float, z: float) -> float:
    """Return a quantile of the F distribution (Paulson 1942)."""
    a, b = 2.0 / (9.0 * degrees), 2.0 / (9.0 * others)
    spread = b * (1.0 - a) ** 2 + a * (1.0 - b) ** 2 - z * z * a * b
    root = ((1.0 - a) * (1.0 - b) + z * math.sqrt(spread)) / (
        (1.0 - b) ** 2 - z * z * b
    )
    return float(max(root, 0.0) ** 3)


def _compiled_play(policy: Any) -> Callable[..., int] | None:
    """Return what plays whole games by a policy under benchmark rules, or None."""
    weights = linear_weights(policy)
    if weights is not None:
        return _bind(kernels.play_greedy, kernels.factors_of(weights * FEATURE_SCALE))
    table = pattern_weights(policy)
    if table is not None:
        return _bind(patterns.play_greedy, table)
    layers = network_weights(policy)
    if layers is not None:
        return _bind(network.play_greedy, layers)
    weighed = tuple_weights(policy)
    return None if weighed is None else _bind(tuples.play_greedy, weighed)


def _bind(kernel: Callable[..., int], *scored_by: Any) -> Callable[..., int]:
    def play(*arguments: Any) -> int:
        return kernel(*arguments[:-2], *scored_by, *arguments[-2:])

    return play


def _frozen(model: BaseAlgorithm, parameters: Mapping[str, Any] | None) -> Any:
    source: Any = model.policy
    # Not a deep copy: a policy in use holds tensors that have none. Making a new one
    # draws weights, which the training must not notice.
    with torch.random.fork_rng(devices=[]):
        policy = type(source)(**source._get_constructor_parameters())
    state = source.state_dict() if parameters is None else parameters["policy"]
    policy.load_state_dict(state)
    policy.set_training_mode(False)
    return policy
