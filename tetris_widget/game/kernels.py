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
from numpy.typing import NDArray

from tetris_widget.game.compiler import kernel, part
from tetris_widget.game.features import FEATURES
from tetris_widget.game.instructions import (
    fetch,
    larger,
    leading_zeros,
    popcount,
    put_word,
    room,
    smaller,
    values_of,
    words_of,
)
from tetris_widget.game.pieces import (
    BOTTOM,
    COUNT,
    HEIGHTS,
    MASK,
    MASKS,
    MAX_ROTATIONS,
    MAX_WIDTH,
    N_CELLS,
    N_PIECES,
    OUTLINES,
    ROTATIONS,
    TOP,
    WIDTHS,
)

BAG, UNIFORM = 0, 1
MAX_COLUMNS = 12
QUEUE_LENGTH = 2 * N_PIECES
MAX_PREVIEWS = 6
N_FEATURES = len(FEATURES)
NOT_LEGAL = -1
WINDOW = MAX_WIDTH


@part(forceinline=True)
def height_of(bits):
    """Return the number of the highest bit that is set, from 1; 0 for none."""
    return 64 - leading_zeros(bits)


# Pieces to come


@part(forceinline=True)
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


@part
def fill(queue, rng, game, start, randomizer):
    """Draw the next seven pieces into queue[game, start:start + 7]."""
    for i in range(N_PIECES):
        if randomizer == UNIFORM:
            queue[game, start + i] = 1 + random_below(rng, game, np.int64(N_PIECES))
        else:
            j = random_below(rng, game, i + 1)
            queue[game, start + i] = queue[game, start + j]
            queue[game, start + j] = i + 1


@part(forceinline=True, no_cpython_wrapper=False)
def next_piece(queue, position, rng, game, randomizer):
    """Move on to the next piece; seven more are always known."""
    position[game] += 1
    if position[game] == N_PIECES:
        position[game] = 0
        for i in range(N_PIECES):
            queue[game, i] = queue[game, N_PIECES + i]
        fill(queue, rng, game, np.int64(N_PIECES), randomizer)


@kernel
def look_ahead(queue, position, out):
    """Write every game's current piece and the next ones: (n, k)."""
    for game in range(out.shape[0]):
        for k in range(out.shape[1]):
            out[game, k] = queue[game, position[game] + k]


@part
def new_game(state, game, randomizer):
    """Empty the board and draw new pieces; the generator goes on."""
    columns, queue, position, rng, lines, pieces = state
    for c in range(columns.shape[1]):
        columns[game, c] = 0
    position[game] = 0
    lines[game] = 0
    pieces[game] = 0
    fill(queue, rng, game, np.int64(0), randomizer)
    fill(queue, rng, game, np.int64(N_PIECES), randomizer)


# Placements
#
# A board that is worked on is wider than it is: by WINDOW empty columns at least, so
# that all pieces can be treated as four columns wide.
WIDEST = MAX_COLUMNS + WINDOW


@part(forceinline=True)
def load(board, bits, heights):
    """Copy a board's columns to `bits`, and write their heights.

    Args:
        board: (columns,) int32.
        bits: room for WIDEST; empty columns follow those of the board.
        heights: the same.
    """
    n_columns = board.shape[0]
    for c in range(WIDEST):
        bits[c] = heights[c] = 0
    for c in range(n_columns):
        bits[c] = board[c]
    for c in range(n_columns):
        heights[c] = height_of(bits[c])


@part(forceinline=True)
def landing_row(heights, piece, rotation, column):
    """Return the row, from the floor, of the lower edge of the piece's box."""
    row = heights[column] - OUTLINES[piece, rotation, BOTTOM, 0]
    for j in range(1, WINDOW):
        row = larger(row, heights[column + j] - OUTLINES[piece, rotation, BOTTOM, j])
    return row


@part(forceinline=True)
def drop(bits, heights, n_columns, piece, rotation, column, row):
    """Place a piece that lands in `row`, and clear its full lines.

    Returns:
        How many.
    """
    for j in range(WINDOW):
        bits[column + j] |= OUTLINES[piece, rotation, MASK, j] << row
        heights[column + j] = larger(
            heights[column + j], row + OUTLINES[piece, rotation, TOP, j]
        )
    full = np.int64(-1)
    for c in range(n_columns):
        full &= bits[c]
    if full == 0:
        return 0
    clear(bits, np.int64(0), n_columns, full)
    for c in range(n_columns):
        heights[c] = height_of(bits[c])
    return popcount(full)


@part
def clear(bits, first, n_columns, full):
    """Take out the rows whose bits are set in `full` of bits[first : … + n_columns]."""
    while full:
        row = height_of(full) - 1  # from the top, so that those below keep their place
        below = (np.int64(1) << row) - 1
        full &= below
        for c in range(first, first + n_columns):
            bits[c] = (bits[c] & below) | ((bits[c] >> 1) & ~below)


