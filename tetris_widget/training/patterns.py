"""A board scored by the patterns in it, compiled: choosing, judging, and its gradient.

Owns a convolution in its plainest form, learned as a table: every window of three by
three cells counts by what it shows, whatever that is and wherever it is, and every cell
by its row. No feature is made by hand: what is good in a board is up to the table, as
in the n-tuple networks of Jaśkowski et al., "High-dimensional function approximation
for knowledge-free reinforcement learning" (2015). The boards that are scored are those
that the placements lead to; they differ from the present one in few windows, and only
those are looked at. Deliberately doesn't know policies or algorithms.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from tetris_widget.game.compiler import kernel, part
from tetris_widget.game.kernels import (
    WINDOW,
    clear,
    height_of,
    landing_row,
    move,
)
from tetris_widget.game.pieces import HEIGHTS, MASKS, N_PIECES, ROTATIONS, WIDTHS

Tensor = torch.Tensor
TALL = 3
WIDE = 3
SHOWN = (1 << TALL) - 1
PATTERNS = 1 << (TALL * WIDE)
MAX_ACTIONS = 48
# Of one placement: windows and cells of a whole board of 28 by 12, all changed.
MAX_CHANGES = 29 * 12 + 28 * 12


def n_weights(rows: int) -> int:
    """Return the length of the table: of all patterns, then of all rows."""
    return PATTERNS + rows


@kernel
def new_work(n_columns):  # type: ignore[no-untyped-def]
    """Return arrays to work on."""
    size = MAX_ACTIONS * MAX_CHANGES
    return (
        # The board with its walls and floor: column c at c + 1; and after a placement.
        np.zeros(n_columns + 2, np.int64),
        np.zeros(n_columns + 2, np.int64),
        # Without them, and wider, as `landing_row` asks for them.
        np.zeros(n_columns + WINDOW, np.int64),
        np.zeros(n_columns + WINDOW, np.int64),
        # Of the legal placements: the action; what it adds to the board and takes from
        # it, as places in the table, from [k] to [k + 1].
        np.zeros(MAX_ACTIONS, np.int64),
        np.zeros(MAX_ACTIONS + 1, np.int64),
        np.zeros(MAX_ACTIONS + 1, np.int64),
        np.zeros(size, np.int16),
        np.zeros(size, np.int16),
    )


@part(forceinline=True)
def pattern_at(board, x, y):  # type: ignore[no-untyped-def]
    """Return what the window at column x and row y shows (with walls and floor)."""
    found = (board[x] >> y) & SHOWN
    for i in range(1, WIDE):
        found |= ((board[x + i] >> y) & SHOWN) << (TALL * i)
    return found


@part
def read(flat, first, rows, bits):  # type: ignore[no-untyped-def]
    """Write the columns of an observed board; return the piece, 0 for none.

    Args:
        flat: `board` observations; this one begins at `first`.
        bits: (columns + WINDOW,) int64, written.
    """
    n_columns = len(bits) - WINDOW
    for c in range(n_columns):
        bits[c] = 0
    at = first
    for row in range(rows - 1, -1, -1):
        for c in range(n_columns):
            bits[c] |= np.int64(flat[at]) << row
            at += 1
    for piece in range(1, N_PIECES + 1):
        if flat[at]:
            return piece
        at += rows * n_columns
    return 0


@part
def enumerate_changes(piece, rows, work):  # type: ignore[no-untyped-def]
    """Write what each legal placement changes on the board in `work`; return how many.

    The board is in the third array, without walls.
    """
    board, after, bits, heights, actions, added, taken, more, less = work
    n_columns = len(board) - 2
    board[0] = board[n_columns + 1] = after[0] = after[n_columns + 1] = -1
    for c in range(n_columns):
        heights[c] = height_of(bits[c])
        board[c + 1] = after[c + 1] = (bits[c] << 1) | 1
    count = n_more = n_less = 0
    for rotation in range(ROTATIONS[piece]):
        width, height = WIDTHS[piece, rotation], HEIGHTS[piece, rotation]
        for column in range(n_columns - width + 1):
            row = landing_row(heights, piece, rotation, column)
            if row + height > rows:
                continue
            for j in range(width):
                mask = np.int64(MASKS[piece, rotation, j])
                after[column + 1 + j] |= mask << (row + 1)
            full = np.int64(-2)
            for c in range(1, n_columns + 1):
                full &= after[c]
            left, right = max(column - 1, 0), min(column + width, n_columns - 1)
            low, high = max(row + 2 - TALL, 0), row + height
            if full:
                clear(after, np.int64(1), n_columns, full)
                left, right, high = 0, n_columns - 1, rows
            for x in range(left, right + 1):
                for y in range(low, high + 1):
                    old, new = pattern_at(board, x, y), pattern_at(after, x, y)
                    if old != new:
                        less[n_less] = old
                        more[n_more] = new
                        n_less += 1
                        n_more += 1
            for c in range(left + 1, right + 2):
                changed = board[c] ^ after[c]
                while changed:
                    y = height_of(changed) - 1
                    changed ^= np.int64(1) << y
                    if (after[c] >> y) & 1:
                        more[n_more] = PATTERNS + y - 1
                        n_more += 1
                    else:
                        less[n_less] = PATTERNS + y - 1
                        n_less += 1
                after[c] = board[c]
            actions[count] = rotation * n_columns + column
            count += 1
            added[count], taken[count] = n_more, n_less
    return count


@part
def score(count, weights, work, scores):  # type: ignore[no-untyped-def]
    """Write the scores of the placements: the change that they make to the board's."""
    _, _, _, _, _, added, taken, more, less = work
    for k in range(count):
        total = 0.0
        for i in range(added[k], added[k + 1]):
            total += weights[more[i]]
        for i in range(taken[k], taken[k + 1]):
            total -= weights[less[i]]
        scores[k] = total


