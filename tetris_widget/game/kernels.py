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
    N_CELLS,
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


@intrinsic
def trailing_zeros(typing_context, bits):
    """Count the zeros below the lowest bit that is set, of 64: one instruction."""

    def generate(context, builder, signature, arguments):
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))

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
def landing_row(heights, first, piece, rotation):
    """Return the row, from the floor, of the lower edge of the piece's box.

    Args:
        heights: of columns; `first` is where those under the piece begin.
    """
    row = 0
    for j in range(WIDTHS[piece, rotation]):
        row = max(row, heights[first + j] - BOTTOMS[piece, rotation, j])
    return row


@njit(cache=True)
def drop(board, heights, piece, rotation, column, rows):
    """Place a piece on a board whose heights are known, and clear its full lines.

    The heights follow. A placement that is not legal changes nothing.

    Returns:
        The row it lands in (-1: not legal), and the lines cleared.
    """
    width = WIDTHS[piece, rotation]
    if rotation >= ROTATIONS[piece] or column + width > board.shape[0]:
        return NOT_LEGAL, 0
    row = landing_row(heights, column, piece, rotation)
    if row + HEIGHTS[piece, rotation] > rows:
        return NOT_LEGAL, 0
    for j in range(width):
        board[column + j] |= MASKS[piece, rotation, j] << row
        heights[column + j] = height_of(np.int64(board[column + j]))
    full = np.int64(-1)
    for c in range(board.shape[0]):
        full &= np.int64(board[c])
    if full == 0:
        return row, 0
    clear(board, 0, board.shape[0], full)
    measure_heights(board, heights)
    return row, popcount(full)


@njit(cache=True)
def clear(bits, first, n_columns, full):
    """Take out the rows whose bits are set in `full` of bits[first : … + n_columns]."""
    while full:
        row = height_of(full) - 1  # from the top, so that those below keep their place
        below = (np.int64(1) << row) - 1
        full &= below
        for c in range(first, first + n_columns):
            own = np.int64(bits[c])
            bits[c] = (own & below) | ((own >> 1) & ~below)


@njit(cache=True)
def measure_heights(board, heights):
    """Write the height of each column."""
    for c in range(board.shape[0]):
        heights[c] = height_of(np.int64(board[c]))


@njit(cache=True)
def has_placement(heights, piece, rows):
    """Return whether the piece can be placed anywhere."""
    n_columns = heights.shape[0]
    for rotation in range(ROTATIONS[piece]):
        for column in range(n_columns - WIDTHS[piece, rotation] + 1):
            row = landing_row(heights, column, piece, rotation)
            if row + HEIGHTS[piece, rotation] <= rows:
                return True
    return False


@njit(cache=True)
def legal_actions(heights, piece, rows, mask):
    """Write which actions (rotation × columns + column) are legal."""
    n_columns = heights.shape[0]
    mask[:] = False
    for rotation in range(ROTATIONS[piece]):
        for column in range(n_columns - WIDTHS[piece, rotation] + 1):
            row = landing_row(heights, column, piece, rotation)
            mask[rotation * n_columns + column] = row + HEIGHTS[piece, rotation] <= rows


# Features


@njit(cache=True)
def sum_of_wells(well, bits):
    """Sum over the cells of `well` the empty cells from each downwards."""
    total = 0
    while well:
        lowest = well & -well
        # Going up a run of adjacent well cells, each has one more empty cell.
        length = trailing_zeros(~(well >> trailing_zeros(well)))
        depth = height_of(lowest) - height_of(bits & (lowest - 1))
        total += length * depth + ((length * (length - 1)) >> 1)
        well &= well + lowest
    return total


# What is measured once of a board, to know its boards after a placement: a survey. One
# flat array, a desk, has all that these kernels work on, because numba counts
# references to arrays: many small ones cost more than the work.
(
    # The columns between two walls: column c is at BITS + 1 + c.
    BITS,
    HEIGHTS_OF,
    # The rows that are full in all columns left of c; in all from c on.
    FULL_BEFORE,
    FULL_FROM,
    # The set of differences (-2 to 2) of adjacent heights left of c; from c on.
    STEPS_BEFORE,
    STEPS_FROM,
    # The share of column c in `cumulative_wells`; whether it has holes.
    WELLS_OF,
    HAS_HOLES,
    # The features of the board in FEATURES' order, but `rows_with_holes` as their set.
    SUMS,
    SURVEY_SIZE,
) = range(0, 160, 16)
# A desk: a survey, another to work on, then for each legal placement its action, and
# what it leads to (see `describe_placements`).
SPARE = SURVEY_SIZE
MAX_ACTIONS = MAX_ROTATIONS * 12
ACTIONS = 2 * SURVEY_SIZE
DESCRIPTIONS = ACTIONS + MAX_ACTIONS
DESCRIPTION_SIZE = 16
DESK_SIZE = DESCRIPTIONS + MAX_ACTIONS * DESCRIPTION_SIZE
(
    LANDING_HEIGHT,
    ERODED_CELLS,
    ROW_TRANSITIONS,
    COLUMN_TRANSITIONS,
    HOLES,
    CUMULATIVE_WELLS,
    HOLE_DEPTH,
    ROWS_WITH_HOLES,
    DIVERSITY,
    SUM_HEIGHTS,
    MAX_HEIGHT,
    BUMPINESS,
    LINES,
) = range(N_FEATURES)


