"""The guideline rules: against published tables, cases, and a plain-Python game."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.game.guideline_reference import (
    FACINGS,
    I_KICKS,
    JLSTZ_KICKS,
    PICTURES,
    Board,
    Box,
    ReferenceGame,
    cells_at,
    kicks,
    shape,
)
from tetris_widget.game import PIECE_NAMES, srs
from tetris_widget.game import guideline_kernels as kernels
from tetris_widget.game.guideline import KEYS, GuidelineGames
from tetris_widget.game.guideline_kernels import FLOOR, WALL
from tetris_widget.game.pieces import SHAPES, cells

HIDDEN = 20
NAMES = PIECE_NAMES[1:]


def key(name: str) -> int:
    return KEYS.index(name)


def press(games: GuidelineGames, *names: str) -> None:
    for name in names:
        games.step(np.full(len(games), key(name)))


def set_board(games: GuidelineGames, board: Board) -> None:
    """Put full cells into game 0."""
    games.cells[0] = 0
    field = games.games[0]["field"]
    kernels.empty_field(field, games.rules)
    for (x, y), name in board.items():
        games.cells[0, games.rows + HIDDEN - 1 - y, x] = PIECE_NAMES.index(name)
        field[x + kernels.WALL] |= 1 << (y + kernels.FLOOR)


def picture(*rows: str) -> Board:
    """A board from rows of which the last is on the floor; `.` is empty."""
    return {
        (x, y): "O"
        for y, row in enumerate(reversed(rows))
        for x, char in enumerate(row)
        if char != "."
    }


def board_of(games: GuidelineGames, game: int = 0) -> Board:
    full = np.argwhere(games.cells[game])
    return {
        (int(x), int(games.rows + HIDDEN - 1 - row)): PIECE_NAMES[
            games.cells[game, row, x]
        ]
        for row, x in full
    }


def put(
    games: GuidelineGames, name: str, facing: str = "N", x: int = 3, y: int = 3
) -> None:
    """Replace the piece of game 0."""
    record = games.games[0]
    record["piece"] = PIECE_NAMES.index(name)
    record["facing"] = FACINGS.index(facing)
    record["x"], record["y"], record["lowest"] = x, y, y
    record["turned"] = record["moves"] = 0
    record["lock_time"] = record["fall_time"] = 0
    record["has_landed"] = False


def position(games: GuidelineGames, game: int = 0) -> tuple[str, int, int]:
    record = games.games[game]
    return FACINGS[record["facing"]], int(record["x"]), int(record["y"])


def queue(games: GuidelineGames, *names: str) -> None:
    """Set the pieces that come after the present one."""
    record = games.games[0]
    first = int(record["position"][0]) + 1
    for i, name in enumerate(names):
        record["queue"][0, first + i] = PIECE_NAMES.index(name)


# Shapes and kicks


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("facing", FACINGS)
def test_a_piece_has_the_cells_of_the_published_picture(name: str, facing: str) -> None:
    piece, number = PIECE_NAMES.index(name), FACINGS.index(facing)
    mine = {(int(x), int(y)) for x, y in srs.CELLS[piece, number]}
    assert mine == set(shape(name, facing))
    orientation = int(srs.ORIENTATIONS[piece, number])
    height = len(SHAPES[name][orientation])
    left, low = srs.LEFTS[piece, number], srs.BOTTOMS[piece, number]
    drawn = cells(piece, orientation)
    assert mine == {(left + j, low + height - 1 - i) for i, j in drawn}


def kick_cases() -> list[tuple[str, str, int]]:
    """Every piece, turn, and number of a test in the tables."""
    return [
        (name, turn, test)
        for name in NAMES
        if name != "O"
        for turn in (I_KICKS if name == "I" else JLSTZ_KICKS)
        for test in range(1, 6)
    ]


def barred_by(name: str, turn: str, test: int) -> list[set[tuple[int, int]]]:
    """The cells that bar each test before this one, and it and the start need not."""
    tests = kicks(name, *turn)

    def needs(offset: tuple[int, int]) -> set[tuple[int, int]]:
        return set(cells_at(name, (turn[1], 4 + offset[0], 8 + offset[1])))

    kept = set(cells_at(name, (turn[0], 4, 8))) | needs(tests[test - 1])
    return [needs(offset) - kept for offset in tests[: test - 1]]


POSSIBLE = [case for case in kick_cases() if all(barred_by(*case))]


@pytest.mark.parametrize(("name", "turn", "test"), POSSIBLE)
def test_every_kick_of_the_published_tables(name: str, turn: str, test: int) -> None:
    """With the tests before it barred, the piece goes where the table says."""
    before, after = turn
    right, up = kicks(name, before, after)[test - 1]
    games = GuidelineGames(1, 20, 12, seed=0)
    barred = set().union(*barred_by(name, turn, test))
    set_board(games, dict.fromkeys(barred, "O"))
    put(games, name, before, 4, 8)
    clockwise = FACINGS.index(after) == (FACINGS.index(before) + 1) % 4
    press(games, "cw" if clockwise else "ccw")
    assert position(games) == (after, 4 + right, 8 + up)


def test_the_kicks_that_no_board_allows_are_the_published_ones() -> None:
    """An earlier test always succeeds; tetris.wiki gives the T's two as impossible."""
    assert set(kick_cases()) - set(POSSIBLE) == {
        ("T", "NE", 4),
        ("T", "NW", 4),
        ("T", "SE", 3),
        ("T", "SW", 3),
    }