@part(forceinline=True)
def has_placement(heights, n_columns, piece, rows):
    """Return whether the piece can be placed anywhere."""
    for rotation in range(ROTATIONS[piece]):
        last_row = rows - HEIGHTS[piece, rotation]
        for column in range(n_columns - WIDTHS[piece, rotation] + 1):
            if landing_row(heights, piece, rotation, column) <= last_row:
                return True
    return False


# Placements and their features
#
# All columns are looked at side by side: the loops below run over a fixed number of
# lanes, without a branch, so that the compiler makes vector instructions of them. For
# it to see that it may, everything is in one flat array, a desk, at constant places.

LANES = MAX_COLUMNS
# Room for a window of columns from the last lane on, and two before the first.
REGION = 24
FIRST = 2
(
    # Of the board; column c at FIRST + c, walls on both sides.
    BITS,
    HEIGHTS_OF,
    HOLES_OF,
    # All bits for columns of the board; for pairs of them (c - 1 and c); otherwise 0.
    IS_COLUMN,
    IS_PAIR,
    # Of column c, or of the pair c - 1 and c.
    TRANSITIONS_OF,
    BUMPS_OF,
    STEPS_OF,
    WELLS_OF,
    # The same, summed over all that a piece in columns c to c + 3 can change.
    TRANSITIONS_NEAR,
    BUMPS_NEAR,
    STEPS_NEAR,
    WELLS_NEAR,
    # The rows that are full in all columns left of c; in all from c on.
    FULL_BEFORE,
    FULL_FROM,
    # The features of the board itself in FEATURES' order, then two as sets.
    SUMS,
    # Of one orientation's placements at columns c: where it lands, which rows it fills.
    LANDS_AT,
    FILLS,
    # Placements that clear lines, to be described later: actions, and where they land.
    CLEARING,
    CLEARING_2,
    CLEARING_AT,
    CLEARING_AT_2,
    # Their features in FEATURES' order, a region for each.
    DESCRIBED,
) = range(0, 23 * REGION, REGION)
# Cells that are wells, and empty cells, of columns c - 1 to c + 4 after the placement.
WELL_CELLS = DESCRIBED + N_FEATURES * REGION
EMPTY_CELLS = WELL_CELLS + (WINDOW + 2) * REGION
DESK_SIZE = EMPTY_CELLS + (WINDOW + 2) * REGION
ALL_LANES = N_FEATURES * LANES
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
    # Only in SUMS.
    HOLE_ROWS,
    STEPS,
) = range(N_FEATURES + 2)
# How often differences of heights from -2 to 2 occur: one number, five bits for each.
COUNTER_BITS = 5
COUNTER_ONES = 0b00001_00001_00001_00001_00001
COUNTERS = COUNTER_ONES * 0b11111


@part
def lay_out(desk, n_columns, rows):
    """Begin a desk for boards of this size."""
    for i in range(DESK_SIZE):
        desk[i] = 0
    for c in range(REGION):
        desk[BITS + c] = (np.int64(1) << rows) - 1
    for c in range(n_columns):
        desk[IS_COLUMN + FIRST + c] = -1
        desk[IS_PAIR + FIRST + c] = -(c > 0)


@part(forceinline=True)
def count_step(step):
    """Return counters of a difference of heights; all 0 if it is beyond -2 to 2."""
    step = smaller(larger(step, -3), 3)  # these two count outside of the counters
    return (np.int64(1) << ((COUNTER_BITS * (step + 2)) & 63)) & COUNTERS


@part(forceinline=True)
def count_kinds(steps):
    """Return how many counters are not 0 (they are below 16)."""
    return popcount((steps + 15 * COUNTER_ONES) & (16 * COUNTER_ONES))


@part(forceinline=True)
def covered(bits, height):
    """Return the empty cells under the top of a column."""
    return ~bits & ((np.int64(1) << height) - 1)


