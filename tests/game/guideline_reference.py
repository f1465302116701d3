"""The guideline rules in plain Python, written from their description alone.

Slow and simple; shares nothing with the package. A board is a dict of (x, y) to piece
names, y upwards from the floor. Facings are N, E, S, W.
"""

from __future__ import annotations

from fractions import Fraction

# The pictures of tetris.wiki/Super_Rotation_System: N, E, S, W, top row first.
PICTURES = {
    "I": ("..../####/..../....", "..#./..#./..#./..#.", "..../..../####/....",
          ".#../.#../.#../.#.."),
    "J": ("#../###/...", ".##/.#./.#.", ".../###/..#", ".#./.#./##."),
    "L": ("..#/###/...", ".#./.#./.##", ".../###/#..", "##./.#./.#."),
    "O": ("##/##",) * 4,
    "S": (".##/##./...", ".#./.##/..#", ".../.##/##.", "#../##./.#."),
    "T": (".#./###/...", ".#./.##/.#.", ".../###/.#.", ".#./##./.#."),
    "Z": ("##./.##/...", "..#/.##/.#.", ".../##./.##", ".#./##./#.."),
}  # fmt: skip

# The same page's tables: (right, up), tests 1 to 5.
JLSTZ_KICKS = {
    "NE": [(0, 0), (-1, 0), (-1, +1), (0, -2), (-1, -2)],
    "EN": [(0, 0), (+1, 0), (+1, -1), (0, +2), (+1, +2)],
    "ES": [(0, 0), (+1, 0), (+1, -1), (0, +2), (+1, +2)],
    "SE": [(0, 0), (-1, 0), (-1, +1), (0, -2), (-1, -2)],
    "SW": [(0, 0), (+1, 0), (+1, +1), (0, -2), (+1, -2)],
    "WS": [(0, 0), (-1, 0), (-1, -1), (0, +2), (-1, +2)],
    "WN": [(0, 0), (-1, 0), (-1, -1), (0, +2), (-1, +2)],
    "NW": [(0, 0), (+1, 0), (+1, +1), (0, -2), (+1, -2)],
}
I_KICKS = {
    "NE": [(0, 0), (-2, 0), (+1, 0), (-2, -1), (+1, +2)],
    "EN": [(0, 0), (+2, 0), (-1, 0), (+2, +1), (-1, -2)],
    "ES": [(0, 0), (-1, 0), (+2, 0), (-1, +2), (+2, -1)],
    "SE": [(0, 0), (+1, 0), (-2, 0), (+1, -2), (-2, +1)],
    "SW": [(0, 0), (+2, 0), (-1, 0), (+2, +1), (-1, -2)],
    "WS": [(0, 0), (-2, 0), (+1, 0), (-2, -1), (+1, +2)],
    "WN": [(0, 0), (+1, 0), (-2, 0), (+1, -2), (-2, +1)],
    "NW": [(0, 0), (-1, 0), (+2, 0), (-1, +2), (+2, -1)],
}
FACINGS = "NESW"

Cell = tuple[int, int]
Position = tuple[str, int, int]
Board = dict[Cell, str]


def shape(name: str, facing: str) -> list[Cell]:
    """The cells of a piece from the lower left of its box."""
    rows = PICTURES[name][FACINGS.index(facing)].split("/")
    return [
        (x, len(rows) - 1 - i)
        for i, row in enumerate(rows)
        for x, char in enumerate(row)
        if char == "#"
    ]


def cells_at(name: str, position: Position) -> list[Cell]:
    facing, x, y = position
    return [(x + i, y + j) for i, j in shape(name, facing)]


def kicks(name: str, before: str, after: str) -> list[Cell]:
    if name == "O":
        return [(0, 0)]
    return (I_KICKS if name == "I" else JLSTZ_KICKS)[before + after]


class Box:
    """A board with walls, floor and ceiling, and what fits into it."""

    def __init__(self, rows: int, columns: int, board: Board) -> None:
        self.rows, self.columns, self.board = rows, columns, board

    def is_free(self, cell: Cell) -> bool:
        x, y = cell
        inside = 0 <= x < self.columns and 0 <= y < self.rows + 20
        return inside and cell not in self.board

    def fits(self, name: str, position: Position) -> bool:
        return all(self.is_free(cell) for cell in cells_at(name, position))

    def turn(self, name: str, position: Position, by: int) -> tuple[Position, int]:
        """Where the piece is after a turn, and the number of the test; 0: nowhere."""
        facing, x, y = position
        after = FACINGS[(FACINGS.index(facing) + by) % 4]
        for number, (right, up) in enumerate(kicks(name, facing, after), 1):
            there = (after, x + right, y + up)
            if self.fits(name, there):
                return there, number
        return position, 0

    def spawn(self, name: str) -> Position:
        size = len(PICTURES[name][0].split("/"))
        lowest = min(y for _, y in shape(name, "N"))
        return "N", (self.columns - size) // 2, self.rows - lowest

    def reachable(self, name: str, start: Position) -> set[frozenset[Cell]]:
        """The cells of every resting position that keys can bring a piece to."""
        seen, todo = {start}, [start]
        while todo:
            facing, x, y = position = todo.pop()
            moves = [(facing, x - 1, y), (facing, x + 1, y), (facing, x, y - 1)]
            found = [move for move in moves if self.fits(name, move)]
            found += [self.turn(name, position, by)[0] for by in (1, -1)]
            todo += [one for one in dict.fromkeys(found) if one not in seen]
            seen.update(found)
        return {
            frozenset(cells_at(name, (facing, x, y)))
            for facing, x, y in seen
            if not self.fits(name, (facing, x, y - 1))
        }

    def paths(self, name: str, start: Position) -> dict[Position, list[str]]:
        """The fewest keys to every resting position, the last being a turn if any."""
        keys: dict[Position, list[str]] = {start: []}
        todo = [start]
        for position in todo:
            facing, x, y = position
            for key, there in (
                ("cw", self.turn(name, position, 1)[0]),
                ("ccw", self.turn(name, position, 3)[0]),
                ("left", (facing, x - 1, y)),
                ("right", (facing, x + 1, y)),
                ("soft", (facing, x, y - 1)),
            ):
                if there not in keys and self.fits(name, there):
                    keys[there] = [*keys[position], key]
                    todo.append(there)
        return {
            (facing, x, y): path
            for (facing, x, y), path in keys.items()
            if not self.fits(name, (facing, x, y - 1))
        }


