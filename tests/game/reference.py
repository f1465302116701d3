"""Tetris by the rules alone, in plain Python on lists of rows: an oracle for kernels.

Nothing here is shared with the package.
"""

from __future__ import annotations

from functools import cache

# The pieces as they appear, top row first.
PIECES = {
    "I": ["####"],
    "O": ["##", "##"],
    "T": [".#.", "###"],
    "S": [".##", "##."],
    "Z": ["##.", ".##"],
    "J": ["#..", "###"],
    "L": ["..#", "###"],
}
Board = list[list[int]]  # top row first, 1 is full
# The board, lines, eroded cells and landing height.
Placed = tuple[Board, int, int, float]


@cache
def orientations(name: str) -> list[list[list[int]]]:
    """Return a piece turned clockwise once more each; what looks alike only once."""
    found: list[list[list[int]]] = []
    shape = [[int(char == "#") for char in row] for row in PIECES[name]]
    for _ in range(4):
        if shape not in found:
            found.append(shape)
        shape = [list(column) for column in zip(*shape[::-1], strict=True)]
    return found


def place(board: Board, name: str, rotation: int, column: int) -> Placed | None:
    """Return what a placement leads to; None: it is not legal."""
    rows, columns = len(board), len(board[0])
    if rotation >= len(orientations(name)):
        return None
    shape = orientations(name)[rotation]
    height, width = len(shape), len(shape[0])
    if column + width > columns:
        return None

    def collides(top: int) -> bool:
        return any(
            shape[i][j]
            and (top + i >= rows or (top + i >= 0 and board[top + i][column + j]))
            for i in range(height)
            for j in range(width)
        )

    top = -height  # wholly above the board
    while not collides(top + 1):
        top += 1
    if top < 0:
        return None
    after = [row[:] for row in board]
    for i in range(height):
        for j in range(width):
            if shape[i][j]:
                after[top + i][column + j] = 1
    full = [i for i in range(rows) if all(after[i])]
    eroded = sum(sum(shape[i - top]) for i in full if 0 <= i - top < height)
    kept = [row for i, row in enumerate(after) if i not in full]
    empty = [[0] * columns for _ in full]
    landing = (rows - top - height) + (height - 1) / 2
    return empty + kept, len(full), len(full) * eroded, landing


def features(board: Board) -> dict[str, float]:
    """Return the features that depend on the board alone."""
    rows, columns = len(board), len(board[0])

    def at(row: int, column: int) -> int:
        if column < 0 or column >= columns or row >= rows:
            return 1
        return 0 if row < 0 else board[row][column]

    heights = [
        next((rows - row for row in range(rows) if board[row][column]), 0)
        for column in range(columns)
    ]
    holes = [
        (row, column)
        for row in range(rows)
        for column in range(columns)
        if not board[row][column] and rows - row < heights[column]
    ]
    depth = 0
    for row, column in holes:
        above = row - 1
        while at(above, column):
            depth += 1
            above -= 1
    wells = 0
    for row in range(rows):
        for column in range(columns):
            if not at(row, column) and at(row, column - 1) and at(row, column + 1):
                below = row
                while not at(below, column):
                    wells += 1
                    below += 1
    steps = [heights[c + 1] - heights[c] for c in range(columns - 1)]
    return {
        "row_transitions": sum(
            at(row, column) != at(row, column + 1)
            for row in range(rows)
            for column in range(-1, columns)
        ),
        "column_transitions": sum(
            at(row, column) != at(row + 1, column)
            for row in range(-1, rows)
            for column in range(columns)
        ),
        "holes": len(holes),
        "cumulative_wells": wells,
        "hole_depth": depth,
        "rows_with_holes": len({row for row, _ in holes}),
        "diversity": len({step for step in steps if -2 <= step <= 2}),
        "sum_heights": sum(heights),
        "max_height": max(heights),
        "bumpiness": sum(map(abs, steps)),
    }