@part
def measure(desk, n_columns):
    """Write the features of the board in BITS, and the share of each column."""
    wall = desk[BITS]
    transitions = column_transitions = holes = depth = total = highest = 0
    hole_rows = np.int64(0)
    for c in range(LANES):
        left, own = desk[BITS + FIRST - 1 + c], desk[BITS + FIRST + c]
        right = desk[BITS + FIRST + 1 + c]
        inside = desk[IS_COLUMN + FIRST + c]
        height = height_of(own) & inside
        count = popcount(own) & inside
        desk[HEIGHTS_OF + FIRST + c] = height
        desk[HOLES_OF + FIRST + c] = height - count
        changes = popcount(left ^ own) & inside
        desk[TRANSITIONS_OF + FIRST + c] = changes
        transitions += changes
        column_transitions += popcount(own ^ ((own << 1) | 1)) & inside
        holes += height - count
        hole_rows |= covered(own, height)
        # Every full cell above the stack that stands on the floor is above a hole.
        depth += (count - popcount(own & ~(own + 1))) & inside
        total += height
        highest = larger(highest, height)
        desk[EMPTY_CELLS + c] = ~own & wall
        desk[WELL_CELLS + c] = ~own & left & right & wall
        desk[WELLS_OF + FIRST + c] = 0
    last = popcount(desk[BITS + FIRST + n_columns - 1] ^ wall)
    desk[TRANSITIONS_OF + FIRST + n_columns] = last
    bumpiness = steps = np.int64(0)
    for c in range(LANES):
        step = desk[HEIGHTS_OF + FIRST + c] - desk[HEIGHTS_OF + FIRST - 1 + c]
        inside = desk[IS_PAIR + FIRST + c]
        bump, counted = abs(step) & inside, count_step(step) & inside
        desk[BUMPS_OF + FIRST + c] = bump
        desk[STEPS_OF + FIRST + c] = counted
        bumpiness += bump
        steps += counted
    # Of each well cell, the empty cells from it downwards: it counts once for each
    # number of steps that one can go down from it.
    wells = down = np.int64(0)
    left_over = np.int64(1)
    while left_over:
        left_over = np.int64(0)
        for c in range(LANES):
            cells = desk[WELL_CELLS + c] & (desk[EMPTY_CELLS + c] << down)
            desk[WELL_CELLS + c] = cells
            desk[WELLS_OF + FIRST + c] += popcount(cells)
            wells += popcount(cells)
            left_over |= cells
        down += 1
    desk[SUMS + LANDING_HEIGHT] = desk[SUMS + ERODED_CELLS] = desk[SUMS + LINES] = 0
    desk[SUMS + ROW_TRANSITIONS] = transitions + last
    desk[SUMS + COLUMN_TRANSITIONS] = column_transitions
    desk[SUMS + HOLES] = holes
    desk[SUMS + CUMULATIVE_WELLS] = wells
    desk[SUMS + HOLE_DEPTH] = depth
    desk[SUMS + ROWS_WITH_HOLES] = popcount(hole_rows)
    desk[SUMS + DIVERSITY] = count_kinds(steps)
    desk[SUMS + SUM_HEIGHTS] = total
    desk[SUMS + MAX_HEIGHT] = highest
    desk[SUMS + BUMPINESS] = bumpiness
    desk[SUMS + HOLE_ROWS] = hole_rows
    desk[SUMS + STEPS] = steps


@part
def survey(desk, board):
    """Measure a board and all that its placements have in common."""
    n_columns = board.shape[0]
    for c in range(n_columns):
        desk[BITS + FIRST + c] = board[c]
    measure(desk, n_columns)
    for c in range(LANES):
        wells = desk[WELLS_OF + FIRST + c - 1]
        transitions = bumps = steps = np.int64(0)
        for at in range(FIRST + c, FIRST + c + WINDOW + 1):
            wells += desk[WELLS_OF + at]
            transitions += desk[TRANSITIONS_OF + at]
            bumps += desk[BUMPS_OF + at]
            steps += desk[STEPS_OF + at]
        desk[WELLS_NEAR + c] = wells
        desk[TRANSITIONS_NEAR + c] = transitions
        desk[BUMPS_NEAR + c] = bumps
        desk[STEPS_NEAR + c] = steps
    full = np.int64(-1)
    for c in range(LANES):
        desk[FULL_BEFORE + c] = full
        full &= desk[BITS + FIRST + c]
    full = np.int64(-1)
    for c in range(LANES + WINDOW, -1, -1):
        full &= desk[BITS + FIRST + c]
        desk[FULL_FROM + c] = full