def test_the_kicks_are_tried_in_the_published_order() -> None:
    for name in NAMES:
        if name == "O":
            continue
        table = I_KICKS if name == "I" else JLSTZ_KICKS
        for turn, tests in table.items():
            before, after = (FACINGS.index(one) for one in turn)
            direction = 0 if after == (before + 1) % 4 else 1
            mine = srs.KICKS[PIECE_NAMES.index(name), before, direction]
            assert [tuple(kick) for kick in mine.tolist()] == tests


def test_a_turn_without_room_does_nothing() -> None:
    games = GuidelineGames(1, seed=0)
    room = set(cells_at("T", ("N", 3, 3)))
    walls = {(x, y): "O" for x in range(10) for y in range(12) if (x, y) not in room}
    set_board(games, walls)
    put(games, "T", "N", 3, 3)
    press(games, "cw")
    assert position(games) == ("N", 3, 3)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("columns", [4, 5, 10, 12])
def test_pieces_spawn_above_the_board_and_drop_one_row(name: str, columns: int) -> None:
    games = GuidelineGames(1, 20, columns, seed=0)
    queue(games, name)
    press(games, "hard")
    facing, x, y = Box(20, columns, {}).spawn(name)
    assert position(games) == (facing, x, y - 1)
    if columns == 10:
        assert x == {"I": 3, "O": 4}.get(name, 3)
    assert min(row for _, row in cells_at(name, (facing, x, y))) == 20


# T-spins. `T` is where the piece is turned to; `x` full cells.

SLOT = picture(
    "xxx...xxxx",
    "xxxx.xxxxx",
)


def t_spin(board: Board, start: tuple[str, int, int], *keys: str) -> tuple[int, int]:
    """The kind of spin and the lines of a T that is turned, then dropped."""
    games = GuidelineGames(1, seed=0, tick=0.001)
    set_board(games, board)
    put(games, "T", *start)
    press(games, *keys, "hard")
    assert games.games[0]["locked"] == PIECE_NAMES.index("T")
    return int(games.games[0]["spin"]), int(games.games[0]["cleared"])


def test_a_turn_into_a_slot_under_an_overhang_is_a_t_spin_double() -> None:
    board = {**SLOT, (3, 2): "O"}
    assert t_spin(board, ("E", 3, 0), "cw") == (kernels.FULL_SPIN, 2)


def test_a_turn_with_the_slot_open_above_is_none() -> None:
    """Two corners only."""
    assert t_spin(SLOT, ("E", 3, 0), "cw") == (kernels.NO_SPIN, 2)


@pytest.mark.parametrize(("y", "keys"), [(2, ["cw", "soft", "soft"]), (4, ["cw"])])
def test_falling_after_the_turn_undoes_the_spin(y: int, keys: list[str]) -> None:
    """Softly, or dropped, into three full corners."""
    board = picture("..x.......", "xxx..xxxxx", "xxx.xxxxxx")
    assert t_spin(board, ("N", 2, y), *keys) == (kernels.NO_SPIN, 2)
    games = GuidelineGames(1, seed=0)
    set_board(games, board)
    put(games, "T", "E", 2, 0)
    games.games[0]["turned"] = kernels.TURNED
    assert kernels.find_spin(games.games[0]) == kernels.MINI_SPIN


def test_shifting_after_the_turn_undoes_the_spin() -> None:
    games = GuidelineGames(1, seed=0, tick=0.001)
    put(games, "T", "N", 3, 8)
    press(games, "cw")
    assert games.games[0]["turned"] == kernels.TURNED
    press(games, "left")
    assert games.games[0]["turned"] == kernels.NOT_TURNED


def test_dropping_by_no_row_keeps_the_spin() -> None:
    board = {**SLOT, (5, 2): "O"}
    assert t_spin(board, ("W", 3, 0), "ccw") == (kernels.FULL_SPIN, 2)


def test_a_t_dropped_into_its_slot_is_no_spin() -> None:
    board = {**SLOT, (2, 2): "O"}
    assert t_spin(board, ("S", 3, 4)) == (kernels.NO_SPIN, 2)


def test_one_empty_corner_at_the_point_makes_it_mini() -> None:
    """Turned into the notch at the wall: both corners at its back are the wall's."""
    board = picture(".xxxxxxxxx")
    assert t_spin(board, ("N", 0, 0), "cw") == (kernels.MINI_SPIN, 1)


# Turned by (1, -2) past the roof at the right into the hole.
TRIPLE = picture(
    "...xx.....",
    "....xxxxxx",
    "xxx.xxxxxx",
    "xx..xxxxxx",
    "xxx.xxxxxx",
)


def test_a_t_spin_triple() -> None:
    assert Box(20, 10, TRIPLE).turn("T", ("N", 1, 2), -1) == (("W", 2, 0), 5)
    assert t_spin(TRIPLE, ("N", 1, 2), "ccw") == (kernels.FULL_SPIN, 3)


def test_the_fifth_kick_makes_a_spin_full() -> None:
    board = {cell: name for cell, name in TRIPLE.items() if cell != (2, 0)}
    assert t_spin(board, ("N", 1, 2), "ccw") == (kernels.FULL_SPIN, 2)
    # With a corner at its point empty it would be mini by any other turn.
    games = GuidelineGames(1, seed=0)
    set_board(games, board)
    put(games, "T", "W", 2, 0)
    games.games[0]["turned"] = kernels.TURNED
    assert kernels.find_spin(games.games[0]) == kernels.MINI_SPIN


