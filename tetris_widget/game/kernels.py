"""The rules, compiled: many games in one call.

Owns what a board is (one integer a column, bit 0 the floor), where pieces land, what is
cleared, when a game is over, and the features of the boards that placements lead to.
Benchmark rules (Thiery & Scherrer): a piece drops straight down in its column; a game
is over when the next piece has no placement under the top. Deliberately doesn't know
rewards or gymnasium.

Every generator is an xorshift64* (Vigna, "An experimental exploration of Marsaglia's
xorshift generators", 2016) of one word in an array, so that a game's whole state is in
its arrays; numba's own generator has a hidden one.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from tetris_widget.game.features import FEATURE_SCALE, FEATURES
from tetris_widget.game.pieces import (
    BOTTOMS,
    HEIGHTS,
    MASKS,
    MAX_ROTATIONS,
    N_PIECES,
    ROTATIONS,
    WIDTHS,
)

BAG, UNIFORM = 0, 1
QUEUE_LENGTH = 2 * N_PIECES
N_FEATURES = len(FEATURES)
NOT_LEGAL = -1


@intrinsic
def popcount(typing_context, bits):
    """Count the bits that are set: one instruction."""

    def generate(context, builder, signature, arguments):
        return builder.ctpop(arguments[0])

    return types.int64(types.int64), generate


@intrinsic
def leading_zeros(typing_context, bits):
    """Count the zeros above the highest bit that is set, of 64: one instruction."""

    def generate(context, builder, signature, arguments):
        return builder.ctlz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.int64), generate


@njit(cache=True)
def height_of(bits):
    """Return the number of the highest bit that is set, from 1; 0 for none."""
    return 64 - leading_zeros(bits)


# Pieces to come


@njit(cache=True)
def random_below(rng, game, n):
    """Draw a number from 0 to n - 1."""
    state = rng[game]
    state ^= state >> np.uint64(12)
    state ^= state << np.uint64(25)
    state ^= state >> np.uint64(27)
    rng[game] = state
    word = (state * np.uint64(0x2545F4914F6CDD1D)) >> np.uint64(32)
    # Lemire's multiply-shift: 7 of 2**32 values are drawn one time too often.
    return np.int64((word * np.uint64(n)) >> np.uint64(32))


@njit(cache=True)
def fill(queue, rng, game, start, randomizer):
    """Draw the next seven pieces into queue[game, start:start + 7]."""
    if randomizer == UNIFORM:
        for i in range(N_PIECES):
            queue[game, start + i] = 1 + random_below(rng, game, N_PIECES)
        return
    for i in range(N_PIECES):
        j = random_below(rng, game, i + 1)
        queue[game, start + i] = queue[game, start + j]
        queue[game, start + j] = i + 1


@njit(cache=True)
def next_piece(queue, position, rng, game, randomizer):
    """Move on to the next piece; seven more are always known."""
    position[game] += 1
    if position[game] == N_PIECES:
        position[game] = 0
        for i in range(N_PIECES):
            queue[game, i] = queue[game, N_PIECES + i]
        fill(queue, rng, game, N_PIECES, randomizer)


@njit(cache=True)
def new_game(state, game, randomizer):
    """Empty the board and draw new pieces; the generator goes on."""
    columns, queue, position, rng, lines, pieces = state
    for c in range(columns.shape[1]):
        columns[game, c] = 0
    position[game] = 0
    lines[game] = 0
    pieces[game] = 0
    fill(queue, rng, game, 0, randomizer)
    fill(queue, rng, game, N_PIECES, randomizer)


# Placements


@njit(cache=True)
def landing_row(board, heights, piece, rotation, column):
    """Return the row, from the floor, of the lower edge of the piece's box."""
    row = 0
    for j in range(WIDTHS[piece, rotation]):
        row = max(row, heights[column + j] - BOTTOMS[piece, rotation, j])
    return row


