"""The guideline rules, compiled: many games in one call, one key each.

Owns falling, turning, locking, clearing, scoring and topping out, and what a game looks
like as numbers. Deliberately doesn't know gymnasium, rewards, or what an action is
worth.

Rules, each with its source (TG: the Tetris Guideline of 2009 as quoted at
harddrop.com/wiki/Tetris_Guideline and in programs that cite it; TW: tetris.wiki):

- turning and spawning: see `srs`;
- gravity: a row takes (0.8 - (level - 1) × 0.007)^(level - 1) seconds (TW, Marathon;
  TG). The curve, and with it the level, ends at 20, where it is 36.6 rows in a
  sixtieth of a second;
- extended placement lock down (TG): a piece that rests locks after 0.5 seconds, the
  guideline's at every level (only gravity goes by the level); moving or turning it
  starts these anew, 15 times, after which it locks at once where it rests; falling
  below the lowest row that it has reached gives it 15 again;
- hold once for each piece; the held piece comes back as it spawns (TG);
- points (TW, Scoring, "recent guideline compatible games"): see CLEAR_POINTS; times
  1.5 for a difficult clear (four lines, or a T-spin that clears) after another with no
  easy clear between; 50 × combo; all clear; all times the level before the clear; 1 a
  cell of soft drop, 2 a cell of hard drop;
- levels: ten lines each (TW, Marathon, fixed goal): who starts at level 5 leaves it at
  50 lines;
- T-spins (TG; TW, T-Spin): the last thing that moved the piece was a turn, and three of
  the four cells at its corners are full (walls and floor are). It is mini when one of
  the two at its point is empty, unless that turn needed the fifth kick;
- game over (TW, Top out): a piece spawns on full cells (block out), or locks entirely
  above the visible rows (lock out). Twenty rows are hidden above; nothing gets higher.

Time is counted in whole nanoseconds, so that no rounding adds up.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tetris_widget.game.compiler import kernel, part
from tetris_widget.game.instructions import larger, popcount, room, smaller, values_of
from tetris_widget.game.kernels import (
    MAX_COLUMNS,
    QUEUE_LENGTH,
    fill,
    height_of,
    next_piece,
)
from tetris_widget.game.pieces import HEIGHTS, N_PIECES, PIECE_NAMES
from tetris_widget.game.srs import (
    BOTTOMS,
    BOX,
    BOX_MASKS,
    CELLS,
    CLOCKWISE,
    COUNTERCLOCKWISE,
    FACINGS,
    KICKS,
    LEFTS,
    LOWS,
    N_CELLS,
    N_KICKS,
    ORIENTATIONS,
    SIZES,
)

NONE, LEFT, RIGHT, SOFT, HARD, CW, CCW, HOLD = range(8)
HIDDEN_ROWS = 20
# A board is one integer a column: FLOOR full bits, its rows, and full bits above; with
# WALL full columns at either side. So far does a box reach out when it is tried.
FLOOR = WALL = 4
SPAN = MAX_COLUMNS + 2 * WALL
FULL = (1 << 63) - 1

SECOND = 1_000_000_000
LOCK_TIME = SECOND // 2
MAX_MOVES = 15
MAX_LEVEL = 20
LINES_PER_LEVEL = 10
# Nanoseconds that a row takes, by level.
ROW_TIMES = np.array(
    [0]
    + [
        round(SECOND * (0.8 - (level - 1) * 0.007) ** (level - 1))
        for level in range(1, MAX_LEVEL + 1)
    ],
    np.int64,
)

NO_SPIN, MINI_SPIN, FULL_SPIN = range(3)
# Points by kind of spin and lines cleared.
CLEAR_POINTS = np.array(
    [[0, 100, 300, 500, 800], [100, 200, 400, 0, 0], [400, 800, 1200, 1600, 0]],
    np.int64,
)
ALL_CLEAR_POINTS = np.array([0, 800, 1200, 1800, 2000], np.int64)
BACK_TO_BACK_ALL_CLEAR_POINTS = 3200
COMBO_POINTS = 50
SOFT_POINTS, HARD_POINTS = 1, 2
MAX_LINES = 4
# What moved a piece last: anything else, a turn, a turn by the fifth kick.
NOT_TURNED, TURNED, TURNED_BY_LAST_KICK = range(3)
_T = PIECE_NAMES.index("T")
_O = PIECE_NAMES.index("O")

# One game. Fields with a shape (1, …) are what the kernels of `kernels` take as the
# arrays of one game. All in one record: a call passes one address, not twenty arrays.
GAME = np.dtype(
    [
        ("field", np.int64, (SPAN,)),
        ("rng", np.uint64, (1,)),
        ("position", np.int64, (1,)),
        ("score", np.int64),
        ("lines", np.int64),
        ("pieces", np.int64),
        ("combo", np.int64),  # consecutive clears less one; -1: none
        ("fall_time", np.int64),
        ("lock_time", np.int64),
        ("queue", np.int8, (1, QUEUE_LENGTH)),
        ("piece", np.int8),
        ("facing", np.int8),
        ("x", np.int8),  # of the left of the box
        ("y", np.int8),  # of the bottom of the box, from the floor
        ("hold", np.int8),  # 0: nothing
        ("can_hold", np.bool_),
        ("lowest", np.int8),
        ("moves", np.int8),  # while it rests, since it reached its lowest row
        ("has_landed", np.bool_),
        ("turned", np.int8),
        ("is_back_to_back", np.bool_),
        ("over", np.bool_),
        # What the last step did.
        ("gained", np.int64),  # points
        ("cleared", np.int8),
        ("spin", np.int8),
        ("is_all_clear", np.bool_),
        ("locked", np.int8),  # the piece that locked, 0: none; and where
        ("locked_facing", np.int8),
        ("locked_x", np.int8),
        ("locked_y", np.int8),
    ],
    align=True,
)


class Rules(NamedTuple):
    """What does not change in a game."""

    rows: int
    columns: int
    has_hold: bool
    randomizer: int
    tick: int  # nanoseconds
    level: int


# Where a piece fits


@part(forceinline=True, no_cpython_wrapper=False)
def fits(field, piece, facing, x, y):
    """Return whether a piece is inside the walls and on empty cells."""
    shift = y + FLOOR
    hit = np.int64(0)
    for j in range(BOX):
        hit |= field[x + j + WALL] & (BOX_MASKS[piece, facing, j] << shift)
    return hit == 0


@part(no_cpython_wrapper=False)
def drop_distance(field, piece, facing, x, y):
    """Return how many rows a piece can fall."""
    distance = np.int64(64)
    for j in range(BOX):
        if BOX_MASKS[piece, facing, j]:
            low = y + LOWS[piece, facing, j] + FLOOR
            below = field[x + j + WALL] & ((np.int64(1) << low) - 1)
            distance = smaller(distance, low - height_of(below))
    return distance


@part
def find_turn(field, piece, facing, x, y, direction):
    """Return the first kick by which a piece can turn, or -1."""
    turned = (facing + (1 if direction == CLOCKWISE else FACINGS - 1)) % FACINGS
    for kick in range(N_KICKS):
        right = KICKS[piece, facing, direction, kick, 0]
        up = KICKS[piece, facing, direction, kick, 1]
        if fits(field, piece, turned, x + right, y + up):
            return kick
    return -1


@part(forceinline=True)
def where(game):
    """Return piece, facing, x and y, all int64: what they go to is compiled once."""
    facing, x, y = np.int64(game.facing), np.int64(game.x), np.int64(game.y)
    return np.int64(game.piece), facing, x, y


# Beginning


@part(no_cpython_wrapper=False)
def empty_field(field, rules):
    """Write a board without a piece on it."""
    height = rules.rows + HIDDEN_ROWS
    inside = ((np.int64(1) << height) - 1) << FLOOR
    for c in range(SPAN):
        is_wall = c < WALL or c >= WALL + rules.columns
        field[c] = FULL if is_wall else FULL & ~inside


@part
def begin(game, cells, rules):
    """Begin a game anew; its generator goes on.

    Args:
        game: a record of GAME.
        cells: (rows, columns) uint8 with the hidden rows, top row first.
    """
    empty_field(game.field, rules)
    cells[:] = 0
    game.position[0] = 0
    one = np.int64(0)
    fill(game.queue, game.rng, one, np.int64(0), rules.randomizer)
    fill(game.queue, game.rng, one, np.int64(N_PIECES), rules.randomizer)
    game.score = 0
    game.lines = 0
    game.pieces = 0
    game.combo = -1
    game.hold = 0
    game.can_hold = True
    game.is_back_to_back = False
    game.over = False
    forget_step(game)
    spawn(game, game.queue[0, 0], rules)


@part(forceinline=True)
def forget_step(game):
    """Forget what the last step did."""
    game.gained = 0
    game.cleared = 0
    game.spin = NO_SPIN
    game.is_all_clear = False
    game.locked = 0


@part(no_cpython_wrapper=False)
def spawn(game, piece, rules):
    """Bring a piece in; the game is over if it spawns on full cells."""
    game.piece = piece
    game.facing = 0
    game.x = (rules.columns - SIZES[piece]) // 2
    game.y = rules.rows - BOTTOMS[piece, 0]
    game.turned = NOT_TURNED
    game.fall_time = 0
    kind, facing, x, y = where(game)
    if not fits(game.field, kind, facing, x, y):
        game.over = True
    elif fits(game.field, kind, facing, x, y - 1):
        game.y -= 1
    game.lowest = game.y
    game.moves = 0
    game.lock_time = 0
    game.has_landed = not fits(game.field, kind, facing, x, game.y - 1)


# Keys


@part
def press(game, key, rules):
    """Carry out a key; one that is blocked does nothing.

    Returns:
        Whether the piece locks.
    """
    piece, facing, x, y = where(game)
    if key in (LEFT, RIGHT):
        beside = x + (1 if key == RIGHT else -1)
        if fits(game.field, piece, facing, beside, y):
            game.x = beside
            game.turned = NOT_TURNED
            note_move(game)
    elif key in (CW, CCW):
        turn(game, CLOCKWISE if key == CW else COUNTERCLOCKWISE)
    elif key == SOFT:
        if fits(game.field, piece, facing, x, y - 1):
            fall(game)
            game.fall_time = 0
            game.score += SOFT_POINTS
    elif key == HARD:
        distance = drop_distance(game.field, piece, facing, x, y)
        if distance:
            game.y -= distance
            game.turned = NOT_TURNED
            game.score += HARD_POINTS * distance
        return True
    elif key == HOLD and rules.has_hold and game.can_hold:
        hold_piece(game, rules)
    return False


@part
def turn(game, direction):
    """Turn the piece if it can be."""
    piece, facing, x, y = where(game)
    kick = find_turn(game.field, piece, facing, x, y, direction)
    if kick < 0:
        return
    game.x = x + KICKS[piece, facing, direction, kick, 0]
    game.y = y + KICKS[piece, facing, direction, kick, 1]
    step = 1 if direction == CLOCKWISE else FACINGS - 1
    game.facing = (facing + step) % FACINGS
    game.turned = TURNED_BY_LAST_KICK if kick == N_KICKS - 1 else TURNED
    note_move(game)


@part
def hold_piece(game, rules):
    """Put the piece aside for the one that was, or for the next."""
    held = game.hold
    game.hold = game.piece
    game.can_hold = False
    if held == 0:
        next_piece(game.queue, game.position, game.rng, np.int64(0), rules.randomizer)
        held = game.queue[0, game.position[0]]
    spawn(game, held, rules)


@part(forceinline=True)
def note_move(game):
    """Give a piece that has landed its time to lock anew."""
    if game.has_landed:
        game.moves = smaller(game.moves + 1, MAX_MOVES)  # it may move on in the air
        game.lock_time = 0


@part(forceinline=True)
def fall(game):
    """Move the piece one row down."""
    game.y -= 1
    game.turned = NOT_TURNED
    if game.y < game.lowest:
        game.lowest = game.y
        game.moves = 0
        game.lock_time = 0
        game.has_landed = False


# Time


@part(forceinline=True, no_cpython_wrapper=False)
def level_of(lines, rules):
    """Return the level after so many lines."""
    return smaller(MAX_LEVEL, larger(rules.level, 1 + lines // LINES_PER_LEVEL))


@part
def pass_time(game, rules):
    """Let a tick pass.

    Returns:
        Whether the piece locks.
    """
    piece, facing, x, y = where(game)
    if not fits(game.field, piece, facing, x, y - 1):
        game.lock_time += rules.tick
    else:
        game.fall_time += rules.tick
        row_time = ROW_TIMES[level_of(game.lines, rules)]
        while game.fall_time >= row_time:
            if not fits(game.field, piece, facing, x, game.y - 1):
                break
            fall(game)
            game.fall_time -= row_time
        if fits(game.field, piece, facing, x, game.y - 1):
            return False
    game.fall_time = 0
    game.has_landed = True
    return game.lock_time >= LOCK_TIME or game.moves >= MAX_MOVES


# Locking


@part(no_cpython_wrapper=False)
def find_spin(game):
    """Return which kind of T-spin the piece makes where it is."""
    if game.piece != _T or game.turned == NOT_TURNED:
        return NO_SPIN
    low = np.int64(game.y) + FLOOR
    left = game.field[game.x + WALL] >> low
    right = game.field[game.x + 2 + WALL] >> low
    # The corners of the box clockwise from the top left; the point of a T that faces f
    # is between corners f and f + 1.
    corners = (
        (left >> 2 & 1) | (right >> 2 & 1) << 1 | (right & 1) << 2 | (left & 1) << 3
    )
    if popcount(corners) < 3:
        return NO_SPIN
    both = np.int64(3) << game.facing
    front = (both | both >> 4) & 15
    if corners & front == front or game.turned == TURNED_BY_LAST_KICK:
        return FULL_SPIN
    return MINI_SPIN


@part
def lock(game, cells, rules):
    """Fix the piece, clear lines, score, and bring the next piece in."""
    spin = find_spin(game)
    game.spin = spin
    game.locked = game.piece
    game.locked_facing = game.facing
    game.locked_x = game.x
    game.locked_y = game.y
    height = rules.rows + HIDDEN_ROWS
    for i in range(N_CELLS):
        column = game.x + CELLS[game.piece, game.facing, i, 0]
        row = game.y + CELLS[game.piece, game.facing, i, 1]
        game.field[column + WALL] |= np.int64(1) << (row + FLOOR)
        cells[height - 1 - row, column] = game.piece
    game.pieces += 1
    lines = clear(game.field, cells, rules)
    game.cleared = lines
    game.is_all_clear = lines > 0 and is_empty(game.field, rules)
    game.score += reward_clear(game, lines, spin) * level_of(game.lines, rules)
    game.lines += lines
    if game.y + BOTTOMS[game.piece, game.facing] >= rules.rows:
        game.over = True
        return
    game.can_hold = True
    next_piece(game.queue, game.position, game.rng, np.int64(0), rules.randomizer)
    spawn(game, game.queue[0, game.position[0]], rules)


@part
def clear(field, cells, rules):
    """Take out full rows; return how many there were."""
    height = rules.rows + HIDDEN_ROWS
    inside = ((np.int64(1) << height) - 1) << FLOOR
    full = inside
    for c in range(WALL, WALL + rules.columns):
        full &= field[c]
    if full == 0:
        return 0
    lines = popcount(full)
    target = height - 1
    for row in range(height - 1, -1, -1):
        if full >> (height - 1 - row + FLOOR) & 1:
            continue
        if target != row:
            for c in range(rules.columns):
                cells[target, c] = cells[row, c]
        target -= 1
    for row in range(lines):
        for c in range(rules.columns):
            cells[row, c] = 0
    while full:
        row = height_of(full) - 1  # from the top: those below keep their place
        below = (np.int64(1) << row) - 1
        full &= below
        for c in range(WALL, WALL + rules.columns):
            stack = field[c] & (inside | ((1 << FLOOR) - 1))
            moved = (stack & below) | ((stack >> 1) & ~below)
            field[c] = moved | (FULL & ~inside)
    return lines


@part
def is_empty(field, rules):
    """Return whether no cell is full."""
    inside = ((np.int64(1) << (rules.rows + HIDDEN_ROWS)) - 1) << FLOOR
    stacked = np.int64(0)
    for c in range(WALL, WALL + rules.columns):
        stacked |= field[c]
    return stacked & inside == 0


@part(no_cpython_wrapper=False)
def reward_clear(game, lines, spin):
    """Return the points of a piece that locked, at level 1; count combos."""
    points = CLEAR_POINTS[spin, lines]
    if lines == 0:
        game.combo = -1
        return points
    is_difficult = lines == MAX_LINES or spin != NO_SPIN
    is_again = is_difficult and game.is_back_to_back
    if is_again:
        points += points // 2
    game.combo += 1
    points += COMBO_POINTS * game.combo
    if game.is_all_clear:
        if is_again and lines == MAX_LINES:
            points += BACK_TO_BACK_ALL_CLEAR_POINTS
        else:
            points += ALL_CLEAR_POINTS[lines]
    game.is_back_to_back = is_difficult
    return points


# Many games


@kernel
def begin_games(games, cells, which, rules):
    """Begin those games anew whose numbers are in `which`."""
    for i in range(which.shape[0]):
        begin(games[which[i]], cells[which[i]], rules)


@kernel
def step(games, cells, keys, rules):
    """Carry out one key and one tick in every game that isn't over."""
    for i in range(games.shape[0]):
        game = games[i]
        forget_step(game)
        if game.over:
            continue
        before = game.score
        locks = press(game, keys[i], rules)
        if not locks and not game.over:
            locks = pass_time(game, rules)
        if locks:
            lock(game, cells[i], rules)
        game.gained = game.score - before