def test_other_pieces_make_no_t_spins() -> None:
    games = GuidelineGames(1, seed=0, tick=0.001)
    board = picture(
        "x.........",
        "...xxxxxxx",
    )
    set_board(games, board)
    put(games, "L", "E", 0, 0)
    press(games, "ccw", "hard")
    assert games.games[0]["spin"] == kernels.NO_SPIN


# Points


def drop_i(clears: int, **fields: int) -> GuidelineGames:
    """Clear lines with an upright I at the right wall; no drop points."""
    games = GuidelineGames(1, seed=0)
    rest = ["x........."] * (5 - clears)
    set_board(games, picture(*rest, *["xxxxxxxxx."] * clears))
    put(games, "I", "E", 7, 0)
    for name, value in fields.items():
        games.games[0][name] = value
    press(games, "hard")
    return games


CLEARS = [(1, 100), (2, 300), (3, 500), (4, 800)]


@pytest.mark.parametrize(("lines", "points"), CLEARS)
@pytest.mark.parametrize("done", [0, 9, 10, 95, 400])
def test_points_of_clears_times_the_level_before(
    lines: int, points: int, done: int
) -> None:
    games = drop_i(lines, lines=done)
    level = min(20, done // 10 + 1)
    assert games.games[0]["score"] == points * level
    assert games.games[0]["lines"] == done + lines
    assert games.levels()[0] == min(20, (done + lines) // 10 + 1)


@pytest.mark.parametrize(("lines", "points"), CLEARS)
def test_only_difficult_clears_score_half_again_back_to_back(
    lines: int, points: int
) -> None:
    games = drop_i(lines, is_back_to_back=1)
    assert games.games[0]["score"] == (points * 1.5 if lines == 4 else points)
    assert games.games[0]["is_back_to_back"] == (lines == 4)


@pytest.mark.parametrize(("combo", "points"), [(-1, 100), (0, 150), (3, 300)])
def test_combos_score_fifty_each(combo: int, points: int) -> None:
    assert drop_i(1, combo=combo).games[0]["score"] == points


def test_a_piece_that_clears_nothing_ends_the_combo_but_not_back_to_back() -> None:
    games = GuidelineGames(1, seed=0)
    games.games[0]["combo"], games.games[0]["is_back_to_back"] = 4, True
    press(games, "hard")
    assert games.games[0]["combo"] == -1
    assert games.games[0]["is_back_to_back"]


@pytest.mark.parametrize(
    ("name", "lines", "back_to_back", "points"),
    [
        ("I", 1, 0, 100 + 800),
        ("O", 2, 0, 300 + 1200),
        ("I", 4, 0, 800 + 2000),
        ("I", 4, 1, 1200 + 3200),
    ],
)
def test_an_all_clear_adds_its_points(
    name: str, lines: int, back_to_back: int, points: int
) -> None:
    games = GuidelineGames(1, seed=0)
    flat = name == "I" and lines == 1
    width = {"O": 2, "I": 4 if flat else 1}[name]
    set_board(games, picture(*["x" * (10 - width) + "." * width] * lines))
    facing, x, y = ("N", 6, -2) if flat else ("E", 7, 0)
    put(games, name, *(("N", 8, 0) if name == "O" else (facing, x, y)))
    games.games[0]["is_back_to_back"] = back_to_back
    press(games, "hard")
    assert games.games[0]["is_all_clear"]
    assert games.games[0]["score"] == points
    assert not board_of(games)


def test_an_all_clear_of_three_lines() -> None:
    games = GuidelineGames(1, seed=0)
    board = picture("xxxxxxxx..", "xxxxxxxxx.", "xxxxxxxxx.")
    set_board(games, board)
    put(games, "L", "W", 8, 0)
    press(games, "hard")
    assert games.games[0]["score"] == 500 + 1800


@pytest.mark.parametrize(
    ("spin", "lines", "points"),
    [
        (kernels.MINI_SPIN, 0, 100),
        (kernels.MINI_SPIN, 1, 200),
        (kernels.MINI_SPIN, 2, 400),
        (kernels.FULL_SPIN, 0, 400),
        (kernels.FULL_SPIN, 1, 800),
        (kernels.FULL_SPIN, 2, 1200),
        (kernels.FULL_SPIN, 3, 1600),
    ],
)
def test_the_published_points_of_t_spins(spin: int, lines: int, points: int) -> None:
    record = np.zeros(1, kernels.GAME)
    record["combo"] = -1
    assert kernels.reward_clear(record[0], lines, spin) == points
    assert record[0]["is_back_to_back"] == (lines > 0)
    if lines:
        record["combo"] = -1
        assert kernels.reward_clear(record[0], lines, spin) == points * 3 // 2


def test_an_all_clear_by_a_t_spin_back_to_back_scores_as_one_of_its_lines() -> None:
    record = np.zeros(1, kernels.GAME)
    record["combo"], record["is_back_to_back"], record["is_all_clear"] = -1, True, True
    points = kernels.reward_clear(record[0], 2, kernels.FULL_SPIN)
    assert points == 1200 * 1.5 + 1200


def test_soft_drop_scores_one_and_hard_drop_two_a_cell() -> None:
    games = GuidelineGames(1, seed=0, tick=0.001)
    put(games, "O", "N", 4, 10)
    press(games, "soft", "soft", "soft")
    assert games.games[0]["score"] == 3
    press(games, "hard")
    assert games.games[0]["score"] == 3 + 2 * 7
    assert games.games[0]["gained"] == 14


# Time

# Rows a frame, from tetris.wiki/Marathon.
SPEEDS = {
    1: 0.01667, 2: 0.021017, 3: 0.026977, 4: 0.035256, 5: 0.04693, 6: 0.06361,
    7: 0.0879, 8: 0.1236, 9: 0.1775, 10: 0.2598, 11: 0.388, 12: 0.59, 13: 0.92,
    14: 1.46, 15: 2.36, 16: 3.91, 17: 6.61, 18: 11.43,
}  # fmt: skip


@pytest.mark.parametrize("level", SPEEDS)
def test_gravity_follows_the_published_curve(level: int) -> None:
    games = GuidelineGames(1, 28, seed=0, tick=0.001, level=level)
    queue(games, "O")
    press(games, "hard")
    start, frames = position(games)[2], 0
    while position(games)[2] > start - 20:
        press(games, "none")
        frames += 1
    rows_a_frame = 20 / frames / 60 * 1000
    # A tick of a millisecond is up to a row at the highest levels.
    assert rows_a_frame == pytest.approx(SPEEDS[level], rel=0.01 if level < 14 else 0.2)


def test_a_second_is_sixty_sixtieths() -> None:
    games = GuidelineGames(1, seed=0, tick=1 / 60)
    start = position(games)[2]
    press(games, *["none"] * 59)
    assert position(games)[2] == start
    press(games, "none")
    assert position(games)[2] == start - 1


def on_floor(tick: float = 0.1) -> GuidelineGames:
    games = GuidelineGames(1, seed=0, tick=tick)
    put(games, "T", "N", 3, -1)
    return games


def test_a_resting_piece_locks_after_half_a_second() -> None:
    games = on_floor()
    press(games, *["none"] * 4)
    assert games.games[0]["pieces"] == 0
    press(games, "none")
    assert games.games[0]["pieces"] == 1


def test_moving_gives_a_resting_piece_its_time_anew() -> None:
    games = on_floor()
    press(games, *["none"] * 4, "left", *["none"] * 3)
    assert games.games[0]["pieces"] == 0
    press(games, "none")
    assert games.games[0]["pieces"] == 1


def test_a_key_that_is_blocked_gives_no_time() -> None:
    games = on_floor()
    put(games, "T", "N", 0, -1)
    press(games, *["left"] * 5)
    assert games.games[0]["pieces"] == 1


def test_fifteen_moves_lock_it_where_it_rests() -> None:
    games = on_floor()
    press(games, "none", *["left", "right"] * 7)
    assert games.games[0]["pieces"] == 0
    press(games, "left")
    assert games.games[0]["pieces"] == 1


def test_moves_in_the_air_after_the_fifteenth_do_not_start_over() -> None:
    games = on_floor(0.001)
    games.games[0]["moves"], games.games[0]["has_landed"] = 14, True
    games.games[0]["y"] = 3  # kicked up from the floor, say
    press(games, *["left", "right"] * 75)
    assert position(games)[2] == 3
    press(games, *["soft"] * 3)
    assert games.games[0]["pieces"] == 0
    press(games, "soft")
    assert games.games[0]["pieces"] == 1


def test_falling_below_its_lowest_row_gives_fifteen_moves_again() -> None:
    games = GuidelineGames(1, seed=0)
    set_board(games, picture(".......xxx"))
    put(games, "O", "N", 7, 1)
    press(games, "none", *["right", "left"] * 7)  # 14 moves on the step
    assert games.games[0]["moves"] == 14
    press(games, "left", "left")  # the first locks it unless it still rests
    assert games.games[0]["pieces"] == 1
    put(games, "O", "N", 7, 1)
    set_board(games, picture(".......xxx"))
    press(games, "none", *["right", "left"] * 6, "left", "left", "soft")
    assert position(games) == ("N", 5, 0)
    assert games.games[0]["moves"] == 0
    press(games, *["left", "right"] * 7)
    assert games.games[0]["pieces"] == 1


# Hold, previews, bags


def test_hold_swaps_once_a_piece() -> None:
    games = GuidelineGames(1, seed=3)
    first, *then = [games.games[0]["piece"], *games.previews(0)]
    press(games, "hold")
    assert games.games[0]["hold"] == first
    assert games.games[0]["piece"] == then[0]
    assert not games.games[0]["can_hold"]
    press(games, "hold")
    assert games.games[0]["piece"] == then[0]
    press(games, "hard", "hold")
    assert games.games[0]["hold"] == then[1]
    assert games.games[0]["piece"] == first
    assert games.previews(0) == then[2:] + games.previews(0)[-2:]


def test_the_held_piece_comes_back_as_it_spawns() -> None:
    games = GuidelineGames(1, seed=3)
    piece = PIECE_NAMES[games.games[0]["piece"]]
    press(games, "cw", "left", "hold", "hard", "hold")
    facing, x, y = Box(20, 10, {}).spawn(piece)
    assert position(games) == (facing, x, y - 1)


def test_without_hold_there_is_no_such_key() -> None:
    games = GuidelineGames(1, seed=0, hold=False)
    with pytest.raises(ValueError, match="key: 7; allowed: 0 to 6"):
        press(games, "hold")


@pytest.mark.parametrize("previews", range(7))
def test_previews_are_the_pieces_that_come(previews: int) -> None:
    games = GuidelineGames(1, 28, seed=5, previews=previews)
    shown = games.previews(0)
    assert len(shown) == previews
    for piece in shown:
        press(games, "hard")
        assert games.games[0]["piece"] == piece


def test_every_seven_pieces_are_a_bag() -> None:
    games = GuidelineGames(200, 28, 12, seed=0)
    drawn = []
    for _ in range(14):
        drawn.append(games.games["piece"].copy())
        set_board(games, {})
        for game in range(200):
            kernels.empty_field(games.games[game]["field"], games.rules)
        press(games, "hard")
    pieces = np.array(drawn).T.reshape(200, 2, 7)
    assert (np.sort(pieces, 2) == np.arange(1, 8)).all()
    # Every order is as likely: the first of 400 bags, by a generous chi-square.
    counts = np.bincount(pieces[:, :, 0].ravel(), minlength=8)[1:]
    assert ((counts - 400 / 7) ** 2 / (400 / 7)).sum() < 25


# The end


def test_a_piece_that_spawns_on_full_cells_ends_the_game() -> None:
    games = GuidelineGames(1, seed=0)
    set_board(games, {(4, 20): "O", (0, 0): "O"})
    put(games, "O", "N", 8, 0)
    queue(games, "T")
    press(games, "hard")
    assert games.over[0]
    assert games.games[0]["pieces"] == 1


def test_a_piece_that_locks_above_the_board_ends_the_game() -> None:
    games = GuidelineGames(1, seed=0)
    set_board(games, {(x, 19): "O" for x in range(3, 7)})
    put(games, "O", "N", 4, 20)
    press(games, "hard")
    assert games.over[0]
    assert games.games[0]["locked"] == PIECE_NAMES.index("O")


def test_a_piece_that_locks_partly_above_does_not() -> None:
    games = GuidelineGames(1, seed=0)
    set_board(games, {(0, 18): "O"})
    put(games, "O", "N", 0, 19)
    press(games, "hard")
    assert not games.over[0]
    assert (0, 20) in board_of(games)


def test_a_game_that_is_over_stays_until_begun() -> None:
    games = GuidelineGames(2, 4, 4, seed=0)
    while not games.over.all():
        press(games, "hard")
    state = games.get_state()
    press(games, "hard")
    assert np.array_equal(games.cells, state["cells"])
    games.begin(np.array([1]))
    assert games.over.tolist() == [True, False]
    assert not games.cells[1].any()
    assert games.games[1]["score"] == 0


# A whole game, against plain Python

sizes = st.tuples(st.integers(4, 28), st.integers(4, 12))


def same(games: GuidelineGames, reference: ReferenceGame) -> None:
    record = games.games[0]
    assert bool(record["over"]) == reference.over
    assert board_of(games) == reference.board
    for name, value in (
        ("score", reference.score),
        ("lines", reference.lines),
        ("pieces", reference.pieces),
        ("combo", reference.combo),
        ("is_back_to_back", reference.back_to_back),
    ):
        assert record[name] == value, name
    if not reference.over:
        assert PIECE_NAMES[record["piece"]] == reference.name
        assert position(games) == reference.position
        assert PIECE_NAMES[record["hold"]] == (reference.held or "")
        assert bool(record["can_hold"]) != reference.hold_used


def follow(
    seed: int, size: tuple[int, int], level: int, tick: Fraction, randomizer: str
) -> None:
    """Press random keys, and compare all that is left of a game after each."""
    n = 400
    games = GuidelineGames(
        1, *size, seed=seed, level=level, tick=float(tick), randomizer=randomizer
    )
    reference = ReferenceGame(*size, order_of(games, n + 2), tick, level)
    same(games, reference)
    rng = np.random.default_rng(seed)
    # From games that only drop to games that never do.
    weights = rng.dirichlet(np.full(8, 0.7))
    for number in rng.choice(8, n, p=weights):
        press(games, KEYS[number])
        reference.press(KEYS[number])
        same(games, reference)


played_games = given(
    seed=st.integers(0, 2**32),
    size=sizes | st.tuples(st.integers(8, 20), st.just(4)),
    level=st.sampled_from([1, 1, 5, 12, 20]),
    tick=st.sampled_from([Fraction(1, 10), Fraction(1, 1), Fraction(1, 4)]),
    randomizer=st.sampled_from(["bag", "uniform"]),
)


@settings(max_examples=120, deadline=None)
@played_games
def test_games_equal_the_reference(
    seed: int, size: tuple[int, int], level: int, tick: Fraction, randomizer: str
) -> None:
    follow(seed, size, level, tick, randomizer)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@settings(max_examples=3_000, deadline=None)
@played_games
def test_thousands_of_games_equal_the_reference(
    seed: int, size: tuple[int, int], level: int, tick: Fraction, randomizer: str
) -> None:
    follow(seed, size, level, tick, randomizer)


def cost(box: Box, cells: list[tuple[int, int]], turned: bool) -> float:
    """What stacks neatly is cheap, and what ends in a turn into something."""
    board = box.board | dict.fromkeys(cells, "O")
    rows = [y for y in range(box.rows + 4) if (0, y) in board]
    full = {y for y in rows if all((x, y) in board for x in range(box.columns))}
    left = [(x, y - sum(f < y for f in full)) for x, y in board if y not in full]
    tops = {x: max((y + 1 for i, y in left if i == x), default=0) for x in range(12)}
    holes = sum(tops.values()) - len(left)
    steps = sum(abs(tops[x] - tops[x + 1]) for x in range(box.columns - 1))
    return 4 * holes + steps + sum(tops.values()) - 3 * turned - 5 * len(full) ** 2


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 100_000), columns=st.integers(4, 8))
def test_games_that_are_played_well_equal_the_reference(
    seed: int, columns: int
) -> None:
    """Lines, combos and spins, which random keys seldom make."""
    games = GuidelineGames(1, 12, columns, seed=seed, tick=0.001)
    order = order_of(games, 60)
    reference = ReferenceGame(12, columns, order, Fraction(1, 1000))
    rng = np.random.default_rng(seed)
    while len(order) > 2 and not reference.over:
        paths = reference.paths(reference.name, reference.position)
        some = [list(paths)[i] for i in rng.permutation(len(paths))[:12]]
        turns = {one: (paths[one] or [""])[-1] in ("cw", "ccw") for one in some}
        best = min(
            some,
            key=lambda one: cost(reference, cells_at(reference.name, one), turns[one]),
        )
        for name in [*paths[best], "hard"]:
            press(games, name)
            reference.press(name)
            same(games, reference)