@part
def describe(desk, piece, rotation):
    """Describe the boards after an orientation's placement in each column.

    Those of placements that are not legal, or that fill rows, are not right. The
    landing height is doubled, and `cumulative_wells` is left to `describe_wells`.
    """
    outline = OUTLINES[piece, rotation]
    for c in range(LANES):
        at = HEIGHTS_OF + FIRST + c
        desk[LANDS_AT + c] = landing_row(desk, piece, rotation, at)
    height = np.int64(HEIGHTS[piece, rotation])
    wall = desk[BITS]
    board_transitions = desk[SUMS + ROW_TRANSITIONS]
    board_column_transitions = desk[SUMS + COLUMN_TRANSITIONS]
    board_holes = desk[SUMS + HOLES]
    board_depth = desk[SUMS + HOLE_DEPTH]
    board_heights = desk[SUMS + SUM_HEIGHTS]
    board_highest = desk[SUMS + MAX_HEIGHT]
    board_bumps = desk[SUMS + BUMPINESS]
    board_hole_rows = desk[SUMS + HOLE_ROWS]
    board_steps = desk[SUMS + STEPS]
    for c in range(LANES):
        row = desk[LANDS_AT + c]
        full = desk[FULL_BEFORE + c] & desk[FULL_FROM + c + WINDOW]
        transitions = board_transitions - desk[TRANSITIONS_NEAR + c]
        bumps = board_bumps - desk[BUMPS_NEAR + c]
        steps = board_steps - desk[STEPS_NEAR + c]
        highest, hole_rows, depth = board_highest, board_hole_rows, board_depth
        gaps = covered_gaps = np.int64(0)
        # The piece's columns after the placement, and one at the right, each with the
        # two before it.
        before, left = desk[BITS + FIRST + c - 2], desk[BITS + FIRST + c - 1]
        left_height = desk[HEIGHTS_OF + FIRST + c - 1]
        for j in range(WINDOW + 1):
            at = FIRST + c + j
            own = desk[BITS + at] | (outline[MASK, j] << row)
            full &= own
            transitions += popcount(left ^ own)
            empty = ~left & wall
            desk[EMPTY_CELLS + j * REGION + c] = empty
            desk[WELL_CELLS + j * REGION + c] = empty & before & own
            # New holes under the piece.
            old_height = desk[HEIGHTS_OF + at]
            own_height = larger(old_height, row + outline[TOP, j])
            gap = own_height - old_height - outline[COUNT, j]
            gaps += gap
            covered_gaps += smaller(gap, 1)
            hole_rows |= covered(own, own_height)
            depth += outline[COUNT, j] * smaller(gap + desk[HOLES_OF + at], 1)
            highest = larger(highest, own_height)
            step = own_height - left_height
            is_pair = desk[IS_PAIR + at]
            bumps += abs(step) & is_pair
            steps += count_step(step) & is_pair
            before, left, left_height = left, own, own_height
        empty = ~left & wall
        right = desk[BITS + FIRST + c + WINDOW + 1]
        desk[EMPTY_CELLS + (WINDOW + 1) * REGION + c] = empty
        desk[WELL_CELLS + (WINDOW + 1) * REGION + c] = empty & before & right
        desk[FILLS + c] = full
        at = DESCRIBED + c
        desk[at + REGION * LANDING_HEIGHT] = 2 * row + height - 1
        desk[at + REGION * ROW_TRANSITIONS] = transitions
        desk[at + REGION * COLUMN_TRANSITIONS] = (
            board_column_transitions + 2 * covered_gaps
        )
        desk[at + REGION * HOLES] = board_holes + gaps
        desk[at + REGION * HOLE_DEPTH] = depth
        desk[at + REGION * ROWS_WITH_HOLES] = popcount(hole_rows)
        desk[at + REGION * DIVERSITY] = count_kinds(steps)
        desk[at + REGION * SUM_HEIGHTS] = board_heights + gaps + N_CELLS
        desk[at + REGION * MAX_HEIGHT] = highest
        desk[at + REGION * BUMPINESS] = bumps


@part
def describe_wells(desk):
    """Add `cumulative_wells` to what `describe` has written."""
    wells = desk[SUMS + CUMULATIVE_WELLS]
    for c in range(LANES):
        desk[DESCRIBED + REGION * CUMULATIVE_WELLS + c] = wells - desk[WELLS_NEAR + c]
    down = np.int64(0)
    left_over = np.int64(1)
    while left_over:
        left_over = np.int64(0)
        for c in range(LANES):
            found = np.int64(0)
            for at in range(c, c + (WINDOW + 2) * REGION, REGION):
                cells = desk[WELL_CELLS + at] & (desk[EMPTY_CELLS + at] << down)
                desk[WELL_CELLS + at] = cells
                found += popcount(cells)
                left_over |= cells
            desk[DESCRIBED + REGION * CUMULATIVE_WELLS + c] += found
        down += 1


@part
def describe_clearing(desk, board, piece, k):
    """Describe, in SUMS, the board after the k-th placement that clears lines.

    The board is no longer the one that the desk has surveyed.
    """
    n_columns = board.shape[0]
    rotation, column = unfold(desk[CLEARING + k], n_columns)
    row = desk[CLEARING_AT + k]
    for c in range(n_columns):
        desk[BITS + FIRST + c] = board[c]
    for j in range(WIDTHS[piece, rotation]):
        mask = np.int64(MASKS[piece, rotation, j]) << row
        desk[BITS + FIRST + column + j] |= mask
    full = np.int64(-1)
    for c in range(n_columns):
        full &= desk[BITS + FIRST + c]
    cells = 0
    for j in range(WIDTHS[piece, rotation]):
        cells += popcount((np.int64(MASKS[piece, rotation, j]) << row) & full)
    clear(desk, np.int64(BITS + FIRST), n_columns, full)
    measure(desk, n_columns)
    lines = popcount(full)
    desk[SUMS + LANDING_HEIGHT] = 2 * row + HEIGHTS[piece, rotation] - 1
    desk[SUMS + ERODED_CELLS] = lines * cells
    desk[SUMS + LINES] = lines