@part
def show_move(game, rules, out):
    """Write what to draw of a game's last step, as told in `summarise`."""
    has_locked = game.locked > 0
    piece = game.locked if has_locked else game.piece
    facing = game.locked_facing if has_locked else game.facing
    x = game.locked_x if has_locked else game.x
    y = game.locked_y if has_locked else game.y
    orientation = ORIENTATIONS[piece, facing]
    top = rules.rows - y - BOTTOMS[piece, facing] - HEIGHTS[piece, orientation]
    out[0] = piece
    out[1] = orientation
    out[2] = x + LEFTS[piece, facing]
    out[3] = larger(0, top)
    out[4] = game.hold
    out[5] = game.lines
    out[6] = game.pieces
    out[7] = game.score
    out[8] = level_of(game.lines, rules)
    for i in range(out.shape[0] - 9):
        out[9 + i] = game.queue[0, game.position[0] + 1 + i]


@kernel
def summarise(games, rules, max_pieces, is_news, over, truncated, which, news, shown):
    """Tell the results of a step, in arrays that lie close together.

    Args:
        max_pieces: a game of so many pieces that isn't over is truncated; 0: never.
        is_news: (n,) bool: which games are told of anyway; updated to those whose
            results held for this step only.
        over, truncated: (n,) bool, overwritten.
        which: (n,) int64: its first elements become the games that are told of.
        news: (n, 4) int64: their lines, pieces, lines cleared by the step, score.
        shown: (9 + previews,) int64: of game 0, the piece that locked, or else the
            present one; its orientation in `pieces.SHAPES`, its left column and top
            row (0 when that is hidden); held piece, lines, pieces, score, level, and
            the pieces to come.

    Returns:
        How many games are told of.
    """
    show_move(games[0], rules, shown)
    count = 0
    for i in range(games.shape[0]):
        game = games[i]
        over[i] = game.over
        truncated[i] = not game.over and 0 < max_pieces <= game.pieces
        has_ended = over[i] or truncated[i]
        if is_news[i] or game.gained or game.locked or has_ended:
            which[count] = i
            news[count, 0] = game.lines
            news[count, 1] = game.pieces
            news[count, 2] = game.cleared
            news[count, 3] = game.score
            count += 1
        is_news[i] = game.cleared > 0 or has_ended
    return count