@part
def to_shares(count, scores, shares):  # type: ignore[no-untyped-def]
    """Turn scores into log probabilities, and write the probabilities."""
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


@part
def count_patterns(rows, work, counts):  # type: ignore[no-untyped-def]
    """Write how often each pattern is on the board, and the cells of each row."""
    board = work[0]
    for i in range(len(counts)):
        counts[i] = 0.0
    for x in range(len(board) - 2):
        for y in range(rows + 1):
            counts[pattern_at(board, x, y)] += np.float32(1.0)
        for y in range(rows):
            counts[PATTERNS + y] += np.float32((board[x + 1] >> (y + 1)) & 1)


@part
def add_changes(k, share, work, counts):  # type: ignore[no-untyped-def]
    """Add a share of what the k-th placement changes."""
    _, _, _, _, _, added, taken, more, less = work
    for i in range(added[k], added[k + 1]):
        counts[more[i]] += share
    for i in range(taken[k], taken[k + 1]):
        counts[less[i]] -= share


@kernel
def choose(observations, weights, uniforms, chosen, log_probs, expected):  # type: ignore[no-untyped-def]
    """Draw a legal placement from each observation.

    Args:
        observations: (n, 8, rows, columns) uint8.
        weights: the table.
        uniforms: (n,) random numbers from 0 to 1, one for each draw.
        chosen: (n,) int64, written.
        log_probs: (n,), written: of what was chosen.
        expected: (n, table), written: patterns to expect on the next board.
    """
    n, planes, rows, n_columns = observations.shape
    flat = observations.reshape(observations.size)
    work = new_work(n_columns)
    scores, shares = np.empty(MAX_ACTIONS), np.empty(MAX_ACTIONS)
    for game in range(n):
        first = game * planes * rows * n_columns
        piece = read(flat, first, rows, work[2])
        count = enumerate_changes(piece, rows, work)
        count_patterns(rows, work, expected[game])
        if count == 0:
            # Only where a game is over: all are as good.
            chosen[game], log_probs[game] = 0, -np.log(4 * n_columns)
            continue
        score(count, weights, work, scores)
        to_shares(count, scores, shares)
        so_far, found = 0.0, -1
        for k in range(count):
            so_far += shares[k]
            if found < 0 and so_far > uniforms[game]:
                found = k
            add_changes(k, np.float32(shares[k]), work, expected[game])
        if found < 0:  # rounding
            found = count - 1
        chosen[game] = work[4][found]
        log_probs[game] = scores[found]


@kernel
def judge(  # type: ignore[no-untyped-def]
    observations, weights, lowest, chosen, log_probs, entropies, expected
):
    """Write what is known of placements that were chosen.

    Args:
        observations: (n, 8, rows, columns) uint8.
        weights: the table.
        lowest: log probabilities below are taken for this.
        chosen: (n,) int64.
        log_probs: (n,), written.
        entropies: (n,), written, in nats.
        expected: (n, table), written: patterns to expect on the next board.
    """
    n, planes, rows, n_columns = observations.shape
    flat = observations.reshape(observations.size)
    work = new_work(n_columns)
    scores, shares = np.empty(MAX_ACTIONS), np.empty(MAX_ACTIONS)
    for game in range(n):
        first = game * planes * rows * n_columns
        piece = read(flat, first, rows, work[2])
        count = enumerate_changes(piece, rows, work)
        count_patterns(rows, work, expected[game])
        score(count, weights, work, scores)
        to_shares(count, scores, shares)
        log_prob, entropy = lowest, 0.0
        for k in range(count):
            entropy -= shares[k] * scores[k]
            if work[4][k] == chosen[game]:
                log_prob = max(scores[k], lowest)
            add_changes(k, np.float32(shares[k]), work, expected[game])
        log_probs[game], entropies[game] = log_prob, entropy


