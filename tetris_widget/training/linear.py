"""The linear scorer's arithmetic, compiled: choosing, judging, and its gradient.

Owns the probabilities of placements under a linear score of afterstates, computed in
one pass over the observations, and their derivatives by the scorer's weights in closed
form. The same numbers as the network's own operations, several times sooner.
Deliberately doesn't know policies or algorithms.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from tetris_widget.game import FEATURES
from tetris_widget.game.compiler import kernel, part

Tensor = torch.Tensor
# A constant, so that loops over features are unrolled.
N = len(FEATURES)
SIZE = N + 1


@part
def score_legal(flat, first, n_actions, weights, scores, shares, rows):  # type: ignore[no-untyped-def]
    """Score the legal placements of one observation.

    Args:
        flat: observations; this one begins at `first`.
        weights: (features,).
        scores: (actions,) float64, written: their log probabilities.
        shares: (actions,) float64, written: their probabilities.
        rows: (actions,) int64, written: where in `flat` their features begin.

    Returns:
        How many are legal.
    """
    count = 0
    for action in range(n_actions):
        row = first + action * SIZE
        rows[count] = row
        count += flat[row + N] > 0.5
    highest = -np.inf
    for k in range(count):
        score = 0.0
        for i in range(N):
            score += weights[i] * flat[rows[k] + i]
        scores[k] = score
        highest = max(highest, score)
    total = 0.0
    for k in range(count):
        shares[k] = np.exp(scores[k] - highest)
        total += shares[k]
    log_total = highest + np.log(total)
    for k in range(count):
        scores[k] -= log_total
        shares[k] /= total
    return count


@part
def criticise(flat, present, mean, critic, hidden):  # type: ignore[no-untyped-def]
    """Return the value of one observation.

    Args:
        flat: observations; the features of the board at hand begin at `present`.
        mean: (features,) those of the boards to expect.
        critic: weights of its hidden units, transposed (2 × features, units); their
            biases (units,); weights (1, units) and bias (1,) of the value.
        hidden: (units,) to work on.
    """
    by_input, biases, last, bias = critic
    for unit in range(hidden.shape[0]):
        hidden[unit] = biases[unit]
    for i in range(N):
        now, then = flat[present + i], np.float32(mean[i])
        for unit in range(hidden.shape[0]):
            hidden[unit] += by_input[i, unit] * now + by_input[N + i, unit] * then
    value = bias[0]
    for unit in range(hidden.shape[0]):
        value += last[0, unit] * max(hidden[unit], np.float32(0.0))
    return value


@kernel
def choose(observations, weights, critic, uniforms, chosen, log_probs, values):  # type: ignore[no-untyped-def]
    """Draw a legal placement from each observation.

    Args:
        observations: (n, actions + 1, features + 1).
        weights: (features,).
        critic: as in a `Sequential` of linear layer, ReLU, linear layer: its weights
            (units, 2 × features), biases (units,), weights (1, units), bias (1,).
        uniforms: (n,) random numbers from 0 to 1, one for each draw.
        chosen: (n,) int64, written.
        log_probs: (n,), written: of what was chosen.
        values: (n,), written: what the critic expects.
    """
    by_unit, biases, last, bias = critic
    transposed = np.ascontiguousarray(by_unit.T), biases, last, bias
    hidden = np.empty(len(biases), np.float32)
    flat = observations.reshape(observations.size)
    n_actions = observations.shape[1] - 1
    scores = np.empty(n_actions, np.float64)
    shares = np.empty(n_actions, np.float64)
    rows = np.empty(n_actions, np.int64)
    mean = np.empty(N, np.float64)
    for n in range(observations.shape[0]):
        first = n * (n_actions + 1) * SIZE
        count = score_legal(flat, first, n_actions, weights, scores, shares, rows)
        for i in range(N):
            mean[i] = 0.0
        so_far = 0.0
        found = -1
        for k in range(count):
            probability = shares[k]
            so_far += probability
            if found < 0 and so_far > uniforms[n]:
                found = k
            for i in range(N):
                mean[i] += probability * flat[rows[k] + i]
        present = first + n_actions * SIZE
        values[n] = criticise(flat, present, mean, transposed, hidden)
        if count == 0:
            # Only where a game is over: all are as good.
            chosen[n], log_probs[n] = 0, -np.log(n_actions)
            continue
        if found < 0:  # rounding
            found = count - 1
        chosen[n] = (rows[found] - first) // SIZE
        log_probs[n] = scores[found]


@kernel
def judge(  # type: ignore[no-untyped-def]
    observations,
    weights,
    lowest,
    chosen,
    log_probs,
    entropies,
    expected,
    by_log_prob,
    by_entropy,
):
    """Write what is known of placements that were chosen, and its derivatives.

    Args:
        observations: (n, actions + 1, features + 1).
        weights: (features,).
        lowest: log probabilities below are taken for this.
        chosen: (n,) int64.
        log_probs: (n,), written.
        entropies: (n,), written, in nats.
        expected: (n, features), written: the mean features.
        by_log_prob: (n, features), written: derivatives of log_probs by the weights.
        by_entropy: (n, features), written: derivatives of entropies by the weights.
    """
    flat = observations.reshape(observations.size)
    n_actions = observations.shape[1] - 1
    scores = np.empty(n_actions, np.float64)
    shares = np.empty(n_actions, np.float64)
    rows = np.empty(n_actions, np.int64)
    mean = np.empty(N, np.float64)
    slope = np.empty(N, np.float64)
    for n in range(observations.shape[0]):
        first = n * (n_actions + 1) * SIZE
        count = score_legal(flat, first, n_actions, weights, scores, shares, rows)
        for i in range(N):
            mean[i] = slope[i] = 0.0
        row = first + chosen[n] * SIZE
        log_prob = lowest
        entropy = 0.0
        # The derivative of the entropy is -Σ p (log p + entropy) × features.
        for k in range(count):
            probability = shares[k]
            share = probability * scores[k]
            entropy -= share
            if rows[k] == row:
                log_prob = max(scores[k], lowest)
            for i in range(N):
                value = flat[rows[k] + i]
                mean[i] += probability * value
                slope[i] += share * value
        log_probs[n] = log_prob
        entropies[n] = entropy
        is_moved = log_prob > lowest
        for i in range(N):
            expected[n, i] = mean[i]
            by_entropy[n, i] = -slope[i] - entropy * mean[i]
            by_log_prob[n, i] = flat[row + i] - mean[i] if is_moved else 0.0


class Judgement(torch.autograd.Function):
    """`judge` as an operation that gradients go through, to the weights only."""

    @staticmethod
    def forward(
        ctx: Any, weights: Tensor, observations: Tensor, chosen: Tensor, lowest: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return log probabilities (n,), entropies (n,), mean features (n, F)."""
        n = len(observations)
        vectors = [torch.empty(n) for _ in range(2)]
        matrices = [torch.empty(n, len(weights)) for _ in range(3)]
        judge(
            observations.numpy(),
            weights.numpy(),
            lowest,
            chosen.numpy(),
            *(out.numpy() for out in (*vectors, *matrices)),
        )
        expected, by_log_prob, by_entropy = matrices
        ctx.save_for_backward(by_log_prob, by_entropy)
        ctx.mark_non_differentiable(expected)
        return vectors[0], vectors[1], expected

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        """Return the derivative by the weights."""
        by_log_prob, by_entropy = ctx.saved_tensors
        of_log_prob, of_entropy, _ = gradients
        by_weights = of_log_prob @ by_log_prob + of_entropy @ by_entropy
        return by_weights, None, None, None