@kernel
def mask_keys(games, rules, out):
    """Write which keys would do something: (n, 8) bool. Waiting always does."""
    for i in range(games.shape[0]):
        game = games[i]
        piece, facing, x, y = where(game)
        field, mask = game.field, out[i]
        mask[NONE] = True
        mask[LEFT] = fits(field, piece, facing, x - 1, y)
        mask[RIGHT] = fits(field, piece, facing, x + 1, y)
        mask[SOFT] = fits(field, piece, facing, x, y - 1)
        mask[HARD] = True
        mask[CW] = find_turn(field, piece, facing, x, y, CLOCKWISE) >= 0
        mask[CCW] = find_turn(field, piece, facing, x, y, COUNTERCLOCKWISE) >= 0
        if rules.has_hold:
            mask[HOLD] = game.can_hold


@part(forceinline=True)
def draw(piece, facing, x, y, rules, seen, plane):
    """Set the visible cells of a piece in the plane that begins there to 1."""
    for i in range(N_CELLS):
        row = rules.rows - 1 - y - CELLS[piece, facing, i, 1]
        if row >= 0:
            seen[plane + row * rules.columns + x + CELLS[piece, facing, i, 0]] = 1


@kernel
def observe(games, cells, which, rules, previews, out):
    """Write what the player of a game sees, in zeros and ones.

    Args:
        which: the numbers of the games.
        previews: how many of the next pieces are seen.
        out: (len(which), …) uint8: three planes, row after row from the top: full
            cells, the piece, its ghost; then one-hot the piece, the next pieces, and,
            if there is hold, the held piece (or none) and whether it may be used.
    """
    size = rules.rows * rules.columns
    boards, seen = values_of(cells), values_of(out)
    for i in range(which.shape[0]):
        game = games[which[i]]
        first = (which[i] * cells.shape[1] + HIDDEN_ROWS) * rules.columns
        start = i * out.shape[1]
        for k in range(size):
            seen[start + k] = boards[first + k] != 0
        for k in range(size, out.shape[1]):
            seen[start + k] = 0
        if not game.over:
            piece, facing, x, y = where(game)
            draw(piece, facing, x, y, rules, seen, start + size)
            y -= drop_distance(game.field, piece, facing, x, y)
            draw(piece, facing, x, y, rules, seen, start + 2 * size)
        at = start + 3 * size - 1
        seen[at + game.piece] = 1
        at += N_PIECES
        position = game.position[0] + 1
        for k in range(previews):
            seen[at + game.queue[0, position + k]] = 1
            at += N_PIECES
        if rules.has_hold:
            if game.hold:
                seen[at + game.hold] = 1
            seen[at + N_PIECES + 1] = game.can_hold