def order_of(games: GuidelineGames, n: int) -> list[str]:
    """The pieces that a game will bring."""
    record, randomizer = games.get_state()["games"][0], games.rules.randomizer
    order = [PIECE_NAMES[record["piece"]]]
    while len(order) < n:
        kernels.next_piece(
            record["queue"], record["position"], record["rng"], 0, randomizer
        )
        order.append(PIECE_NAMES[record["queue"][0, record["position"][0]]])
    return order


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), size=sizes, n=st.integers(1, 4))
def test_what_always_holds(seed: int, size: tuple[int, int], n: int) -> None:
    games = GuidelineGames(n, *size, seed=seed)
    rng = np.random.default_rng(seed)
    for _ in range(120):
        before = games.games["score"].copy()
        games.step(rng.integers(0, 8, n))
        for game in range(n):
            record, view = games.games[game], games.view(game)
            full = int((games.cells[game] > 0).sum())
            assert full == 4 * record["pieces"] - games.n_columns * record["lines"]
            assert record["gained"] == record["score"] - before[game]
            if view.over:
                continue
            assert all(view.board[cell] == 0 for cell in view.piece + view.ghost)
            lowest = dict(view.ghost) and max(row for row, _ in view.ghost)
            assert not view.piece or lowest >= max(row for row, _ in view.piece)
            columns = {column for _, column in view.ghost}
            assert {column for _, column in view.piece} <= columns
        ended = np.flatnonzero(games.over)
        games.begin(ended)
        games.set_state(games.get_state())  # what is played is a state