@kernel
def differentiate(  # type: ignore[no-untyped-def]
    observations, weights, lowest, chosen, of_log_prob, of_entropy, gradient
):
    """Add to `gradient` (table) the derivative by the weights of what `judge` writes.

    Args:
        observations: (n, 8, rows, columns) uint8.
        weights: the table.
        lowest: as in `judge`.
        chosen: (n,) int64.
        of_log_prob: (n,) derivatives of the loss by the log probabilities.
        of_entropy: (n,) the same by the entropies.
        gradient: (table,) float64, added to.
    """
    n, planes, rows, n_columns = observations.shape
    flat = observations.reshape(observations.size)
    work = new_work(n_columns)
    scores, shares = np.empty(MAX_ACTIONS), np.empty(MAX_ACTIONS)
    for game in range(n):
        first = game * planes * rows * n_columns
        piece = read(flat, first, rows, work[2])
        count = enumerate_changes(piece, rows, work)
        score(count, weights, work, scores)
        to_shares(count, scores, shares)
        entropy = 0.0
        is_moved = False
        for k in range(count):
            entropy -= shares[k] * scores[k]
            is_moved |= work[4][k] == chosen[game] and scores[k] > lowest
        by_log_prob = of_log_prob[game] if is_moved else np.float32(0.0)
        for k in range(count):
            share = -shares[k] * (
                by_log_prob + of_entropy[game] * (scores[k] + entropy)
            )
            if work[4][k] == chosen[game]:
                share += by_log_prob
            add_changes(k, share, work, gradient)


@kernel
def score_all(observations, weights, scores):  # type: ignore[no-untyped-def]
    """Write the scores of all legal placements.

    Args:
        observations: (n, 8, rows, columns) uint8.
        weights: the table.
        scores: (n, actions); those of placements that are not legal are left.
    """
    n, planes, rows, n_columns = observations.shape
    flat = observations.reshape(observations.size)
    work = new_work(n_columns)
    found = np.empty(MAX_ACTIONS)
    for game in range(n):
        first = game * planes * rows * n_columns
        piece = read(flat, first, rows, work[2])
        count = enumerate_changes(piece, rows, work)
        score(count, weights, work, found)
        for k in range(count):
            scores[game, work[4][k]] = found[k]


@part
def best_action(weights, piece, rows, work, scores):  # type: ignore[no-untyped-def]
    """Return the best placement on the board in `work`; the first one wins."""
    count = enumerate_changes(piece, rows, work)
    score(count, weights, work, scores)
    best = 0
    for k in range(1, count):
        if scores[k] > scores[best]:
            best = k
    return work[4][best] if count else 0


@kernel
def play_greedy(state, over, rows, randomizer, weights, max_moves, max_pieces):  # type: ignore[no-untyped-def]
    """Play every game that isn't over; see `kernels.play_greedy`."""
    columns, queue, position, _, _, pieces = state
    n_columns = columns.shape[1]
    work = new_work(n_columns)
    scores = np.empty(MAX_ACTIONS)
    made = 0
    for game in range(columns.shape[0]):
        for _ in range(max_moves):
            if over[game] or pieces[game] >= max_pieces:
                break
            for c in range(n_columns):
                work[2][c] = columns[game, c]
            piece = np.int64(queue[game, position[game]])
            action = best_action(weights, piece, rows, work, scores)
            over[game] = move(state, game, action, rows, randomizer)[4]
            made += 1
    return made


class Judgement(torch.autograd.Function):
    """`judge` as an operation that gradients go through, to the weights only."""

    @staticmethod
    def forward(
        ctx: Any, weights: Tensor, observations: Tensor, chosen: Tensor, lowest: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return log probabilities (n,), entropies (n,), expected patterns (n, P)."""
        n = len(observations)
        log_probs, entropies = torch.empty(n), torch.empty(n)
        expected = torch.empty(n, len(weights))
        judge(
            observations.numpy(),
            weights.numpy(),
            lowest,
            chosen.numpy(),
            log_probs.numpy(),
            entropies.numpy(),
            expected.numpy(),
        )
        ctx.save_for_backward(weights, observations, chosen)
        ctx.lowest = lowest
        ctx.mark_non_differentiable(expected)
        return log_probs, entropies, expected

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        """Return the derivative by the weights."""
        weights, observations, chosen = ctx.saved_tensors
        of_log_prob, of_entropy, _ = gradients
        gradient = torch.zeros(len(weights), dtype=torch.float64)
        differentiate(
            observations.numpy(),
            weights.numpy(),
            ctx.lowest,
            chosen.numpy(),
            of_log_prob.contiguous().numpy(),
            of_entropy.contiguous().numpy(),
            gradient.numpy(),
        )
        return gradient.float(), None, None, None