@kernel
def fill_planes(flags, shown, first, out):
    """Fill a plane for each flag, where what is shown differs.

    Args:
        flags: (n, k) uint8.
        shown: (n, k) uint8: those that `out` shows; updated.
        first: the number of their first plane.
        out: (n, first + k, rows, columns) uint8.
    """
    for i in range(flags.shape[0]):
        for k in range(flags.shape[1]):
            if flags[i, k] != shown[i, k]:
                shown[i, k] = flags[i, k]
                out[i, first + k] = flags[i, k]


# Reachable placements
#
# Positions are bits: bit y + FLOOR of a map's element facing × SPAN + x + WALL stands
# for a box at (x, y), so that a whole column of them moves in one instruction. The maps
# of a search are one array: where the piece fits; where it gets; where a turn can be
# the last thing that moved it, and a turn by the fifth kick; from where it was turned;
# and for each facing, a bit for every x from which the search has to go on.
MAP = FACINGS * SPAN
FREE, REACHED, TURNS, KICKED, DONE, WAITING = range(0, 6 * MAP, MAP)
MAPS = WAITING + FACINGS


@part(forceinline=True)
def fill_down(seeds, free):
    """Spread bits downwards through free ones (Kogge and Stone's carry)."""
    for shift in (1, 2, 4, 8, 16, 32):
        seeds |= free & (seeds >> shift)
        free &= free >> shift
    return seeds