def factors_of(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return weights of features (features,) as weights of what `describe` writes."""
    factors = np.array(weights, np.float64)
    factors[LANDING_HEIGHT] *= 0.5
    return factors


# Playing


@part(forceinline=True)
def unfold(action, n_columns):
    """Return the rotation and the column of an action; faster than a division."""
    rotation = (
        np.int64(action >= n_columns)
        + np.int64(action >= 2 * n_columns)
        + np.int64(action >= 3 * n_columns)
    )
    return rotation, action - rotation * n_columns


@part(forceinline=True, no_cpython_wrapper=False)
def fold(action, piece, n_columns):
    """Return the rotation and column that any action in range stands for.

    Orientations that look alike are one; a column too far right is the last that fits.
    Whether it is too high is for `nearest_legal`.
    """
    rotation, column = unfold(action, n_columns)
    rotation &= ROTATIONS[piece] - 1  # the remainder: it is 1, 2 or 4
    return rotation, smaller(column, n_columns - WIDTHS[piece, rotation])


@part
def nearest_legal(heights, n_columns, piece, rotation, column, rows):
    """Return the rotation and column of the placement nearest to one that is too high.

    The same orientation goes before the next ones, then the nearest column, of two the
    left one. If there is none at all: the given one.
    """
    for turns in range(ROTATIONS[piece]):
        turned = (rotation + turns) & (ROTATIONS[piece] - 1)
        last_row = rows - HEIGHTS[piece, turned]
        last_column = n_columns - WIDTHS[piece, turned]
        for distance in range(n_columns):
            for there in (column - distance, column + distance):
                if there < 0 or there > last_column:
                    continue
                if landing_row(heights, piece, turned, there) <= last_row:
                    return turned, there
    return rotation, column


@part(forceinline=True)
def move(state, game, action, rows, randomizer):
    """Carry out one action of one game.

    Returns:
        Rotation, column, landing row from the floor, lines cleared, and whether the
        game is over. On a board that no game leads to, without any placement for the
        piece, the row is -1, and the game is over with the board unchanged.
    """
    columns, queue, position, rng, lines, pieces = state
    n_columns = columns.shape[1]
    bits, heights = room(np.int64, WIDEST), room(np.int64, WIDEST)
    load(columns[game], bits, heights)
    pieces[game] += 1
    piece = np.int64(queue[game, position[game]])
    rotation, column = fold(action, piece, n_columns)
    row = landing_row(heights, piece, rotation, column)
    if row > rows - HEIGHTS[piece, rotation]:
        rotation, column = nearest_legal(
            heights, n_columns, piece, rotation, column, rows
        )
        row = landing_row(heights, piece, rotation, column)
        if row > rows - HEIGHTS[piece, rotation]:
            return rotation, column, NOT_LEGAL, 0, True
    cleared = drop(bits, heights, n_columns, piece, rotation, column, row)
    for c in range(n_columns):
        columns[game, c] = bits[c]
    lines[game] += cleared
    next_piece(queue, position, rng, game, randomizer)
    piece = np.int64(queue[game, position[game]])
    over = not has_placement(heights, n_columns, piece, rows)
    return rotation, column, row, cleared, over


@kernel
def start(state, randomizer):
    """Begin every game."""
    for game in range(state[0].shape[0]):
        new_game(state, game, randomizer)


@kernel
def step(state, actions, rows, randomizer, max_pieces, out):
    """Carry out one action in every game; games that end begin anew.

    Args:
        max_pieces: a game of so many pieces is truncated; 0: never.
        out: (moves (n, 4): rotation, column, row, lines cleared; final (n, 2): lines
            and pieces after the move; terminated (n,); truncated (n,); final_columns
            (n, columns): the boards after the move, before a new game;
            final_pieces (n, 1 + MAX_PREVIEWS): the current one, and the next).

    Returns:
        The index of an action that is out of range, in which case nothing is changed;
        otherwise -1.
    """
    columns, queue, position, _, lines, pieces = state
    for game in range(columns.shape[0]):
        if actions[game] < 0 or actions[game] >= MAX_ROTATIONS * columns.shape[1]:
            return game
    moves, final, terminated, truncated, final_columns, final_pieces = out
    for game in range(columns.shape[0]):
        rotation, column, row, cleared, over = move(
            state, game, actions[game], rows, randomizer
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
            for k in range(final_pieces.shape[1]):
                final_pieces[game, k] = queue[game, position[game] + k]
            new_game(state, game, randomizer)
    return -1


@kernel
def paint(cells, piece, rotation, column, row):
    """Follow a move in a picture: the piece's cells, and the fall of what is above.

    Args:
        cells: (rows, columns) uint8, top row first.
        row: where the piece landed, from the floor.
    """
    rows, n_columns = cells.shape
    for j in range(WIDTHS[piece, rotation]):
        for i in range(HEIGHTS[piece, rotation]):
            if (MASKS[piece, rotation, j] >> i) & 1:
                cells[rows - 1 - row - i, column + j] = piece
    target = rows - 1
    for source in range(rows - 1, -1, -1):
        n_full = 0
        for c in range(n_columns):
            cell = cells[source, c]
            n_full += cell != 0
            cells[source, c] = 0
            cells[target, c] = cell  # of a full row: until the next one falls there
        target -= n_full < n_columns
    if target >= 0:
        cells[target] = 0


@part
def write_sums(desk, factors, n_heights, flat, target):
    """Write the features of the board that was measured, then its heights."""
    for i in range(N_FEATURES):
        flat[target + i] = np.float32(desk[SUMS + i]) * factors[i]
    for c in range(n_heights):
        flat[target + N_FEATURES + c] = desk[HEIGHTS_OF + FIRST + c]


@part
def stand(desk, piece, rotation, column, n_heights, flat, target):
    """Write the heights after a placement that clears no line, behind its features."""
    if not n_heights:
        return
    at = target + N_FEATURES
    for c in range(n_heights):
        flat[at + c] = desk[HEIGHTS_OF + FIRST + c]
    top = desk[LANDS_AT + column]
    for j in range(WIDTHS[piece, rotation]):
        flat[at + column + j] = top + OUTLINES[piece, rotation, TOP, j]


@kernel
def observe_afterstates(columns, pieces, rows, scale, out):
    """Write the `afterstates` observation of each board with its current piece.

    Where there is room for them, the heights of the columns too: that of `heights`.

    Args:
        pieces: (n,) the current piece of each.
        scale: (features,) factors of the features.
        out: (n, 4 × columns + 1, features + 1), or columns more.
    """
    n_columns = columns.shape[1]
    size = out.shape[2]
    n_heights = size - N_FEATURES - 1
    desk = room(np.int64, DESK_SIZE)
    lay_out(desk, n_columns, rows)
    scaled = room(np.float32, ALL_LANES)
    factors = room(np.float32, N_FEATURES)
    for i in range(N_FEATURES):
        factors[i] = scale[i]
    factors[LANDING_HEIGHT] *= 0.5
    flat = values_of(out)
    for game in range(columns.shape[0]):
        piece = np.int64(pieces[game])
        start = game * out.shape[1] * size
        present = start + MAX_ROTATIONS * n_columns * size
        survey(desk, columns[game])
        for i in range(start, present + size):
            flat[i] = 0.0
        write_sums(desk, factors, n_heights, flat, present)
        n_clearing = 0
        for rotation in range(ROTATIONS[piece]):
            describe(desk, piece, rotation)
            describe_wells(desk)
            for i in range(N_FEATURES):
                for c in range(LANES):
                    value = np.float32(desk[DESCRIBED + i * REGION + c]) * factors[i]
                    scaled[i * LANES + c] = value
            last_row = rows - HEIGHTS[piece, rotation]
            for column in range(n_columns - WIDTHS[piece, rotation] + 1):
                if desk[LANDS_AT + column] > last_row:
                    continue
                action = rotation * n_columns + column
                target = start + action * size
                flat[target + size - 1] = 1.0
                if desk[FILLS + column]:
                    desk[CLEARING + n_clearing] = action
                    desk[CLEARING_AT + n_clearing] = desk[LANDS_AT + column]
                    n_clearing += 1
                    continue
                for i in range(N_FEATURES):
                    flat[target + i] = scaled[i * LANES + column]
                stand(desk, piece, rotation, column, n_heights, flat, target)
        for k in range(n_clearing):
            describe_clearing(desk, columns[game], piece, k)
            target = start + desk[CLEARING + k] * size
            write_sums(desk, factors, n_heights, flat, target)


BYTES = 8  # of a word
EIGHT_ONES = np.uint64(0x0101010101010101)


@part(forceinline=True)
def pack(board, low):
    """Return eight rows of the first eight columns, and of the rest.

    A byte for each column.
    """
    left = right = np.uint64(0)
    n_columns = board.shape[0]
    for c in range(smaller(BYTES, n_columns)):
        left |= np.uint64((board[c] >> low) & 0xFF) << np.uint64(BYTES * c)
    for c in range(BYTES, n_columns):
        right |= np.uint64((board[c] >> low) & 0xFF) << np.uint64(BYTES * (c - BYTES))
    return left, right


@part
def write_cells(board, top, out, at):
    """Write the cells of a board's lowest rows, row after row from above, 0 or 1.

    A row of eight columns is one word. Those that go beyond their row are followed by
    the next one; the last goes up to BYTES - 1 bytes too far.

    Args:
        board: (columns,) int32.
        top: how many rows.
        out: bytes; the cells begin at `at`.
    """
    n_columns = board.shape[0]
    while top:
        low = (top - 1) & -BYTES
        left, right = pack(board, low)
        for row in range(top - low - 1, -1, -1):
            put_word(out, at, (left >> np.uint64(row)) & EIGHT_ONES)
            if n_columns > BYTES:
                put_word(out, at + BYTES, (right >> np.uint64(row)) & EIGHT_ONES)
            at += n_columns
        top = low


# Bytes of a line of memory; games between fetching and writing.
LINE = 64
AHEAD = 2


@part
def fetch_planes(flat, start, plane, shown, pieces, game):
    """Have those planes of a game fetched that `observe_boards` writes.

    All games' boards fill more than the fastest memory, and each has few lines to write
    far from one another: no processor finds them by itself.
    """
    for i in range(0, plane, LINE):
        fetch(flat, start + i)
    for k in range(pieces.shape[1]):
        first = start + k * N_PIECES * plane
        for i in range(0, plane, LINE):
            fetch(flat, first + shown[game, k] * plane + i)
            fetch(flat, first + pieces[game, k] * plane + i)


@kernel
def observe_boards(columns, pieces, rows, shown, out):
    """Write the `board` observation: cells (top row first), then pieces, one-hot.

    Only what may differ from what `out` shows already is written.

    Args:
        pieces: (n, k) the current piece of each, and the next ones that are shown.
        shown: (n, k + 1): what `out` shows, updated: these pieces, and how many rows
            up to the highest full cell. 0 where it is 0.
        out: (n, 1 + 7 k, rows, columns) uint8.
    """
    n_columns = columns.shape[1]
    plane = rows * n_columns
    flat = values_of(out)
    size = out.shape[1] * plane
    for game in range(columns.shape[0]):
        start = game * size
        if game + AHEAD < columns.shape[0]:
            fetch_planes(flat, start + AHEAD * size, plane, shown, pieces, game + AHEAD)
        stacked = np.int64(0)
        for c in range(n_columns):
            stacked |= columns[game, c]
        top, before = height_of(stacked), shown[game, pieces.shape[1]]
        shown[game, pieces.shape[1]] = top
        top = larger(top, before)
        write_cells(columns[game], top, flat, start + (rows - top) * n_columns)
        for k in range(pieces.shape[1]):
            old, new = shown[game, k], pieces[game, k]
            if old == new:
                continue
            shown[game, k] = new
            first = start + k * N_PIECES * plane
            if old > 0:
                for i in range(first + old * plane, first + (old + 1) * plane):
                    flat[i] = 0
            for i in range(first + new * plane, first + (new + 1) * plane):
                flat[i] = 1
        # Where the cells have gone too far.
        put_word(flat, start + plane, EIGHT_ONES * np.uint64(pieces[game, 0] == 1))


@kernel
def observe_flat(columns, pieces, rows, out):
    """Write the `flat` observation: cells, row after row from the top, then pieces.

    Args:
        pieces: (n, k) the current piece of each, and the next ones that are shown.
        out: (n, rows × columns + 7 k) uint8, 0 or 1; the pieces one-hot.
    """
    plane = rows * columns.shape[1]
    flat = values_of(out)
    for game in range(columns.shape[0]):
        start = game * out.shape[1]
        write_cells(columns[game], rows, flat, start)
        out[game, plane:] = 0
        for k in range(pieces.shape[1]):
            out[game, plane + k * N_PIECES + pieces[game, k] - 1] = 1


# Where a piece has room: a column of its box may be rows - MAX_WIDTH + k cells high.
# ROOMS has the k of each: ALWAYS beside the piece, NEVER in orientations that it lacks.
ALWAYS, NEVER = MAX_WIDTH, MAX_WIDTH + 1
N_ROOMS = NEVER + 1
# From four bits to the lowest bits of four bytes.
SPREAD, ONES = np.uint32(0x00204081), np.uint32(0x01010101)


def _rooms():
    rooms = np.full(MASKS.shape, NEVER, np.int64)
    for piece in range(1, N_PIECES + 1):
        for rotation in range(ROTATIONS[piece]):
            width, height = WIDTHS[piece, rotation], HEIGHTS[piece, rotation]
            below = MAX_WIDTH - height + OUTLINES[piece, rotation, BOTTOM, :WINDOW]
            rooms[piece, rotation] = np.where(np.arange(WINDOW) < width, below, ALWAYS)
    return rooms


# (8, 4, 4): by piece, orientation and column of its box.
ROOMS = _rooms()


@kernel
def mask_actions(columns, pieces, rows, out):
    """Write which actions are legal: (n, 4 × columns) bool.

    Bit c of low[k] is set if column c is low enough for a k of ROOMS, so that all
    placements of an orientation are found at once.
    """
    n_columns = columns.shape[1]
    words = words_of(out)  # four flags each
    low = room(np.int64, N_ROOMS)
    low[ALWAYS], low[NEVER] = -1, 0
    for game in range(columns.shape[0]):
        for k in range(MAX_WIDTH):
            found = np.int64(0)
            for c in range(n_columns):
                is_low = columns[game, c] >> (rows - MAX_WIDTH + k) == 0
                found |= np.int64(is_low) << c
            low[k] = found
        piece = np.int64(pieces[game])
        legal = np.int64(0)
        for rotation in range(MAX_ROTATIONS):
            fits = low[ROOMS[piece, rotation, 0]]
            for j in range(1, WINDOW):
                fits &= low[ROOMS[piece, rotation, j]] >> j
            legal |= fits << (rotation * n_columns)
        for i in range(n_columns):
            four = np.uint32((legal >> (4 * i)) & 0b1111)
            words[game * n_columns + i] = (four * SPREAD) & ONES


@part
def score_lanes(desk, factors, scores):
    """Write the weighted sums of what `describe` has written."""
    for c in range(LANES):
        score = 0.0
        for i in range(N_FEATURES):
            score += desk[DESCRIBED + i * REGION + c] * factors[i]
        scores[c] = score


@part
def best_action(desk, scores, board, piece, rows, factors):
    """Return the legal placement with the highest score; the first one wins.

    Args:
        scores: (LANES,) float64 to work on.
        factors: (features,) float64, see `factors_of`.
    """
    n_columns = board.shape[0]
    survey(desk, board)
    best, best_score = 0, -np.inf
    n_clearing = 0
    for rotation in range(ROTATIONS[piece]):
        describe(desk, piece, rotation)
        if factors[CUMULATIVE_WELLS] != 0.0:
            describe_wells(desk)
        score_lanes(desk, factors, scores)
        last_row = rows - HEIGHTS[piece, rotation]
        for column in range(n_columns - WIDTHS[piece, rotation] + 1):
            if desk[LANDS_AT + column] > last_row:
                continue
            action = rotation * n_columns + column
            if desk[FILLS + column]:
                desk[CLEARING + n_clearing] = action
                desk[CLEARING_AT + n_clearing] = desk[LANDS_AT + column]
                n_clearing += 1
            elif scores[column] > best_score:
                best, best_score = action, scores[column]
    for k in range(n_clearing):
        describe_clearing(desk, board, piece, k)
        score = 0.0
        for i in range(N_FEATURES):
            score += desk[SUMS + i] * factors[i]
        action = desk[CLEARING + k]
        if score > best_score or (score == best_score and action < best):
            best, best_score = action, score
    return best


@kernel
def play_greedy(state, over, rows, randomizer, factors, max_moves, max_pieces):
    """Play every game that isn't over by a linear score of the boards it leads to.

    Args:
        over: (n,) bool, updated.
        factors: of the score, see `factors_of`.
        max_moves: moves per game in this call.
        max_pieces: a game stops (it isn't over) after so many pieces.

    Returns:
        The number of moves made.
    """
    columns, queue, position, _, _, pieces = state
    desk = room(np.int64, DESK_SIZE)
    lay_out(desk, columns.shape[1], rows)
    scores = room(np.float64, LANES)
    made = 0
    for game in range(columns.shape[0]):
        for _ in range(max_moves):
            if over[game] or pieces[game] >= max_pieces:
                break
            piece = np.int64(queue[game, position[game]])
            action = best_action(desk, scores, columns[game], piece, rows, factors)
            over[game] = move(state, game, action, rows, randomizer)[4]
            made += 1
    return made


@kernel
def greedy_actions(columns, pieces, rows, factors):
    """Return the best action of each board by a linear score: (n,).

    Args:
        factors: of the score, see `factors_of`.
    """
    desk = room(np.int64, DESK_SIZE)
    lay_out(desk, columns.shape[1], rows)
    scores = room(np.float64, LANES)
    actions = np.empty(columns.shape[0], np.int64)
    for game in range(columns.shape[0]):
        piece = np.int64(pieces[game])
        actions[game] = best_action(desk, scores, columns[game], piece, rows, factors)
    return actions


@kernel
def move_active(state, actions, active, over, rows, randomizer):
    """Carry out one action in every active game; games that end stay as they are."""
    for game in range(actions.shape[0]):
        if active[game]:
            over[game] = move(state, game, actions[game], rows, randomizer)[4]


@kernel
def begin_again(state, over, randomizer):
    """Begin every game anew that is over.

    Args:
        over: (n,) bool; all False afterwards.
    """
    for game in range(over.shape[0]):
        if over[game]:
            new_game(state, game, randomizer)
            over[game] = False


@kernel
def measure_surfaces(boards, out):
    """Write each board's holes, sum of heights, and bumpiness.

    Args:
        boards: (n, columns) int32.
        out: (n, 3) int64.
    """
    for game in range(boards.shape[0]):
        holes = heights = bumps = before = np.int64(0)
        for c in range(boards.shape[1]):
            bits = np.int64(boards[game, c])
            height = height_of(bits)
            holes += height - popcount(bits)
            heights += height
            if c:
                bumps += abs(height - before)
            before = height
        out[game, 0] = holes
        out[game, 1] = heights
        out[game, 2] = bumps
