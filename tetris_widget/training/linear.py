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
from numba import njit

Tensor = torch.Tensor


@njit(cache=True)
def score_legal(observation, weights, scores, actions):  # type: ignore[no-untyped-def]
    """Score the legal placements of one observation.

    Args:
        observation: (actions + 1, features + 1), see `envs.observations`.
        weights: (features,).
        scores: (actions,) float64, written: score minus the highest score.
        actions: (actions,) int64, written: which placements they are.

    Returns:
        How many are legal, and the logarithm of the sum of exp(scores).
    """
    n_features = weights.shape[0]
    count = 0
    highest = -np.inf
    for action in range(observation.shape[0] - 1):
        if observation[action, n_features] < 0.5:
            continue
        score = 0.0
        for i in range(n_features):
            score += weights[i] * observation[action, i]
        scores[count] = score
        actions[count] = action
        count += 1
        highest = max(highest, score)
    total = 0.0
    for k in range(count):
        scores[k] -= highest
        total += np.exp(scores[k])
    return count, np.log(total)


@njit(cache=True, nogil=True)
def choose(observations, weights, uniforms, chosen, log_probs, expected):  # type: ignore[no-untyped-def]
    """Draw a legal placement from each observation.

    Args:
        observations: (n, actions + 1, features + 1).
        weights: (features,).
        uniforms: (n,) random numbers from 0 to 1, one for each draw.
        chosen: (n,) int64, written.
        log_probs: (n,), written: of what was chosen.
        expected: (n, features), written: the mean features of a draw.
    """
    n_features = weights.shape[0]
    scores = np.empty(observations.shape[1], np.float64)
    actions = np.empty(observations.shape[1], np.int64)
    mean = np.empty(n_features, np.float64)
    for n in range(observations.shape[0]):
        count, log_total = score_legal(observations[n], weights, scores, actions)
        mean[:] = 0.0
        # Nothing is legal only where a game is over; then all are as good.
        chosen[n], log_probs[n] = 0, -np.log(observations.shape[1] - 1)
        so_far, is_open = 0.0, True
        for k in range(count):
            probability = np.exp(scores[k] - log_total)
            so_far += probability
            if is_open and (so_far > uniforms[n] or k == count - 1):
                chosen[n], log_probs[n] = actions[k], scores[k] - log_total
                is_open = False
            for i in range(n_features):
                mean[i] += probability * observations[n, actions[k], i]
        for i in range(n_features):
            expected[n, i] = mean[i]


@njit(cache=True, nogil=True)
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
    n_features = weights.shape[0]
    scores = np.empty(observations.shape[1], np.float64)
    actions = np.empty(observations.shape[1], np.int64)
    mean = np.empty(n_features, np.float64)
    slope = np.empty(n_features, np.float64)
    for n in range(observations.shape[0]):
        count, log_total = score_legal(observations[n], weights, scores, actions)
        entropy = 0.0
        log_prob = lowest
        for k in range(count):
            scores[k] -= log_total
            entropy -= np.exp(scores[k]) * scores[k]
            if actions[k] == chosen[n]:
                log_prob = max(scores[k], lowest)
        mean[:] = 0.0
        slope[:] = 0.0
        for k in range(count):
            probability = np.exp(scores[k])
            share = -probability * (scores[k] + entropy)
            for i in range(n_features):
                value = observations[n, actions[k], i]
                mean[i] += probability * value
                slope[i] += share * value
        log_probs[n] = log_prob
        entropies[n] = entropy
        for i in range(n_features):
            expected[n, i] = mean[i]
            by_entropy[n, i] = slope[i]
            by_log_prob[n, i] = 0.0
            if log_prob > lowest:
                by_log_prob[n, i] = observations[n, chosen[n], i] - mean[i]


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
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:  # type: ignore[override]
        """Return the derivative by the weights."""
        by_log_prob, by_entropy = ctx.saved_tensors
        of_log_prob, of_entropy, _ = gradients
        by_weights = of_log_prob @ by_log_prob + of_entropy @ by_entropy
        return by_weights, None, None, None