@njit(cache=True)
def drop(board, heights, piece, rotation, column, rows, out):
    """Write the board after a placement to `out`.

    Returns:
        The row it lands in (-1: not legal, `out` is undefined), the lines cleared, and
        the cells of the piece that were in them.
    """
    n_columns = board.shape[0]
    if rotation >= ROTATIONS[piece] or column + WIDTHS[piece, rotation] > n_columns:
        return NOT_LEGAL, 0, 0
    row = landing_row(board, heights, piece, rotation, column)
    if row + HEIGHTS[piece, rotation] > rows:
        return NOT_LEGAL, 0, 0
    for c in range(n_columns):
        out[c] = board[c]
    for j in range(WIDTHS[piece, rotation]):
        out[column + j] |= MASKS[piece, rotation, j] << row
    full = np.int64(-1)
    for c in range(n_columns):
        full &= np.int64(out[c])
    if full == 0:
        return row, 0, 0
    lines = popcount(full)
    cells = 0
    for j in range(WIDTHS[piece, rotation]):
        cells += popcount((np.int64(MASKS[piece, rotation, j]) << row) & full)
    clear(out, full)
    return row, lines, cells


@njit(cache=True)
def clear(board, full):
    """Take out the rows whose bits are set in `full`."""
    while full:
        row = height_of(full) - 1  # from the top, so that those below keep their place
        below = (np.int64(1) << row) - 1
        full &= below
        for c in range(board.shape[0]):
            bits = np.int64(board[c])
            board[c] = (bits & below) | ((bits >> 1) & ~below)


@njit(cache=True)
def measure_heights(board, heights):
    """Write the height of each column."""
    for c in range(board.shape[0]):
        heights[c] = height_of(np.int64(board[c]))


@njit(cache=True)
def has_placement(board, heights, piece, rows):
    """Return whether the piece can be placed anywhere."""
    for rotation in range(ROTATIONS[piece]):
        for column in range(board.shape[0] - WIDTHS[piece, rotation] + 1):
            row = landing_row(board, heights, piece, rotation, column)
            if row + HEIGHTS[piece, rotation] <= rows:
                return True
    return False


@njit(cache=True)
def legal_actions(board, heights, piece, rows, mask):
    """Write which actions (rotation × columns + column) are legal."""
    n_columns = board.shape[0]
    for action in range(mask.shape[0]):
        mask[action] = False
    for rotation in range(ROTATIONS[piece]):
        for column in range(n_columns - WIDTHS[piece, rotation] + 1):
            row = landing_row(board, heights, piece, rotation, column)
            mask[rotation * n_columns + column] = row + HEIGHTS[piece, rotation] <= rows


# Features


@njit(cache=True)
def describe(board, rows, scale, landing_height, eroded_cells, lines, out):
    """Write the scaled features of a board, in the order of FEATURES."""
    n_columns = board.shape[0]
    wall = (np.int64(1) << rows) - 1
    row_transitions = column_transitions = holes = wells = depth = 0
    total = highest = bumpiness = 0
    hole_rows = np.int64(0)
    differences = 0
    left = wall
    previous_height = 0
    for c in range(n_columns):
        bits = np.int64(board[c])
        right = np.int64(board[c + 1]) if c + 1 < n_columns else wall
        height = height_of(bits)
        full = popcount(bits)
        row_transitions += popcount(left ^ bits)
        column_transitions += popcount(bits ^ ((bits << 1) | 1))
        if full < height:
            holes += height - full
            covered = ~bits & ((np.int64(1) << height) - 1)
            hole_rows |= covered
            # Every full cell above the stack that stands on the floor is above a hole.
            floor_stack = popcount(bits & ~(bits + 1) & ((bits ^ (bits + 1)) >> 1))
            depth += full - floor_stack
        well = ~bits & left & right & wall
        if well:
            wells += sum_of_wells(well, bits)
        total += height
        highest = max(highest, height)
        if c > 0:
            step = height - previous_height
            bumpiness += abs(step)
            if -2 <= step <= 2:
                differences |= 1 << (step + 2)
        previous_height = height
        left = bits
    row_transitions += popcount(left ^ wall)
    out[0] = landing_height * scale[0]
    out[1] = eroded_cells * scale[1]
    out[2] = row_transitions * scale[2]
    out[3] = column_transitions * scale[3]
    out[4] = holes * scale[4]
    out[5] = wells * scale[5]
    out[6] = depth * scale[6]
    out[7] = popcount(hole_rows) * scale[7]
    out[8] = popcount(differences) * scale[8]
    out[9] = total * scale[9]
    out[10] = highest * scale[10]
    out[11] = bumpiness * scale[11]
    out[12] = lines * scale[12]


@njit(cache=True)
def sum_of_wells(well, bits):
    """Sum over the cells of `well` the empty cells from each downwards."""
    total = 0
    while well:
        below = (well & -well) * 2 - 1  # the lowest well cell and all under it
        total += popcount(below) - height_of(bits & below)
        well &= well - 1
    return total