@njit(cache=True)
def step_bit(step):
    """Return a difference of heights as a member of a set; none beyond -2 to 2."""
    return 1 << (step + 2) if -2 <= step <= 2 else 0


@njit(cache=True)
def examine(desk, survey, n_columns, rows):
    """Measure the board whose columns are in a survey's BITS.

    Args:
        survey: where it begins in the desk.
    """
    wall = (np.int64(1) << rows) - 1
    bits = survey + BITS
    desk[bits] = desk[bits + n_columns + 1] = wall
    row_transitions = column_transitions = holes = wells = depth = 0
    total = highest = bumpiness = previous = 0
    hole_rows = steps = np.int64(0)
    full = np.int64(-1)
    for c in range(n_columns):
        left, own, right = desk[bits + c], desk[bits + c + 1], desk[bits + c + 2]
        height = height_of(own)
        count = popcount(own)
        row_transitions += popcount(left ^ own)
        column_transitions += popcount(own ^ ((own << 1) | 1))
        if count < height:
            holes += height - count
            hole_rows |= ~own & ((np.int64(1) << height) - 1)
            # Every full cell above the stack that stands on the floor is above a hole.
            depth += count - trailing_zeros(~own)
        share = sum_of_wells(~own & left & right & wall, own)
        wells += share
        total += height
        highest = max(highest, height)
        desk[survey + HEIGHTS_OF + c] = height
        desk[survey + HAS_HOLES + c] = height - count
        desk[survey + WELLS_OF + c] = share
        desk[survey + FULL_BEFORE + c] = full
        desk[survey + STEPS_BEFORE + c] = steps
        full &= own
        if c > 0:
            bumpiness += abs(height - previous)
            steps |= step_bit(height - previous)
        previous = height
    row_transitions += popcount(desk[bits + n_columns] ^ wall)
    desk[survey + SUMS + ROW_TRANSITIONS] = row_transitions
    desk[survey + SUMS + COLUMN_TRANSITIONS] = column_transitions
    desk[survey + SUMS + HOLES] = holes
    desk[survey + SUMS + CUMULATIVE_WELLS] = wells
    desk[survey + SUMS + HOLE_DEPTH] = depth
    desk[survey + SUMS + ROWS_WITH_HOLES] = hole_rows
    desk[survey + SUMS + DIVERSITY] = popcount(steps)
    desk[survey + SUMS + SUM_HEIGHTS] = total
    desk[survey + SUMS + MAX_HEIGHT] = highest
    desk[survey + SUMS + BUMPINESS] = bumpiness
    full, steps = np.int64(-1), np.int64(0)
    desk[survey + FULL_FROM + n_columns] = full
    desk[survey + STEPS_FROM + n_columns] = steps
    for c in range(n_columns - 1, -1, -1):
        full &= desk[bits + c + 1]
        height = desk[survey + HEIGHTS_OF + c]
        if c + 1 < n_columns:
            steps |= step_bit(previous - height)
        previous = height
        desk[survey + FULL_FROM + c] = full
        desk[survey + STEPS_FROM + c] = steps


@njit(cache=True)
def survey_board(desk, board, rows):
    """Measure a board, into the desk's first survey."""
    for c in range(board.shape[0]):
        desk[BITS + 1 + c] = board[c]
    examine(desk, 0, board.shape[0], rows)


@njit(cache=True)
def copy_features(desk, survey, out):
    """Write the features of a surveyed board itself as a description at `out`."""
    for i in range(N_FEATURES):
        desk[out + i] = desk[survey + SUMS + i]
    desk[out + ROWS_WITH_HOLES] = popcount(desk[out + ROWS_WITH_HOLES])
    desk[out + LANDING_HEIGHT] = desk[out + ERODED_CELLS] = desk[out + LINES] = 0


@njit(cache=True)
def describe_clearing(desk, piece, rotation, column, row, full, n_columns, rows, out):
    """Describe the board after a placement that fills the rows `full`."""
    first = SPARE + BITS + 1
    for c in range(n_columns):
        desk[first + c] = desk[BITS + 1 + c]
    cells = 0
    for j in range(WIDTHS[piece, rotation]):
        mask = np.int64(MASKS[piece, rotation, j]) << row
        desk[first + column + j] |= mask
        cells += popcount(mask & full)
    clear(desk, first, n_columns, full)
    examine(desk, SPARE, n_columns, rows)
    copy_features(desk, SPARE, out)
    lines = popcount(full)
    desk[out + ERODED_CELLS] = lines * cells
    desk[out + LINES] = lines