def test_masked_keys_are_those_that_do_something() -> None:
    games = GuidelineGames(1, 8, 5, seed=2, tick=0.001)
    rng = np.random.default_rng(0)
    for _ in range(300):
        mask = games.mask_keys()[0]
        state = games.get_state()
        results = []
        for number in range(8):
            games.step(np.array([number]))
            results.append(games.get_state()["games"])
            games.set_state(state)
        assert mask[0]
        for number in range(1, 8):
            assert mask[number] == (results[number] != results[0])
        games.step(rng.integers(0, 8, 1))
        games.begin(np.flatnonzero(games.over))


# Determinism, state


def play(games: GuidelineGames, steps: int, seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        games.step(rng.integers(0, 8, len(games)))
        games.begin(np.flatnonzero(games.over))


def test_the_same_seed_gives_the_same_games() -> None:
    one, two = (GuidelineGames(4, seed=7) for _ in range(2))
    play(one, 300)
    play(two, 300)
    assert np.array_equal(one.games, two.games)
    assert np.array_equal(one.cells, two.cells)
    other = GuidelineGames(4, seed=8)
    assert np.array_equal(
        other.games["queue"][0], GuidelineGames(2, seed=7).games["queue"][1]
    )


def test_a_state_goes_on_bit_for_bit() -> None:
    games = GuidelineGames(3, seed=1)
    play(games, 100)
    state = games.get_state()
    play(games, 300, seed=5)
    other = GuidelineGames(3, seed=99)
    other.set_state(state)
    play(other, 300, seed=5)
    assert np.array_equal(games.games, other.games)
    assert np.array_equal(games.cells, other.cells)


def test_the_state_of_one_game() -> None:
    games = GuidelineGames(3, seed=1)
    play(games, 50)
    other = GuidelineGames(2, seed=5)
    untouched = other.get_state(0)
    other.set_state(games.get_state(2), 1)
    assert np.array_equal(other.games[1], games.games[2])
    assert np.array_equal(other.games[0], untouched["games"][0])


def test_what_is_no_state_is_refused_and_changes_nothing() -> None:
    games = GuidelineGames(1, seed=1)
    play(games, 30)
    kept = games.get_state()

    def wrong(over: bool = False, **values: int) -> dict[str, np.ndarray]:
        state = games.get_state()
        state["games"]["over"] = over
        for name, value in values.items():
            state["games"][name] = value
        return state

    moved = games.get_state()
    moved["cells"][0, -1] = 1 - (moved["cells"][0, -1] > 0)
    full = games.get_state()
    full["cells"][0, 30] = 1
    full["games"]["field"][0, WALL : WALL + 10] |= 1 << (40 - 1 - 30 + FLOOR)
    cases = [
        ({}, "hold: is missing from the state"),
        (None, "state: NoneType; allowed: a mapping of arrays"),
        ({**kept, "seed": kept["hold"]}, "seed: no such field; allowed: hold, "),
        ({**kept, "cells": kept["cells"].astype(int)}, "cells: type int64; allowed"),
        ({**kept, "cells": kept["cells"] + 9}, "cells: .*; allowed: 0 to 8"),
        (GuidelineGames(1, 10).get_state(), r"shape \(1, 30, 10\); allowed"),
        (GuidelineGames(1, hold=False).get_state(), "hold: 0; allowed: 1"),
        (GuidelineGames(1, level=2).get_state(), "level: 2; allowed: 1"),
        (GuidelineGames(1, tick=0.2).get_state(), "tick: 200000000; allowed: 1000"),
        (
            GuidelineGames(1, randomizer="uniform").get_state(),
            "randomizer: 1; allowed: 0",
        ),
        (wrong(piece=8), "piece 8; allowed: 1 to 7"),
        (wrong(x=9), "x 9; allowed: -2 to 8"),
        (wrong(x=100, over=True), "x 100; allowed: -2 to 8"),
        (wrong(y=-3, over=True), "y -3; allowed: -2 to 39"),
        (wrong(y=-1, facing=1), "its piece is on full cells"),
        (wrong(locked=9), "locked 9; allowed: 0 to 7"),
        (wrong(locked_facing=4), "locked_facing 4; allowed: 0 to 3"),
        (wrong(rng=0), "rng 0; allowed"),
        (moved, "game 0: field and cells disagree"),
        (full, "game 0: a row is full"),
    ]
    for state, message in cases:
        with pytest.raises(ValueError, match=message):
            games.set_state(state)
        assert np.array_equal(games.games, kept["games"])
        assert np.array_equal(games.cells, kept["cells"])
    for game in (1, -1):
        with pytest.raises(ValueError, match=f"game: {game}; allowed: 0 to 0"):
            games.set_state(kept, game)


def test_a_game_that_is_over_is_a_state_and_stays_inside_its_arrays() -> None:
    """Blocked out and locked out, at either side of the widest board."""
    for seed in range(40):
        games = GuidelineGames(1, 4, 12, seed=seed)
        rng = np.random.default_rng(seed)
        while not games.over[0]:
            games.step(rng.choice([1, 1, 2, 4, 5, 6], 1))
        games.set_state(games.get_state())
        assert games.mask_keys().shape == (1, 8)
        assert games.mask_placements().shape == (1, games.n_placements)


@pytest.mark.parametrize("randomizer", ["bag", "uniform"])
@pytest.mark.parametrize("piece", [None, "I", "L"])
def test_a_game_begins_on_a_board(randomizer: str, piece: str | None) -> None:
    options: dict[str, Any] = {"randomizer": randomizer, "level": 3, "tick": 1 / 60}
    games = GuidelineGames(2, 6, 5, seed=3, **options)
    play(games, 30)
    before = games.get_state()
    board = np.zeros((6, 5), int)
    board[5, :4], board[4, 0] = [1, 2, 8, 4], 7
    state = games.state_from_board(board, piece)
    assert np.array_equal(games.games, before["games"])  # nothing was drawn
    one = GuidelineGames(1, 6, 5, seed=9, **options)
    one.set_state(state)
    view = one.view(0)
    assert np.array_equal(view.board, board)
    assert (view.score, view.lines, view.hold, view.level) == (0, 0, 0, 3)
    if piece is not None:
        assert PIECE_NAMES[view.kind] == piece
    if randomizer == "bag":
        coming = [view.kind, *one.previews(0)]
        assert len(set(coming)) == len(coming)
    assert one.mask_placements().any()
    one.set_state(games.state_from_board(board > 0, "I"))
    press(one, "cw", "right", "right", "hard")
    assert one.games[0]["cleared"] == 1
    assert one.view(0).board[-1].tolist() == [8, 0, 0, 0, 1]


def test_a_board_that_no_game_can_begin_on_is_refused() -> None:
    games = GuidelineGames(1, 6, 5, seed=0)
    for board, piece, message in (
        (np.zeros((26, 5), int), None, r"board: shape \(26, 5\); allowed: \(6, 5\)"),
        (np.zeros((6, 5), int), "X", "piece: 'X'; allowed: I, O, T, S, Z, J, L"),
        (np.full((6, 5), 1), "T", "board: row 0 is full"),
    ):
        with pytest.raises(ValueError, match=message):
            games.state_from_board(board, piece)
    # Pieces come in above the board, so that there is always room for one.
    nearly = np.full((6, 5), 8)
    nearly[:, 0] = 0
    games.set_state(games.state_from_board(nearly, "I"))
    assert not games.over[0]


@pytest.mark.parametrize("actions", [[1.9], [True], [None], ["1"], [], [[1]]])
def test_what_is_no_action_is_refused_and_changes_nothing(actions: Any) -> None:
    games = GuidelineGames(1, seed=1)
    before = games.get_state()
    for move, name in ((games.step, "key"), (games.place, "placement")):
        with pytest.raises(ValueError, match=f"{name}s?: .*; allowed: "):
            move(actions)
    assert np.array_equal(games.games, before["games"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rows": 3}, "rows: 3; allowed: 4 to 28"),
        ({"columns": 13}, "columns: 13; allowed: 4 to 12"),
        ({"previews": 7}, "previews: 7; allowed: 0 to 6"),
        ({"tick": 0.0}, "tick: 0.0; allowed: 0.001 to 1.0 s"),
        ({"tick": float("nan")}, "tick: nan; allowed"),
        ({"level": 21}, "level: 21; allowed: 1 to 20"),
        ({"randomizer": "fair"}, "randomizer: 'fair'; allowed: bag, uniform"),
        ({"randomizer": []}, r"randomizer: \[\]; allowed: bag, uniform"),
        ({"tick": "0.1"}, "tick: '0.1'; allowed: 0.001 to 1.0 s"),
        ({"tick": None}, "tick: None; allowed"),
        ({"hold": "no"}, "hold: 'no'; allowed: True, False"),
        ({"hold": None}, "hold: None; allowed: True, False"),
        ({"seed": 1.5}, "seed: 1.5; allowed: a whole number"),
        ({"seed": -1}, "seed: -1; allowed: 0 to"),
    ],
)
def test_bad_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GuidelineGames(1, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int64])
def test_numbers_of_numpys_are_taken_for_what_they_are(kind: Any) -> None:
    games = GuidelineGames(
        kind(2),
        kind(20),
        kind(10),
        previews=kind(6),
        hold=np.bool_(True),
        tick=0.5,
        level=kind(3),
        seed=7,
    )
    other = GuidelineGames(2, previews=6, tick=0.5, level=3, seed=7)
    assert games.rules == other.rules
    assert games.n_placements == other.n_placements == 841
    assert games.observation_size == other.observation_size
    assert {type(size) for size in (games.rows, games.n_columns, games.level)} == {int}
    play(games, 200)
    play(other, 200)
    assert np.array_equal(games.games, other.games)
    games.seed(kind(9))
    other.seed(9)
    np.testing.assert_equal(games.get_state(kind(1)), other.get_state(1))
    assert (
        GuidelineGames(1, tick=np.float16(0.5)).rules
        == GuidelineGames(1, tick=0.5).rules
    )
    for wrong in (-1, 2, 0.5):
        with pytest.raises(ValueError, match=f"game: {wrong}; allowed"):
            games.get_state(wrong)  # type: ignore[arg-type]


