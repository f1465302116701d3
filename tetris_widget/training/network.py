"""A network that scores afterstates, compiled: choosing, judging, and its gradient.

Owns the arithmetic of one hidden layer beside a linear score: only legal placements are
looked at, and gradients are summed up as they come. The same numbers as torch's own
operations, several times sooner. Deliberately doesn't know policies or algorithms.

Weights are a tuple: linear (F,), of the hidden units (F, HIDDEN) and their biases
(HIDDEN,), of the score by them (HIDDEN,); float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from tetris_widget.game import FEATURES
from tetris_widget.game.compiler import kernel, part
from tetris_widget.game.features import FEATURE_SCALE
from tetris_widget.game.kernels import move, observe_afterstates
from tetris_widget.training.linear import criticise

Tensor = torch.Tensor
# Constants, so that loops over features are unrolled. Those over the units go to
# `n_units`, which the compiler does not know: unrolled, too, they would be scalar.
N = len(FEATURES)
SIZE = N + 1
HIDDEN = 32
# Sums may be made in any order, so that vectors can; infinities mean what they do.
SUMS = {"reassoc", "contract", "nsz"}
MAX_ACTIONS = 48
# What is less likely adds nothing that single precision could tell, and is where its
# arithmetic gets slow (numbers below 1e-38).
LEAST_SHARE = 1e-12


@kernel
def new_work():  # type: ignore[no-untyped-def]
    """Return arrays to work on: of each legal placement scores, shares, rows, units."""
    return (
        np.empty(MAX_ACTIONS, np.float64),
        np.empty(MAX_ACTIONS, np.float64),
        np.empty(MAX_ACTIONS, np.int64),
        np.empty((MAX_ACTIONS, HIDDEN), np.float32),
    )


@part(fastmath=SUMS)
def score_legal(flat, first, n_actions, weights, work):  # type: ignore[no-untyped-def]
    """Score the legal placements of one observation; return how many there are.

    Args:
        flat: observations; this one begins at `first`.
        n_actions: of the observation.
        weights: see the module.
        work: scores, rows and units are written.
    """
    linear, by_input, biases, last = weights
    scores, _, rows, units = work
    n_units = last.size
    count = 0
    for action in range(n_actions):
        row = first + action * SIZE
        if flat[row + N] < 0.5:
            continue
        total = np.float32(0.0)
        for i in range(N):
            total += linear[i] * flat[row + i]
        for unit in range(n_units):
            value = biases[unit]
            for i in range(N):
                value += by_input[i, unit] * flat[row + i]
            units[count, unit] = max(value, np.float32(0.0))
            total += last[unit] * units[count, unit]
        scores[count] = total
        rows[count] = row
        count += 1
    return count


@part(fastmath=SUMS)
def to_shares(count, work):  # type: ignore[no-untyped-def]
    """Turn scores into log probabilities, and write the probabilities."""
    scores, shares = work[0], work[1]
    highest = -np.inf
    for k in range(count):
        highest = max(highest, scores[k])
    total = 0.0
    for k in range(count):
        shares[k] = np.exp(scores[k] - highest)
        total += shares[k]
    log_total = highest + np.log(total)
    for k in range(count):
        scores[k] -= log_total
        shares[k] /= total


@part(fastmath=SUMS)
def expect(flat, count, work, expected):  # type: ignore[no-untyped-def]
    """Write the mean features of what is chosen: (F,)."""
    _, shares, rows, _ = work
    for i in range(N):
        expected[i] = 0.0
    for k in range(count):
        if shares[k] < LEAST_SHARE:
            continue
        share = np.float32(shares[k])
        for i in range(N):
            expected[i] += share * flat[rows[k] + i]


@kernel(fastmath=SUMS)
def choose(observations, weights, critic, uniforms, chosen, log_probs, values):  # type: ignore[no-untyped-def]
    """Draw a legal placement from each observation.

    Args:
        observations: (n, actions + 1, features + 1).
        weights: see the module.
        critic: see `linear.choose`.
        uniforms: (n,) random numbers from 0 to 1, one for each draw.
        chosen: (n,) int64, written.
        log_probs: (n,), written: of what was chosen.
        values: (n,), written: what the critic expects.
    """
    by_unit, critic_biases, critic_last, bias = critic
    transposed = np.ascontiguousarray(by_unit.T), critic_biases, critic_last, bias
    hidden = np.empty(len(critic_biases), np.float32)
    expected = np.empty(N, np.float32)
    flat = observations.reshape(observations.size)
    n_actions = observations.shape[1] - 1
    work = new_work()
    scores, shares, rows, _ = work
    for n in range(observations.shape[0]):
        first = n * (n_actions + 1) * SIZE
        count = score_legal(flat, first, n_actions, weights, work)
        to_shares(count, work)
        expect(flat, count, work, expected)
        present = first + n_actions * SIZE
        values[n] = criticise(flat, present, expected, transposed, hidden)
        if count == 0:
            # Only where a game is over: all are as good.
            chosen[n], log_probs[n] = 0, -np.log(n_actions)
            continue
        so_far, found = 0.0, -1
        for k in range(count):
            so_far += shares[k]
            if found < 0 and so_far > uniforms[n]:
                found = k
        if found < 0:  # rounding
            found = count - 1
        chosen[n] = (rows[found] - first) // SIZE
        log_probs[n] = scores[found]


@kernel(fastmath=SUMS)
def judge(  # type: ignore[no-untyped-def]
    observations, weights, lowest, chosen, log_probs, entropies, expected
):
    """Write what is known of placements that were chosen.

    Args:
        observations: (n, actions + 1, features + 1).
        weights: see the module.
        lowest: log probabilities below are taken for this.
        chosen: (n,) int64.
        log_probs: (n,), written.
        entropies: (n,), written, in nats.
        expected: (n, features), written: the mean features.
    """
    flat = observations.reshape(observations.size)
    n_actions = observations.shape[1] - 1
    work = new_work()
    scores, shares, rows, _ = work
    for n in range(observations.shape[0]):
        first = n * (n_actions + 1) * SIZE
        count = score_legal(flat, first, n_actions, weights, work)
        to_shares(count, work)
        expect(flat, count, work, expected[n])
        log_prob, entropy = lowest, 0.0
        for k in range(count):
            entropy -= shares[k] * scores[k]
            if rows[k] == first + chosen[n] * SIZE:
                log_prob = max(scores[k], lowest)
        log_probs[n], entropies[n] = log_prob, entropy


@kernel(fastmath=SUMS)
def differentiate(  # type: ignore[no-untyped-def]
    observations, weights, lowest, chosen, of_log_prob, of_entropy, gradients
):
    """Add to `gradients` the derivatives by the weights of what `judge` writes.

    Args:
        observations: (n, actions + 1, features + 1).
        weights: see the module.
        lowest: as in `judge`.
        chosen: (n,) int64.
        of_log_prob: (n,) derivatives of the loss by the log probabilities.
        of_entropy: (n,) the same by the entropies.
        gradients: arrays like the weights, added to.
    """
    _, _, _, last = weights
    n_units = last.size
    by_linear, by_inputs, by_biases, by_last = gradients
    flat = observations.reshape(observations.size)
    n_actions = observations.shape[1] - 1
    work = new_work()
    scores, shares, rows, units = work
    slopes = np.empty(HIDDEN, np.float32)
    for n in range(observations.shape[0]):
        first = n * (n_actions + 1) * SIZE
        count = score_legal(flat, first, n_actions, weights, work)
        to_shares(count, work)
        row = first + chosen[n] * SIZE
        entropy = 0.0
        is_moved = False
        for k in range(count):
            entropy -= shares[k] * scores[k]
            is_moved |= rows[k] == row and scores[k] > lowest
        by_log_prob = of_log_prob[n] if is_moved else np.float32(0.0)
        for k in range(count):
            if shares[k] < LEAST_SHARE and rows[k] != row:
                continue
            exact = -shares[k] * (by_log_prob + of_entropy[n] * (scores[k] + entropy))
            if rows[k] == row:
                exact += by_log_prob
            share = np.float32(exact)
            for unit in range(n_units):
                by_last[unit] += share * units[k, unit]
            for unit in range(n_units):
                is_on = units[k, unit] > np.float32(0.0)
                slopes[unit] = share * last[unit] if is_on else np.float32(0.0)
            for unit in range(n_units):
                by_biases[unit] += slopes[unit]
            for i in range(N):
                value = flat[rows[k] + i]
                by_linear[i] += share * value
                for unit in range(n_units):
                    by_inputs[i, unit] += slopes[unit] * value


@kernel(fastmath=SUMS)
def play_greedy(state, over, rows, randomizer, weights, max_moves, max_pieces):  # type: ignore[no-untyped-def]
    """Play every game that isn't over; see `kernels.play_greedy`."""
    columns, queue, position, _, _, pieces = state
    n_columns = columns.shape[1]
    n_actions = 4 * n_columns
    work = new_work()
    scores, _, places, _ = work
    observation = np.zeros((1, n_actions + 1, SIZE), np.float32)
    flat = observation.reshape(observation.size)
    piece = np.zeros(1, np.int8)
    made = 0
    for game in range(columns.shape[0]):
        for _ in range(max_moves):
            if over[game] or pieces[game] >= max_pieces:
                break
            piece[0] = queue[game, position[game]]
            board = columns[game : game + 1]
            observe_afterstates(board, piece, rows, FEATURE_SCALE, observation)
            count = score_legal(flat, 0, n_actions, weights, work)
            best = 0
            for k in range(1, count):
                if scores[k] > scores[best]:
                    best = k
            action = places[best] // SIZE
            over[game] = move(state, game, action, rows, randomizer)[4]
            made += 1
    return made