@njit(cache=True)
def describe_filling(desk, piece, rotation, column, row, n_columns, out):
    """Describe the board after a placement that clears nothing.

    Only the columns that the piece touches and their neighbours are looked at.
    """
    bits, heights = BITS + 1 + column, HEIGHTS_OF + column
    wall = desk[BITS]
    width = WIDTHS[piece, rotation]
    end = column + width
    gaps = contacts = 0
    column_transitions = desk[SUMS + COLUMN_TRANSITIONS]
    wells = desk[SUMS + CUMULATIVE_WELLS]
    depth = desk[SUMS + HOLE_DEPTH]
    hole_rows = desk[SUMS + ROWS_WITH_HOLES]
    highest = desk[SUMS + MAX_HEIGHT]
    bumpiness = desk[SUMS + BUMPINESS]
    steps = desk[STEPS_BEFORE + column] | desk[STEPS_FROM + end]
    cells = np.int64(MASKS[piece, rotation, 0]) << row
    left = desk[bits - 1]
    left_height = left_top = np.int64(0)
    if column > 0:
        # Cells of the piece are new right walls for wells in the column beside it.
        new_wells = cells & ~left & desk[bits - 2]
        if new_wells:
            wells += sum_of_wells(new_wells, left)
        left_height = left_top = desk[heights - 1]
    for j in range(width):
        own, right = desk[bits + j], desk[bits + j + 1]
        height = desk[heights + j]
        count = popcount(cells)
        bottom = row + BOTTOMS[piece, rotation, j]
        top = bottom + count
        gap = bottom - height
        if gap:
            gaps += gap
            column_transitions += 2
            hole_rows |= (np.int64(1) << bottom) - (np.int64(1) << height)
            depth += count
        elif desk[HAS_HOLES + column + j]:
            depth += count
        contacts += popcount(cells & left) + popcount(cells & right)
        highest = max(highest, top)
        own |= cells
        if j + 1 < width:
            cells = np.int64(MASKS[piece, rotation, j + 1]) << row
            right |= cells
        wells -= desk[WELLS_OF + column + j]
        well = ~own & left & right & wall
        if well:
            wells += sum_of_wells(well, own)
        if column + j > 0:
            bumpiness += abs(top - left_top) - abs(height - left_height)
            steps |= step_bit(top - left_top)
        left, left_height, left_top = own, height, top
    if end < n_columns:
        beside = desk[bits + width]
        new_wells = cells & ~beside & desk[bits + width + 1]
        if new_wells:
            wells += sum_of_wells(new_wells, beside)
        height = desk[heights + width]
        bumpiness += abs(height - left_top) - abs(height - left_height)
        steps |= step_bit(height - left_top)
    desk[out + ERODED_CELLS] = 0
    # A cell between two empty ones adds two transitions; beside a full one, it takes
    # one away instead.
    transitions = desk[SUMS + ROW_TRANSITIONS] + 2 * (N_CELLS - contacts)
    desk[out + ROW_TRANSITIONS] = transitions
    desk[out + COLUMN_TRANSITIONS] = column_transitions
    desk[out + HOLES] = desk[SUMS + HOLES] + gaps
    desk[out + CUMULATIVE_WELLS] = wells
    desk[out + HOLE_DEPTH] = depth
    desk[out + ROWS_WITH_HOLES] = popcount(hole_rows)
    desk[out + DIVERSITY] = popcount(steps)
    desk[out + SUM_HEIGHTS] = desk[SUMS + SUM_HEIGHTS] + gaps + N_CELLS
    desk[out + MAX_HEIGHT] = highest
    desk[out + BUMPINESS] = bumpiness
    desk[out + LINES] = 0