class ReferenceGame(Box):
    """One game, a key and a tick at a time; the pieces to come are handed to it."""

    def __init__(
        self, rows: int, columns: int, pieces: list[str], tick: Fraction, level: int = 1
    ) -> None:
        super().__init__(rows, columns, {})
        self.pieces_to_come, self.tick, self.first_level = pieces, tick, level
        self.score = self.lines = self.pieces = 0
        self.combo = -1
        self.back_to_back = self.over = self.hold_used = False
        self.held: str | None = None
        self.enter(self.pieces_to_come.pop(0))

    @property
    def level(self) -> int:
        return min(20, max(self.first_level, self.lines // 10 + 1))

    @property
    def resting(self) -> bool:
        facing, x, y = self.position
        return not self.fits(self.name, (facing, x, y - 1))

    def enter(self, name: str) -> None:
        self.name, self.position = name, self.spawn(name)
        self.last_turn = 0
        self.moves, self.on_floor = 0, Fraction(0)
        self.falling = Fraction(0)
        if not self.fits(name, self.position):
            self.over = True
        elif not self.resting:
            facing, x, y = self.position
            self.position = facing, x, y - 1
        self.lowest = self.position[2]
        self.landed = self.resting

    def press(self, key: str) -> None:
        if self.over:
            return
        facing, x, y = self.position
        if key in ("left", "right"):
            there = facing, x + (1 if key == "right" else -1), y
            if self.fits(self.name, there):
                self.manipulate(there, 0)
        elif key in ("cw", "ccw"):
            there, number = self.turn(self.name, self.position, 1 if key == "cw" else 3)
            if number:
                self.manipulate(there, number)
        elif key == "soft" and not self.resting:
            self.score += 1
            self.falling = Fraction(0)
            self.descend()
        elif key == "hard":
            while not self.resting:
                self.score += 2
                self.descend()
            self.lock()
            return
        elif key == "hold" and not self.hold_used:
            self.hold_used = True
            held, self.held = self.held, self.name
            self.enter(held or self.pieces_to_come.pop(0))
        if not self.over:
            self.wait()

    def manipulate(self, there: Position, number: int) -> None:
        self.position, self.last_turn = there, number
        if self.landed:
            self.moves += 1
            self.on_floor = Fraction(0)

    def descend(self) -> None:
        facing, x, y = self.position
        self.position = facing, x, y - 1
        self.last_turn = 0
        if y - 1 < self.lowest:
            self.lowest = y - 1
            self.moves, self.on_floor, self.landed = 0, Fraction(0), False

    def wait(self) -> None:
        if self.resting:
            self.on_floor += self.tick
        else:
            seconds = (0.8 - (self.level - 1) * 0.007) ** (self.level - 1)
            self.falling += self.tick
            while self.falling >= seconds and not self.resting:
                self.falling -= Fraction(seconds)
                self.descend()
        if self.resting:
            self.landed = True
            self.falling = Fraction(0)
            if self.on_floor >= Fraction(1, 2) or self.moves >= 15:
                self.lock()

    def spin(self) -> str:
        """T-spin, mini or none, by the corners of the T's box."""
        facing, x, y = self.position
        if self.name != "T" or not self.last_turn:
            return ""
        around = {"N": (0, 1), "E": (1, 0), "S": (0, -1), "W": (-1, 0)}[facing]
        corners = [(i, j) for i in (-1, 1) for j in (-1, 1)]
        full = [c for c in corners if not self.is_free((x + 1 + c[0], y + 1 + c[1]))]
        in_front = [c for c in full if c[0] * around[0] + c[1] * around[1] > 0]
        if len(full) < 3:
            return ""
        return "full" if len(in_front) == 2 or self.last_turn == 5 else "mini"

    def lock(self) -> None:
        spin = self.spin()
        cells = cells_at(self.name, self.position)
        self.board |= dict.fromkeys(cells, self.name)
        self.pieces += 1
        every = range(self.rows + 20)
        full = [y for y in every if all((x, y) in self.board for x in self.xs)]
        self.board = {
            (x, y - sum(row < y for row in full)): name
            for (x, y), name in self.board.items()
            if y not in full
        }
        self.score += self.points(len(full), spin) * self.level
        self.lines += len(full)
        if all(y >= self.rows for _, y in cells):
            self.over = True
            return
        self.hold_used = False
        self.enter(self.pieces_to_come.pop(0))

    @property
    def xs(self) -> range:
        return range(self.columns)

    def points(self, lines: int, spin: str) -> int:
        table = {
            "": (0, 100, 300, 500, 800),
            "mini": (100, 200, 400),
            "full": (400, 800, 1200, 1600),
        }
        points = table[spin][lines]
        if not lines:
            self.combo = -1
            return points
        difficult = lines == 4 or spin != ""
        again = difficult and self.back_to_back
        self.back_to_back = difficult
        self.combo += 1
        total = points * 3 // 2 if again else points
        total += 50 * self.combo
        if not self.board:
            total += (
                3200 if again and lines == 4 else (800, 1200, 1800, 2000)[lines - 1]
            )
        return total