@part(forceinline=True)
def shifted(bits, up):
    """Move bits up, or down if negative."""
    return bits << up if up >= 0 else bits >> -up


@part
def search(game, rules, maps):
    """Find every position that keys can bring the piece to, time standing still.

    Args:
        maps: room for MAPS, overwritten.
    """
    piece = game.piece
    height = rules.rows + HIDDEN_ROWS
    inside = (np.int64(1) << (height + FLOOR)) - 1
    facings = 1 if piece == _O else FACINGS
    for i in range(MAPS):
        maps[i] = 0
    for facing in range(facings):
        for x in range(WALL - BOX // 2, WALL + rules.columns):
            hit = np.int64(0)
            for i in range(N_CELLS):
                column = x + CELLS[piece, facing, i, 0]
                hit |= game.field[column] >> CELLS[piece, facing, i, 1]
            maps[FREE + facing * SPAN + x] = inside & ~hit
    start = np.int64(0) if piece == _O else np.int64(game.facing)
    x = game.x + WALL
    maps[REACHED + start * SPAN + x] = np.int64(1) << (game.y + FLOOR)
    maps[WAITING + start] = np.int64(1) << x
    is_waiting = True
    while is_waiting:
        for facing in range(facings):
            changed = move_about(maps, facing)
            while changed and piece != _O:
                x = height_of(changed) - 1
                changed &= ~(np.int64(1) << x)
                at = facing * SPAN + x
                fresh = maps[REACHED + at] & ~maps[DONE + at]
                maps[DONE + at] |= fresh
                for direction in range(2):
                    turn_all(piece, facing, direction, x, fresh, maps)
        is_waiting = False
        for facing in range(facings):
            is_waiting |= maps[WAITING + facing] != 0


@part
def move_about(maps, facing):
    """Shift and drop until nothing new is reached; return a bit for every x changed."""
    todo = maps[WAITING + facing]
    maps[WAITING + facing] = 0
    free, reached = FREE + facing * SPAN, REACHED + facing * SPAN
    changed = np.int64(0)
    while todo:
        x = height_of(todo) - 1
        changed |= np.int64(1) << x
        todo &= ~(np.int64(1) << x)
        here = fill_down(maps[reached + x], maps[free + x])
        maps[reached + x] = here
        for beside in (x - 1, x + 1):
            new = here & maps[free + beside] & ~maps[reached + beside]
            if new:
                maps[reached + beside] |= new
                todo |= np.int64(1) << beside
    return changed


@part
def turn_all(piece, facing, direction, x, rest, maps):
    """Turn a piece from every position whose bit is set in `rest`."""
    to = (facing + (1 if direction == CLOCKWISE else FACINGS - 1)) % FACINGS
    for kick in range(N_KICKS):
        there = x + KICKS[piece, facing, direction, kick, 0]
        up = KICKS[piece, facing, direction, kick, 1]
        at = to * SPAN + there
        moved = shifted(rest, up) & maps[FREE + at]
        if moved == 0:
            continue
        maps[TURNS + at] |= moved
        if kick == N_KICKS - 1:
            maps[KICKED + at] |= moved
        if moved & ~maps[REACHED + at]:
            maps[REACHED + at] |= moved
            maps[WAITING + to] |= np.int64(1) << there
        rest &= ~shifted(moved, -up)
        if rest == 0:
            break


@part
def mark_placements(game, rules, maps, mask):
    """Write which placements can be reached; see `GuidelineGames.mask_placements`."""
    mask[:] = False
    for facing in range(FACINGS):
        orientation = ORIENTATIONS[game.piece, facing]
        for x in range(WALL - BOX // 2, WALL + rules.columns):
            column = x - WALL + LEFTS[game.piece, facing]
            first = (orientation * rules.columns + column) * (rules.rows + 1)
            at = facing * SPAN + x
            resting = maps[REACHED + at] & ~(maps[FREE + at] << 1)
            while resting:
                bit = height_of(resting) - 1
                resting &= ~(np.int64(1) << bit)
                row = bit - FLOOR + BOTTOMS[game.piece, facing]
                if row <= rules.rows:
                    mask[first + row] = True
    if rules.has_hold:
        mask[mask.shape[0] - 1] = game.can_hold


@kernel
def mask_placements(games, rules, out):
    """Write which placements can be reached, game by game: (n, actions) bool."""
    maps = room(np.int64, MAPS)
    for i in range(games.shape[0]):
        search(games[i], rules, maps)
        mark_placements(games[i], rules, maps, out[i])


@part
def move_to(game, action, rules, maps):
    """Put the piece where a placement has it, by the turn that makes most of it.

    A piece that cannot get there falls where it is.
    """
    piece, facing, x, y = where(game)
    game.y -= drop_distance(game.field, piece, facing, x, y)
    row = action % (rules.rows + 1)
    column = action // (rules.rows + 1) % rules.columns
    orientation = action // (rules.rows + 1) // rules.columns
    for facing in range(FACINGS):
        if ORIENTATIONS[piece, facing] != orientation:
            continue
        x = column - LEFTS[piece, facing]
        y = row - BOTTOMS[piece, facing]
        bit = np.int64(1) << (y + FLOOR)
        at = facing * SPAN + x + WALL
        if maps[REACHED + at] & bit:
            game.facing = facing
            game.x = x
            game.y = y
            game.turned = NOT_TURNED
            if maps[KICKED + at] & bit:
                game.turned = TURNED_BY_LAST_KICK
            elif maps[TURNS + at] & bit:
                game.turned = TURNED
            return


@part
def next_legal(mask, action):
    """Return the action, or the next that is legal, after the last the first."""
    legal = action
    for _ in range(mask.shape[0]):
        if mask[legal]:
            return legal
        legal += 1
        if legal == mask.shape[0]:
            legal = 0
    return action


@kernel
def place(games, cells, actions, rules, mask):
    """Carry out one placement, or hold, in every game that isn't over.

    Args:
        actions: (n,) int64; one that isn't legal stands for the next that is.
        mask: (actions,) bool, overwritten.
    """
    maps = room(np.int64, MAPS)
    for i in range(games.shape[0]):
        game = games[i]
        forget_step(game)
        if game.over:
            continue
        before = game.score
        search(game, rules, maps)
        mark_placements(game, rules, maps, mask)
        action = next_legal(mask, actions[i])
        if rules.has_hold and action == mask.shape[0] - 1:
            hold_piece(game, rules)
        else:
            move_to(game, action, rules, maps)
            lock(game, cells[i], rules)
        game.gained = game.score - before


@kernel
def measure_surfaces(cells, out):
    """Write each board's holes, sum of heights, and bumpiness.

    Args:
        cells: (n, rows, columns) uint8, top row first.
        out: (n, 3) int64.
    """
    n, rows, columns = cells.shape
    for game in range(n):
        holes = heights = bumps = before = np.int64(0)
        for c in range(columns):
            height = np.int64(0)
            for row in range(rows):
                if cells[game, row, c]:
                    height = larger(height, rows - row)
                elif height:
                    holes += 1
            heights += height
            if c:
                bumps += abs(height - before)
            before = height
        out[game, 0] = holes
        out[game, 1] = heights
        out[game, 2] = bumps
