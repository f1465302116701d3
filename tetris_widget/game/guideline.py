"""Many games under guideline rules: their arrays, and the keys that can be pressed.

Owns the state of the games and nothing else; the rules are in `guideline_kernels`.
Deliberately doesn't know rewards, observations in the sense of gymnasium, or who plays.
"""

from __future__ import annotations

import math
import numbers
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tetris_widget.game import guideline_kernels as kernels
from tetris_widget.game import srs
from tetris_widget.game.boards import cells_from, put_first
from tetris_widget.game.games import (
    MAX_COLUMNS,
    MAX_ROWS,
    MIN_SIZE,
    RANDOMIZERS,
    check_flag,
    check_randomizer,
    check_whole,
    seed_words,
    whole_actions,
)
from tetris_widget.game.guideline_kernels import GAME, HIDDEN_ROWS, MAX_LEVEL, Rules
from tetris_widget.game.pieces import MAX_ROTATIONS, N_PIECES, UNKNOWN
from tetris_widget.game.state import Field, State, check, require, take

# The number of a key is its place here.
KEYS = ("none", "left", "right", "soft", "hard", "cw", "ccw", "hold")
MAX_PREVIEWS = 6
SHOWN_OF_STATE = 5
MIN_TICK, MAX_TICK = 0.001, 1.0
_COUNT = 2**62


class View(NamedTuple):
    """What the player of a game sees; cells are 0 (empty), pieces 1 to 7, or 8.

    Attributes:
        board: (rows, columns) uint8, top row first: the visible cells.
        piece: (row, column) of the falling piece's visible cells; none when the game
            is over.
        ghost: (row, column) of those where it would land.
        kind: the falling piece.
        hold: the held piece; 0: none.
        can_hold: whether hold may be used.
        next: the pieces to come that are shown.
        score, lines, level: so far.
        over: whether the game is over.
    """

    board: NDArray[np.uint8]
    piece: list[tuple[int, int]]
    ghost: list[tuple[int, int]]
    kind: int
    hold: int
    can_hold: bool
    next: list[int]
    score: int
    lines: int
    level: int
    over: bool


