"""Afterstates scored by features and by tuples of heights: choosing, judging, gradient.

Owns an n-tuple network beside a linear score, compiled: every four neighbouring steps
from one column's height to the next, walls included, have a weight in a table, wherever
they are, as in Jaśkowski et al., "High-dimensional function approximation for
knowledge-free reinforcement learning" (2015), which looks at cells. What a sum of
features cannot say, which pieces a surface has a place for, the table can. Deliberately
doesn't know policies or algorithms.

Weights are a tuple: linear (F,), the table (N_TUPLES,); float32. The critic has a table
of its own, `worths`: what to expect of the tuples that the policy makes likely.
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
from tetris_widget.training.network import (
    LEAST_SHARE,
    MAX_ACTIONS,
    SUMS,
    expect,
    to_shares,
)

Tensor = torch.Tensor
N = len(FEATURES)
LENGTH = 4
# A step that is farther, as those from and to the walls are, counts as this one.
FARTHEST = 3
# A tuple is a number with a digit for each step, of three bits; 7 does not occur.
BITS = 3
N_TUPLES = 1 << (BITS * LENGTH)
# So many more tuples than columns has a board: of one step more, LENGTH - 1 fewer.
MORE = 2 - LENGTH
MAX_TUPLES = 12 + MORE


def distinct_tuples() -> tuple[np.ndarray[Any, Any], int]:
    """Return which weight each tuple has, and how many weights there are.

    A tuple and its mirror image share one: mirrored, the game is the same.
    """
    every = np.arange(N_TUPLES)
    shifts = BITS * np.arange(LENGTH)
    digits = (every[:, None] >> shifts) & ((1 << BITS) - 1)
    opposite = 2 * FARTHEST - digits[:, ::-1]
    mirrored = (opposite << shifts).sum(1)
    # A digit of 7 does not occur; its mirror image would be below 0.
    first = np.where(opposite.min(1) < 0, 0, np.minimum(every, mirrored))
    kinds, kind_of = np.unique(first, return_inverse=True)
    return kind_of.astype(np.int64), len(kinds)


def tuples_of(heights: Tensor) -> Tensor:
    """Return the tuples of surfaces, by torch: (…, columns) to (…, columns - 2)."""
    steps = heights.diff(dim=-1).clamp(-FARTHEST, FARTHEST) + FARTHEST
    walls = torch.zeros_like(steps[..., :1])
    digits = torch.cat((walls, steps, walls + 2 * FARTHEST), -1).long()
    places = 1 << (BITS * torch.arange(LENGTH - 1, -1, -1))
    return (digits.unfold(-1, LENGTH, 1) * places).sum(-1)


@kernel
def new_work():  # type: ignore[no-untyped-def]
    """Return arrays to work on, of legal placements: scores, shares, rows, tuples."""
    return (
        np.empty(MAX_ACTIONS, np.float64),
        np.empty(MAX_ACTIONS, np.float64),
        np.empty(MAX_ACTIONS, np.int64),
        np.empty((MAX_ACTIONS, MAX_TUPLES), np.int64),
    )


@part
def find_tuples(flat, first, n_columns, found):  # type: ignore[no-untyped-def]
    """Write the tuples of a surface, from left to right: columns + MORE.

    Args:
        flat: observations; the heights begin at `first`.
        found: (MAX_TUPLES,) int64, written.
    """
    digits = np.int64(0)  # the step from the left wall: the lowest digit
    for c in range(1, n_columns + 1):
        digit = np.int64(2 * FARTHEST)  # to the right wall
        if c < n_columns:
            step = flat[first + c] - flat[first + c - 1]
            digit = np.int64(min(max(step, -FARTHEST), FARTHEST)) + FARTHEST
        digits = ((digits << BITS) | digit) & (N_TUPLES - 1)
        if c >= LENGTH - 1:
            found[c - LENGTH + 1] = digits


@part(fastmath=SUMS)
def score_legal(flat, first, n_actions, weights, work):  # type: ignore[no-untyped-def]
    """Score the legal placements of one observation; return how many there are.

    Args:
        flat: observations; this one begins at `first`.
        n_actions: of the observation.
        weights: see the module.
        work: scores, rows and tuples are written.
    """
    linear, table = weights
    scores, _, rows, tuples = work
    n_columns = n_actions // 4
    size = N + n_columns + 1
    count = 0
    for action in range(n_actions):
        row = first + action * size
        if flat[row + size - 1] < 0.5:
            continue
        total = np.float32(0.0)
        for i in range(N):
            total += linear[i] * flat[row + i]
        find_tuples(flat, row + N, n_columns, tuples[count])
        # Twice as precise, so that mirror images are as good in whichever order.
        by_tuples = 0.0
        for i in range(n_columns + MORE):
            by_tuples += table[tuples[count, i]]
        scores[count] = np.float32(total + by_tuples)
        rows[count] = row
        count += 1
    return count


@part(fastmath=SUMS)
def promise(count, n_tuples, work, worths):  # type: ignore[no-untyped-def]
    """Return what the tuples of what is chosen are worth."""
    _, shares, _, tuples = work
    total = np.float32(0.0)
    for k in range(count):
        if shares[k] < LEAST_SHARE:
            continue
        worth = np.float32(0.0)
        for i in range(n_tuples):
            worth += worths[tuples[k, i]]
        total += np.float32(shares[k]) * worth
    return total


@kernel(fastmath=SUMS)
def choose(observations, weights, critic, uniforms, chosen, log_probs, values):  # type: ignore[no-untyped-def]
    """Draw a legal placement from each observation.

    Args:
        observations: (n, actions + 1, features + columns + 1).
        weights: see the module.
        critic: see `linear.choose`; then its table.
        uniforms: (n,) random numbers from 0 to 1, one for each draw.
        chosen: (n,) int64, written.
        log_probs: (n,), written: of what was chosen.
        values: (n,), written: what the critic expects.
    """
    by_unit, critic_biases, critic_last, bias, worths = critic
    transposed = np.ascontiguousarray(by_unit.T), critic_biases, critic_last, bias
    hidden = np.empty(len(critic_biases), np.float32)
    expected = np.empty(N, np.float32)
    flat = observations.reshape(observations.size)
    n_actions, size = observations.shape[1] - 1, observations.shape[2]
    n_tuples = n_actions // 4 + MORE
    work = new_work()
    scores, shares, rows, _ = work
    for n in range(observations.shape[0]):
        first = n * (n_actions + 1) * size
        count = score_legal(flat, first, n_actions, weights, work)
        to_shares(count, work)
        expect(flat, count, work, expected)
        present = first + n_actions * size
        values[n] = criticise(flat, present, expected, transposed, hidden)
        values[n] += promise(count, n_tuples, work, worths)
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
        chosen[n] = (rows[found] - first) // size
        log_probs[n] = scores[found]


@kernel(fastmath=SUMS)
def judge(  # type: ignore[no-untyped-def]
    observations,
    weights,
    worths,
    lowest,
    chosen,
    log_probs,
    entropies,
    promises,
    expected,
):
    """Write what is known of placements that were chosen.

    Args:
        observations: (n, actions + 1, features + columns + 1).
        weights: see the module.
        worths: the critic's table.
        lowest: log probabilities below are taken for this.
        chosen: (n,) int64.
        log_probs: (n,), written.
        entropies: (n,), written, in nats.
        promises: (n,), written: what the tuples to expect are worth.
        expected: (n, features), written: the mean features.
    """
    flat = observations.reshape(observations.size)
    n_actions, size = observations.shape[1] - 1, observations.shape[2]
    n_tuples = n_actions // 4 + MORE
    work = new_work()
    scores, shares, rows, _ = work
    for n in range(observations.shape[0]):
        first = n * (n_actions + 1) * size
        count = score_legal(flat, first, n_actions, weights, work)
        to_shares(count, work)
        expect(flat, count, work, expected[n])
        promises[n] = promise(count, n_tuples, work, worths)
        log_prob, entropy = lowest, 0.0
        for k in range(count):
            entropy -= shares[k] * scores[k]
            if rows[k] == first + chosen[n] * size:
                log_prob = max(scores[k], lowest)
        log_probs[n], entropies[n] = log_prob, entropy


@kernel(fastmath=SUMS)
def differentiate(  # type: ignore[no-untyped-def]
    observations,
    weights,
    lowest,
    chosen,
    of_log_prob,
    of_entropy,
    of_promise,
    gradients,
):
    """Add to `gradients` the derivatives of what `judge` writes.

    By the weights, and by the worths those of the promises, which tell the policy
    nothing.

    Args:
        observations: (n, actions + 1, features + columns + 1).
        weights: see the module.
        lowest: as in `judge`.
        chosen: (n,) int64.
        of_log_prob: (n,) derivatives of the loss by the log probabilities.
        of_entropy: (n,) the same by the entropies.
        of_promise: (n,) by the promises.
        gradients: arrays like the weights, and like the worths; added to.
    """
    by_linear, by_table, by_worth = gradients
    flat = observations.reshape(observations.size)
    n_actions, size = observations.shape[1] - 1, observations.shape[2]
    n_tuples = n_actions // 4 + MORE
    work = new_work()
    scores, shares, rows, tuples = work
    for n in range(observations.shape[0]):
        first = n * (n_actions + 1) * size
        count = score_legal(flat, first, n_actions, weights, work)
        to_shares(count, work)
        row = first + chosen[n] * size
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
            for i in range(N):
                by_linear[i] += share * flat[rows[k] + i]
            promised = of_promise[n] * np.float32(shares[k])
            for i in range(n_tuples):
                by_table[tuples[k, i]] += share
                by_worth[tuples[k, i]] += promised


@kernel(fastmath=SUMS)
def play_greedy(state, over, rows, randomizer, weights, max_moves, max_pieces):  # type: ignore[no-untyped-def]
    """Play every game that isn't over; see `kernels.play_greedy`."""
    columns, queue, position, _, _, pieces = state
    n_columns = columns.shape[1]
    n_actions, size = 4 * n_columns, N + n_columns + 1
    work = new_work()
    scores, _, places, _ = work
    observation = np.zeros((1, n_actions + 1, size), np.float32)
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
            action = places[best] // size
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
        by_feature: Tensor,
        table: Tensor,
        worths: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return log probabilities, entropies, promises, and mean features (n, F)."""
        n = len(observations)
        log_probs, entropies, promises = torch.empty(3, n)
        expected = torch.empty(n, N)
        judge(
            observations.numpy(),
            (by_feature.numpy(), table.numpy()),
            worths.numpy(),
            lowest,
            chosen.numpy(),
            log_probs.numpy(),
            entropies.numpy(),
            promises.numpy(),
            expected.numpy(),
        )
        ctx.save_for_backward(observations, chosen, by_feature, table)
        ctx.lowest = lowest
        ctx.mark_non_differentiable(expected)
        return log_probs, entropies, promises, expected

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        """Return the derivatives by the weights, and by the worths."""
        observations, chosen, by_feature, table = ctx.saved_tensors
        of_log_prob, of_entropy, of_promise, _ = gradients
        found = [torch.zeros_like(like) for like in (by_feature, table, table)]
        differentiate(
            observations.numpy(),
            (by_feature.numpy(), table.numpy()),
            ctx.lowest,
            chosen.numpy(),
            of_log_prob.contiguous().numpy(),
            of_entropy.contiguous().numpy(),
            of_promise.contiguous().numpy(),
            tuple(gradient.numpy() for gradient in found),
        )
        return None, None, None, *found