@njit(cache=True)
def describe_placements(board, heights, piece, rows, scale, scratch, out):
    """Write the features of every placement and, last, whether it is legal.

    Args:
        out: (4 × columns, features + 1); rows of illegal placements become 0.

    Returns:
        The number of legal placements.
    """
    n_columns = board.shape[0]
    count = 0
    for rotation in range(MAX_ROTATIONS):
        for column in range(n_columns):
            target = out[rotation * n_columns + column]
            row, lines, cells = drop(
                board, heights, piece, rotation, column, rows, scratch
            )
            if row == NOT_LEGAL:
                for i in range(N_FEATURES + 1):
                    target[i] = 0.0
                continue
            landing = row + (HEIGHTS[piece, rotation] - 1) / 2.0
            describe(scratch, rows, scale, landing, lines * cells, lines, target)
            target[N_FEATURES] = 1.0
            count += 1
    return count


# Playing


@njit(cache=True)
def fold(action, piece, n_columns):
    """Return the rotation and column that any action in range stands for.

    Orientations that look alike are one; a column too far right is the last that fits.
    """
    rotation = (action // n_columns) % ROTATIONS[piece]
    column = min(action % n_columns, n_columns - WIDTHS[piece, rotation])
    return rotation, column


@njit(cache=True)
def move(state, game, action, rows, randomizer, heights, scratch):
    """Carry out one action of one game.

    Returns:
        Rotation, column, landing row from the floor (-1: it would not fit, and the
        game is over with the board unchanged), lines cleared, and whether the game is
        over.
    """
    columns, queue, position, rng, lines, pieces = state
    board = columns[game]
    piece = queue[game, position[game]]
    rotation, column = fold(action, piece, board.shape[0])
    measure_heights(board, heights)
    row, cleared, _ = drop(board, heights, piece, rotation, column, rows, scratch)
    pieces[game] += 1
    if row == NOT_LEGAL:
        return rotation, column, row, 0, True
    for c in range(board.shape[0]):
        board[c] = scratch[c]
    lines[game] += cleared
    next_piece(queue, position, rng, game, randomizer)
    measure_heights(board, heights)
    piece = queue[game, position[game]]
    return (
        rotation,
        column,
        row,
        cleared,
        not has_placement(board, heights, piece, rows),
    )


@njit(cache=True, nogil=True)
def start(state, randomizer):
    """Begin every game."""
    for game in range(state[0].shape[0]):
        new_game(state, game, randomizer)


@njit(cache=True, nogil=True)
def step(state, actions, rows, randomizer, max_pieces, out):
    """Carry out one action in every game; games that end begin anew.

    Args:
        max_pieces: a game of so many pieces is truncated; 0: never.
        out: (moves (n, 4): rotation, column, row, lines cleared; final (n, 2): lines
            and pieces after the move; terminated (n,); truncated (n,); final_columns
            (n, columns): the boards after the move, before a new game;
            final_piece (n,)).
    """
    columns, queue, position, _, lines, pieces = state
    moves, final, terminated, truncated, final_columns, final_piece = out
    heights = np.empty(columns.shape[1], np.int64)
    scratch = np.empty(columns.shape[1], np.int32)
    for game in range(columns.shape[0]):
        rotation, column, row, cleared, over = move(
            state, game, actions[game], rows, randomizer, heights, scratch
        )
        moves[game, 0] = rotation
        moves[game, 1] = column
        moves[game, 2] = row
        moves[game, 3] = cleared
        final[game, 0] = lines[game]
        final[game, 1] = pieces[game]
        terminated[game] = over
        truncated[game] = not over and max_pieces > 0 and pieces[game] >= max_pieces
        if over or truncated[game]:
            for c in range(columns.shape[1]):
                final_columns[game, c] = columns[game, c]
            final_piece[game] = queue[game, position[game]]
            new_game(state, game, randomizer)


@njit(cache=True, nogil=True)
def observe_afterstates(columns, pieces, rows, scale, out):
    """Write the `afterstates` observation of each board with its current piece.

    Args:
        pieces: (n,) the current piece of each.
        out: (n, 4 × columns + 1, features + 1).
    """
    heights = np.empty(columns.shape[1], np.int64)
    scratch = np.empty(columns.shape[1], np.int32)
    for game in range(columns.shape[0]):
        board = columns[game]
        measure_heights(board, heights)
        describe_placements(
            board, heights, pieces[game], rows, scale, scratch, out[game]
        )
        last = out[game, out.shape[1] - 1]
        describe(board, rows, scale, 0.0, 0, 0, last)
        last[N_FEATURES] = 0.0


@njit(cache=True, nogil=True)
def observe_boards(columns, pieces, rows, out):
    """Write the `board` observation: cells (top row first), then the piece, one-hot.

    Args:
        out: (n, 8, rows, columns).
    """
    out[:] = 0.0
    for game in range(columns.shape[0]):
        for c in range(columns.shape[1]):
            for row in range(rows):
                if (columns[game, c] >> row) & 1:
                    out[game, 0, rows - 1 - row, c] = 1.0
        out[game, pieces[game]] = 1.0


@njit(cache=True, nogil=True)
def mask_actions(columns, pieces, rows, out):
    """Write which actions are legal: (n, 4 × columns) bool."""
    heights = np.empty(columns.shape[1], np.int64)
    for game in range(columns.shape[0]):
        measure_heights(columns[game], heights)
        legal_actions(columns[game], heights, pieces[game], rows, out[game])


@njit(cache=True)
def best_action(board, heights, piece, rows, scale, weights, scratch, features):
    """Return the legal placement with the highest score; the first one wins."""
    n_columns = board.shape[0]
    best, best_score = -1, -np.inf
    for rotation in range(ROTATIONS[piece]):
        for column in range(n_columns - WIDTHS[piece, rotation] + 1):
            row, lines, cells = drop(
                board, heights, piece, rotation, column, rows, scratch
            )
            if row == NOT_LEGAL:
                continue
            landing = row + (HEIGHTS[piece, rotation] - 1) / 2.0
            describe(scratch, rows, scale, landing, lines * cells, lines, features)
            score = 0.0
            for i in range(N_FEATURES):
                score += weights[i] * features[i]
            if score > best_score:
                best, best_score = rotation * n_columns + column, score
    return best


@njit(cache=True, nogil=True)
def play_greedy(state, over, rows, randomizer, scale, weights, max_moves, max_pieces):
    """Play every game that isn't over by a linear score of the boards it leads to.

    Args:
        over: (n,) bool, updated.
        weights: (features,) float64, of the scaled features.
        max_moves: moves per game in this call.
        max_pieces: a game stops (it isn't over) after so many pieces.

    Returns:
        The number of moves made.
    """
    columns, queue, position, _, _, pieces = state
    heights = np.empty(columns.shape[1], np.int64)
    scratch = np.empty(columns.shape[1], np.int32)
    features = np.empty(N_FEATURES, np.float64)
    made = 0
    for game in range(columns.shape[0]):
        for _ in range(max_moves):
            if over[game] or pieces[game] >= max_pieces:
                break
            board = columns[game]
            measure_heights(board, heights)
            piece = queue[game, position[game]]
            action = best_action(
                board, heights, piece, rows, scale, weights, scratch, features
            )
            over[game] = move(state, game, action, rows, randomizer, heights, scratch)[
                4
            ]
            made += 1
    return made


@njit(cache=True, nogil=True)
def greedy_actions(columns, pieces, rows, scale, weights):
    """Return the best action of each board by a linear score: (n,)."""
    heights = np.empty(columns.shape[1], np.int64)
    scratch = np.empty(columns.shape[1], np.int32)
    features = np.empty(N_FEATURES, np.float64)
    actions = np.empty(columns.shape[0], np.int64)
    for game in range(columns.shape[0]):
        board = columns[game]
        measure_heights(board, heights)
        actions[game] = best_action(
            board, heights, pieces[game], rows, scale, weights, scratch, features
        )
    return actions


@njit(cache=True, nogil=True)
def move_active(state, actions, active, over, rows, randomizer):
    """Carry out one action in every active game; games that end stay as they are."""
    heights = np.empty(state[0].shape[1], np.int64)
    scratch = np.empty(state[0].shape[1], np.int32)
    for game in range(actions.shape[0]):
        if active[game]:
            over[game] = move(
                state, game, actions[game], rows, randomizer, heights, scratch
            )[4]


# The scale of the features in double precision, for the greedy kernels.
SCALE = FEATURE_SCALE.astype(np.float64)