class GuidelineGames:
    """`n` games on boards of the same size, one key each at a time.

    A game that is over stays as it is until `begin`.

    Args:
        n: how many.
        rows: visible ones, 4 to 28; 20 more are hidden above.
        columns: 4 to 12.
        previews: how many of the next pieces are shown, 0 to 6.
        hold: whether there is hold.
        randomizer: `bag` (7-bag, the guideline's), or `uniform`.
        tick: seconds that pass with every key, 0.001 to 1.
        level: at which games begin, 1 to 20.
        seed: 0 to 2^64 - 1; game `i` is the same as game 0 with seed `seed + i`; None:
            a new one each time.

    Raises:
        ValueError: an option is out of its bounds.

    Attributes:
        games: (n,) records of `guideline_kernels.GAME`; `games["score"]` is an array.
        cells: (n, rows + 20, columns) uint8, top row first: which piece each cell came
            from; 0 is empty, 8 full from the beginning. The falling piece isn't in it.
    """

    def __init__(
        self,
        n: int,
        rows: int = 20,
        columns: int = 10,
        *,
        previews: int = 5,
        hold: bool = True,
        randomizer: str = "bag",
        tick: float = 0.1,
        level: int = 1,
        seed: int | None = None,
    ) -> None:
        n = check_whole("n", n, 1, 2**31 - 1)
        rows = check_whole("rows", rows, MIN_SIZE, MAX_ROWS)
        columns = check_whole("columns", columns, MIN_SIZE, MAX_COLUMNS)
        previews = check_whole("previews", previews, 0, MAX_PREVIEWS)
        level = check_whole("level", level, 1, MAX_LEVEL)
        self.rows = rows
        self.n_columns = columns
        self.n_previews = previews
        self.has_hold = check_flag("hold", hold)
        self.level = level
        self.rules = Rules(
            rows,
            columns,
            self.has_hold,
            check_randomizer(randomizer),
            # Up, so that 60 sixtieths of a second are a second and not just under one.
            math.ceil(_check_tick(tick) * kernels.SECOND),
            level,
        )
        self.n_keys = len(KEYS) if self.has_hold else len(KEYS) - 1
        self.n_placements = MAX_ROTATIONS * columns * (rows + 1) + self.has_hold
        size = 3 * rows * columns
        self.planes_size = size
        one_hot = 1 + previews + self.has_hold
        self.observation_size = size + one_hot * N_PIECES + self.has_hold
        self.games = np.zeros(n, GAME)
        self.cells: NDArray[np.uint8] = np.zeros(
            (n, rows + HIDDEN_ROWS, columns), np.uint8
        )
        self._all = np.arange(n)
        self._scratch = np.zeros(self.n_placements, np.bool_)
        self.seed(seed)
        self.begin()

    def __len__(self) -> int:
        return len(self.games)

    def surfaces(self) -> NDArray[np.int64]:
        """Return the boards' holes, sums of heights, and bumpiness: (n, 3)."""
        out = np.empty((len(self), 3), np.int64)
        kernels.measure_surfaces(self.cells, out)
        return out

    @property
    def over(self) -> NDArray[np.bool_]:
        """Which games are over: (n,) bool."""
        return self.games["over"]

    @property
    def lines(self) -> NDArray[np.int64]:
        """Lines cleared so far in each game: (n,) int64."""
        return self.games["lines"]

    @property
    def pieces(self) -> NDArray[np.int64]:
        """Pieces placed so far in each game: (n,) int64."""
        return self.games["pieces"]

    def levels(self) -> NDArray[np.int64]:
        """Return the level of each game: (n,)."""
        reached = 1 + self.games["lines"] // kernels.LINES_PER_LEVEL
        return np.clip(reached, self.level, MAX_LEVEL)  # type: ignore[no-any-return]

    def previews(self, game: int) -> list[int]:
        """Return the next pieces of a game that are shown."""
        return _coming(self.games[game], self.n_previews)

    def seed(self, seed: int | None, game: int | None = None) -> None:
        """Set the generators; the pieces already drawn stay until `begin`.

        Args:
            game: of this one alone.

        Raises:
            ValueError: `seed` is no whole number from 0 to 2^64 - 1; nothing changes.
        """
        if game is None:
            self.games["rng"][:, 0] = seed_words(seed, len(self))
        else:
            self.games["rng"][game] = seed_words(seed, 1)

    def begin(self, which: NDArray[np.int64] | None = None) -> None:
        """Begin games anew, all or those whose numbers are given; generators go on."""
        which = self._all if which is None else which
        kernels.begin_games(self.games, self.cells, which, self.rules)

    # Keys

    def step(self, keys: NDArray[np.int64]) -> None:
        """Press a key in every game, and let a tick pass.

        Args:
            keys: (n,) integers, see KEYS. A key that is blocked does nothing.

        Raises:
            ValueError: a key is out of range; nothing is changed.
        """
        keys = self._checked(keys, "key", self.n_keys)
        kernels.step(self.games, self.cells, keys, self.rules)

    def mask_keys(self) -> NDArray[np.bool_]:
        """Return which keys would do something: (n, keys) bool."""
        out = np.zeros((len(self), self.n_keys), np.bool_)
        kernels.mask_keys(self.games, self.rules, out)
        return out

    # Placements

    def mask_placements(self) -> NDArray[np.bool_]:
        """Return which placements keys can reach, time standing still.

        Placement `(rotation × columns + column) × (rows + 1) + row` has the piece's
        cells, in orientation `rotation` of `pieces.SHAPES`, leftmost in `column` and
        lowest in `row`, the floor's being 0; in row `rows` it locks out. The last one,
        if there is hold, is hold.

        Returns:
            (n, 4 × columns × (rows + 1) + hold) bool.
        """
        out = np.empty((len(self), self.n_placements), np.bool_)
        kernels.mask_placements(self.games, self.rules, out)
        return out

    def reachable(self, game: int) -> NDArray[np.int64]:
        """Return (k, 3): rotation, row, column of each placement in reach, in order."""
        mask = self.mask_placements()[game]
        last = self.n_placements - self.has_hold
        place, row = np.divmod(np.flatnonzero(mask[:last]), self.rows + 1)
        return np.stack([place // self.n_columns, row, place % self.n_columns], 1)

    def place(self, placements: NDArray[np.int64]) -> None:
        """Lock a piece in every game, or hold it; no time passes.

        A placement of a T that a turn can end in counts as that turn.

        Args:
            placements: (n,) integers, see `mask_placements`. One that isn't in reach
                stands for the next one that is.

        Raises:
            ValueError: a placement is out of range; nothing is changed.
        """
        actions = self._checked(placements, "placement", self.n_placements)
        kernels.place(self.games, self.cells, actions, self.rules, self._scratch)

    def _checked(
        self, actions: NDArray[np.int64], name: str, n_actions: int
    ) -> NDArray[np.int64]:
        actions = whole_actions(name, actions, len(self), n_actions)
        if actions.min() < 0 or actions.max() >= n_actions:
            bad = int(actions[(actions < 0) | (actions >= n_actions)][0])
            raise ValueError(f"{name}: {bad}; allowed: 0 to {n_actions - 1}")
        return actions

    # Seeing

    def observe(
        self, out: NDArray[np.uint8], which: NDArray[np.int64] | None = None
    ) -> None:
        """Write what players see; see `guideline_kernels.observe`.

        Args:
            out: (n or len(which), observation_size) uint8.
        """
        which = self._all if which is None else which
        kernels.observe(self.games, self.cells, which, self.rules, self.n_previews, out)

    def view(self, game: int) -> View:
        """Return what the player of a game sees."""
        return _view(self.games[game], self.cells[game], self.rules, self.n_previews)

    # State in and out

    def get_state(self, game: int | None = None) -> State:
        """Return a copy of all that the future of the games hangs on.

        Args:
            game: of this one alone.

        Returns:
            `games` and `cells` as in the attributes, generators included, and the
            rules: `hold`, `randomizer`, `tick` (in nanoseconds) and `level`.
        """
        return take(self._fields(game))

    def set_state(self, state: State, game: int | None = None) -> None:
        """Go on from a state that `get_state` gave, bit for bit.

        Args:
            game: set this one alone, from a state of one game.

        Raises:
            ValueError: it isn't a state of such games by these rules; nothing is
                changed.
        """
        values = self.check_state(state, game)
        for name, field in self._fields(game).items():
            field.array[...] = values[name]

    def check_state(self, state: Any, game: int | None = None) -> State:
        """Return `state` if `set_state` would take it.

        Raises:
            ValueError: as there.
        """
        values = check(state, self._fields(game))
        _check_records(values["games"], values["cells"], self.rules)
        return values

    def state_from_board(self, board: Any, piece: str | None = None) -> State:
        """Return the state of one game like these that begins on a board.

        Args:
            board: (rows, columns), the visible rows, top row first: 0 is empty, 1 to 7
                a cell of that piece, 8 any other full one; or bools.
            piece: which comes first, see PIECE_NAMES; None: the one that is drawn. It
                and those to come are drawn by a copy of game 0's generator.

        Raises:
            ValueError: there is no such board or piece; the message says what is
                allowed.
        """
        visible = cells_from(board, (self.rows, self.n_columns))
        games, cells = self.games[:1].copy(), np.zeros_like(self.cells[:1])
        kernels.begin_games(games, cells, np.zeros(1, np.int64), self.rules)
        record = games[0]
        if piece is not None:
            is_bag = self.rules.randomizer == RANDOMIZERS["bag"]
            put_first(record["queue"][0], piece, is_bag)
        cells[0, HIDDEN_ROWS:] = visible
        record["field"] = _field_of(cells[0], self.rules)
        kernels.spawn(record, int(record["queue"][0, 0]), self.rules)
        return self.check_state(
            {**self.get_state(0), "games": games, "cells": cells}, 0
        )

    def _fields(self, game: int | None) -> dict[str, Field]:
        if game is not None:
            game = check_whole("game", game, 0, len(self) - 1)
        one = slice(None) if game is None else slice(game, game + 1)
        rules = {
            "hold": int(self.rules.has_hold),
            "randomizer": self.rules.randomizer,
            "tick": self.rules.tick,
            "level": self.rules.level,
        }
        return {
            **{name: Field(np.array(rule), rule, rule) for name, rule in rules.items()},
            "games": Field(self.games[one]),
            "cells": Field(self.cells[one], 0, UNKNOWN),
        }


def view_of_state(state: State, game: int) -> View:
    """Return what the player of a game sees whose state `get_state` gave.

    The next five pieces are in it: a state doesn't say how many are shown.

    Args:
        state: of one game, or of several.
        game: which of them.

    Raises:
        ValueError: it is no such state; the message says why.
    """
    require(state, ("games", "cells", "hold", "randomizer", "tick", "level"))
    games, cells = state["games"], state["cells"]
    if games.dtype != GAME or games.ndim != 1 or cells.ndim != 3:
        raise ValueError("state: games and cells are none of guideline games")
    game = check_whole("game", game, 0, min(len(games), len(cells)) - 1)
    rows = check_whole("rows", cells.shape[1] - HIDDEN_ROWS, MIN_SIZE, MAX_ROWS)
    columns = check_whole("columns", cells.shape[2], MIN_SIZE, MAX_COLUMNS)
    rules = Rules(
        rows,
        columns,
        bool(state["hold"]),
        int(state["randomizer"]),
        int(state["tick"]),
        int(state["level"]),
    )
    one = slice(game, game + 1)
    _check_records(games[one], cells[one], rules)
    return _view(games[game], cells[game], rules, SHOWN_OF_STATE)


def _check_tick(tick: Any) -> float:
    is_number = isinstance(tick, numbers.Real) and not isinstance(tick, bool)
    if not is_number or not MIN_TICK <= tick <= MAX_TICK:
        raise ValueError(f"tick: {tick!r}; allowed: {MIN_TICK} to {MAX_TICK} s")
    return float(tick)


def _view(record: Any, cells: NDArray[np.uint8], rules: Rules, previews: int) -> View:
    kind, over = int(record["piece"]), bool(record["over"])
    facing, x, y = (int(record[name]) for name in ("facing", "x", "y"))
    lines = int(record["lines"])
    piece, ghost = [], []
    if not over:
        distance = kernels.drop_distance(record["field"], kind, facing, x, y)
        piece = _cells_at(kind, facing, x, y, rules.rows)
        ghost = _cells_at(kind, facing, x, y - int(distance), rules.rows)
    return View(
        board=cells[HIDDEN_ROWS:].copy(),
        piece=piece,
        ghost=ghost,
        kind=kind,
        hold=int(record["hold"]),
        can_hold=rules.has_hold and bool(record["can_hold"]),
        next=_coming(record, previews),
        score=int(record["score"]),
        lines=lines,
        level=int(kernels.level_of(lines, rules)),
        over=over,
    )


def _coming(record: Any, previews: int) -> list[int]:
    first = int(record["position"][0]) + 1
    return [int(piece) for piece in record["queue"][0, first : first + previews]]


def _cells_at(
    piece: int, facing: int, x: int, y: int, rows: int
) -> list[tuple[int, int]]:
    """Return (row from the top, column) of a piece's visible cells."""
    return [
        (rows - 1 - y - up, x + right)
        for right, up in srs.CELLS[piece, facing].tolist()
        if y + up < rows
    ]


def _field_of(cells: NDArray[np.uint8], rules: Rules) -> NDArray[np.int64]:
    """Return the field that a game's cells, hidden rows included, make."""
    field = np.zeros(kernels.SPAN, np.int64)
    kernels.empty_field(field, rules)
    bits = np.int64(1) << (np.arange(len(cells))[::-1, None] + kernels.FLOOR)
    full = ((cells > 0) * bits).sum(0)
    field[kernels.WALL : kernels.WALL + rules.columns] |= full
    return field


def _check_records(games: NDArray[Any], cells: NDArray[np.uint8], rules: Rules) -> None:
    """Refuse what would send a kernel out of its arrays, or make no sense."""
    height = rules.rows + HIDDEN_ROWS
    # Where a box is whose piece is inside the walls.
    x = (-2, rules.columns - 2)
    y = (-2, height - 1)
    bounds = {
        "piece": (1, N_PIECES),
        "hold": (0, N_PIECES),
        "facing": (0, srs.FACINGS - 1),
        "x": x,
        "y": y,
        "lowest": y,
        "queue": (1, N_PIECES),
        "position": (0, N_PIECES - 1),
        "turned": (0, kernels.TURNED_BY_LAST_KICK),
        "moves": (0, kernels.MAX_MOVES),
        "combo": (-1, _COUNT),
        "rng": (1, 2**64 - 1),
        **dict.fromkeys(("score", "gained", "lines", "pieces"), (0, _COUNT)),
        **dict.fromkeys(("fall_time", "lock_time"), (0, _COUNT)),
        "cleared": (0, kernels.MAX_LINES),
        "spin": (0, kernels.FULL_SPIN),
        "locked": (0, N_PIECES),
        "locked_facing": (0, srs.FACINGS - 1),
        "locked_x": x,
        "locked_y": y,
    }
    for name, (low, high) in bounds.items():
        values = games[name]
        if values.min() < low or values.max() > high:
            wrong = values[(values < low) | (values > high)][0]
            raise ValueError(f"state: {name} {wrong}; allowed: {low} to {high}")
    for number, (record, own) in enumerate(zip(games, cells, strict=True)):
        field = _field_of(own, rules)
        if not np.array_equal(field, record["field"]):
            raise ValueError(f"state: game {number}: field and cells disagree")
        if (own > 0).all(1).any():
            raise ValueError(f"state: game {number}: a row is full")
        where = [int(record[name]) for name in ("piece", "facing", "x", "y")]
        if not record["over"] and not kernels.fits(field, *where):
            raise ValueError(f"state: game {number}: its piece is on full cells")