# Placements in reach


def random_board(seed: int, rows: int, columns: int) -> Board:
    """Ragged stacks with overhangs and holes; the top rows stay empty."""
    rng = np.random.default_rng(seed)
    height = int(rng.integers(0, rows))
    density = rng.uniform(0.2, 0.8)
    full = rng.random((height, columns)) < density
    full[full.all(1), 0] = False
    return {(int(x), int(y)): "O" for y, x in np.argwhere(full)}


def cells_of_placement(name: str, rotation: int, row: int, column: int) -> frozenset:
    drawn = cells(PIECE_NAMES.index(name), rotation)
    height = max(i for i, _ in drawn)
    return frozenset((column + j, row + height - i) for i, j in drawn)


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 100_000), size=sizes, name=st.sampled_from(NAMES))
def test_placements_in_reach_equal_a_brute_force_search(
    seed: int, size: tuple[int, int], name: str
) -> None:
    rows, columns = size
    games = GuidelineGames(1, rows, columns, seed=0)
    board = random_board(seed, rows, columns)
    set_board(games, board)
    box = Box(rows, columns, board)
    start = box.spawn(name)
    put(games, name, *start)
    mine = {
        cells_of_placement(name, *placement)
        for placement in games.reachable(0).tolist()
    }
    found = box.reachable(name, start)
    assert mine == {one for one in found if min(y for _, y in one) <= rows}