class Judgement(torch.autograd.Function):
    """`judge` as an operation that gradients go through, to the weights only."""

    @staticmethod
    def forward(
        ctx: Any,
        observations: Tensor,
        chosen: Tensor,
        lowest: float,
        *weights: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return log probabilities (n,), entropies (n,), mean features (n, F)."""
        n = len(observations)
        log_probs, entropies = torch.empty(n), torch.empty(n)
        expected = torch.empty(n, N)
        judge(
            observations.numpy(),
            tuple(weight.numpy() for weight in weights),
            lowest,
            chosen.numpy(),
            log_probs.numpy(),
            entropies.numpy(),
            expected.numpy(),
        )
        ctx.save_for_backward(observations, chosen, *weights)
        ctx.lowest = lowest
        ctx.mark_non_differentiable(expected)
        return log_probs, entropies, expected

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        """Return the derivatives by the weights."""
        observations, chosen, *weights = ctx.saved_tensors
        of_log_prob, of_entropy, _ = gradients
        found = [torch.zeros_like(weight) for weight in weights]
        differentiate(
            observations.numpy(),
            tuple(weight.numpy() for weight in weights),
            ctx.lowest,
            chosen.numpy(),
            of_log_prob.contiguous().numpy(),
            of_entropy.contiguous().numpy(),
            tuple(gradient.numpy() for gradient in found),
        )
        return None, None, None, *found