@njit(cache=True)
def describe_placements(desk, piece, n_columns, rows):
    """Describe every legal placement on the board that is surveyed.

    Orientations outer, columns left to right. The k-th one's action, rotation × columns
    + column, is at ACTIONS + k; the features of the board that it leads to, unscaled
    and but for twice the landing height, at DESCRIPTIONS + k × DESCRIPTION_SIZE.

    Returns:
        How many placements are legal.
    """
    count = 0
    for rotation in range(ROTATIONS[piece]):
        width, height = WIDTHS[piece, rotation], HEIGHTS[piece, rotation]
        for column in range(n_columns - width + 1):
            row = landing_row(desk, HEIGHTS_OF + column, piece, rotation)
            if row + height > rows:
                continue
            out = DESCRIPTIONS + count * DESCRIPTION_SIZE
            full = desk[FULL_BEFORE + column] & desk[FULL_FROM + column + width]
            if full:
                for j in range(width):
                    mask = np.int64(MASKS[piece, rotation, j]) << row
                    full &= desk[BITS + 1 + column + j] | mask
            if full:
                describe_clearing(
                    desk, piece, rotation, column, row, full, n_columns, rows, out
                )
            else:
                describe_filling(desk, piece, rotation, column, row, n_columns, out)
            desk[out + LANDING_HEIGHT] = 2 * row + height - 1
            desk[ACTIONS + count] = rotation * n_columns + column
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
def move(state, game, action, rows, randomizer, heights):
    """Carry out one action of one game whose heights are known; they follow.

    Returns:
        Rotation, column, landing row from the floor (-1: it would not fit, and the
        game is over with the board unchanged), lines cleared, and whether the game is
        over.
    """
    columns, queue, position, rng, lines, pieces = state
    piece = queue[game, position[game]]
    rotation, column = fold(action, piece, columns.shape[1])
    row, cleared = drop(columns[game], heights, piece, rotation, column, rows)
    pieces[game] += 1
    if row == NOT_LEGAL:
        return rotation, column, row, 0, True
    lines[game] += cleared
    next_piece(queue, position, rng, game, randomizer)
    piece = queue[game, position[game]]
    return rotation, column, row, cleared, not has_placement(heights, piece, rows)


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
    for game in range(columns.shape[0]):
        measure_heights(columns[game], heights)
        rotation, column, row, cleared, over = move(
            state, game, actions[game], rows, randomizer, heights
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
    desk = np.empty(DESK_SIZE, np.int64)
    n_columns = columns.shape[1]
    for game in range(columns.shape[0]):
        survey_board(desk, columns[game], rows)
        count = describe_placements(desk, pieces[game], n_columns, rows)
        out[game] = 0.0
        for k in range(count):
            target = out[game, desk[ACTIONS + k]]
            write_scaled(desk, DESCRIPTIONS + k * DESCRIPTION_SIZE, scale, target)
            target[N_FEATURES] = 1.0
        copy_features(desk, 0, DESCRIPTIONS)
        write_scaled(desk, DESCRIPTIONS, scale, out[game, out.shape[1] - 1])


@njit(cache=True)
def write_scaled(desk, description, scale, out):
    """Write the scaled features of a description to `out`."""
    out[LANDING_HEIGHT] = 0.5 * desk[description] * scale[LANDING_HEIGHT]
    for i in range(1, N_FEATURES):
        out[i] = desk[description + i] * scale[i]


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
        legal_actions(heights, pieces[game], rows, out[game])


@njit(cache=True)
def best_action(desk, board, piece, rows, scale, weights):
    """Return the legal placement with the highest score; the first one wins.

    The board's survey is left in the desk.
    """
    survey_board(desk, board, rows)
    count = describe_placements(desk, piece, board.shape[0], rows)
    best, best_score = 0, -np.inf
    for k in range(count):
        at = DESCRIPTIONS + k * DESCRIPTION_SIZE
        score = weights[0] * (0.5 * desk[at] * scale[0])
        for i in range(1, N_FEATURES):
            score += weights[i] * (desk[at + i] * scale[i])
        if score > best_score:
            best, best_score = k, score
    return desk[ACTIONS + best]


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
    desk = np.empty(DESK_SIZE, np.int64)
    heights = desk[HEIGHTS_OF : HEIGHTS_OF + columns.shape[1]]
    made = 0
    for game in range(columns.shape[0]):
        for _ in range(max_moves):
            if over[game] or pieces[game] >= max_pieces:
                break
            piece = queue[game, position[game]]
            action = best_action(desk, columns[game], piece, rows, scale, weights)
            over[game] = move(state, game, action, rows, randomizer, heights)[4]
            made += 1
    return made


@njit(cache=True, nogil=True)
def greedy_actions(columns, pieces, rows, scale, weights):
    """Return the best action of each board by a linear score: (n,)."""
    desk = np.empty(DESK_SIZE, np.int64)
    actions = np.empty(columns.shape[0], np.int64)
    for game in range(columns.shape[0]):
        actions[game] = best_action(
            desk, columns[game], pieces[game], rows, scale, weights
        )
    return actions


@njit(cache=True, nogil=True)
def move_active(state, actions, active, over, rows, randomizer):
    """Carry out one action in every active game; games that end stay as they are."""
    heights = np.empty(state[0].shape[1], np.int64)
    for game in range(actions.shape[0]):
        if active[game]:
            measure_heights(state[0][game], heights)
            over[game] = move(state, game, actions[game], rows, randomizer, heights)[4]


# The scale of the features in double precision, for the greedy kernels.
SCALE = FEATURE_SCALE.astype(np.float64)