def test_a_placement_locks_its_cells() -> None:
    for seed in range(60):
        games = GuidelineGames(1, 12, 7, seed=seed)
        set_board(games, random_board(seed, 10, 7))
        name = PIECE_NAMES[games.games[0]["piece"]]
        state = games.get_state()
        legal = np.flatnonzero(games.mask_placements()[0])
        for action in legal[:-1]:
            games.set_state(state)
            place, row = divmod(int(action), games.rows + 1)
            rotation, column = divmod(place, games.n_columns)
            games.place(np.array([action]))
            record = games.games[0]
            where = (
                FACINGS[record["locked_facing"]],
                record["locked_x"],
                record["locked_y"],
            )
            expected = cells_of_placement(name, rotation, row, column)
            assert set(cells_at(name, where)) == expected


def test_a_placement_out_of_reach_stands_for_the_next_in_reach() -> None:
    one, two = (GuidelineGames(1, seed=4) for _ in range(2))
    legal = np.flatnonzero(one.mask_placements()[0])
    one.place(np.array([legal[3] + 1]))
    two.place(np.array([legal[4]]))
    assert np.array_equal(one.cells, two.cells)
    with pytest.raises(ValueError, match="placement: 841; allowed: 0 to 840"):
        one.place(np.array([841]))


def test_a_placement_that_a_turn_can_end_in_is_a_t_spin() -> None:
    games = GuidelineGames(1, seed=0)
    set_board(games, {**SLOT, (3, 2): "O"})
    put(games, "T", "N", 3, 19)
    mask = games.mask_placements()[0]
    action = (2 * 10 + 3) * 21 + 0  # pointing down, at column 3, on the floor
    assert mask[action]
    games.place(np.array([action]))
    assert games.games[0]["spin"] == kernels.FULL_SPIN
    assert games.games[0]["score"] == 1200


def test_a_placement_that_the_fifth_kick_can_end_in_is_a_full_spin() -> None:
    games = GuidelineGames(1, seed=0)
    set_board(games, {cell: "O" for cell in TRIPLE if cell != (2, 0)})
    put(games, "T", "N", 3, 19)
    games.place(np.array([(3 * 10 + 2) * 21 + 0]))  # pointing left, at column 2
    assert games.games[0]["locked_facing"] == FACINGS.index("W")
    assert games.games[0]["spin"] == kernels.FULL_SPIN
    assert games.games[0]["cleared"] == 2


def test_hold_is_the_last_placement() -> None:
    games = GuidelineGames(1, seed=4)
    piece = games.games[0]["piece"]
    assert games.mask_placements()[0, -1]
    games.place(np.array([games.n_placements - 1]))
    assert games.games[0]["hold"] == piece
    assert games.games[0]["pieces"] == 0
    assert not games.mask_placements()[0, -1]


def test_all_pictures_have_four_cells() -> None:
    assert all(len(shape(name, f)) == 4 for name in PICTURES for f in FACINGS)
