"""Boards as cells and as columns, and what is no board."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tetris_widget.game.boards import (
    cells_from,
    cells_of_columns,
    check_rows,
    columns_of,
    put_first,
)

CELLS = np.array([[0, 0, 0], [0, 3, 0], [1, 8, 0]], np.uint8)


def test_columns_have_the_floor_in_bit_0() -> None:
    assert columns_of(CELLS).tolist() == [0b001, 0b011, 0]
    assert columns_of(CELLS).dtype == np.int32
    back = cells_of_columns(columns_of(CELLS), 3)
    assert back.tolist() == [[0, 0, 0], [0, 8, 0], [8, 8, 0]]


def test_the_highest_row_of_28_fits() -> None:
    cells = np.zeros((28, 12), np.uint8)
    cells[0, :11] = 1
    columns = columns_of(cells)
    assert columns.tolist() == [2**27] * 11 + [0]
    assert np.array_equal(cells_of_columns(columns, 28) > 0, cells > 0)
    check_rows(columns[None], 28)


@pytest.mark.parametrize("given", [CELLS, CELLS.tolist(), CELLS.astype(np.int64)])
def test_a_board_is_anything_of_its_shape(given: Any) -> None:
    cells = cells_from(given, (3, 3))
    assert cells.dtype == np.uint8
    assert np.array_equal(cells, CELLS)
    assert cells is not given


def test_of_bools_it_is_not_known_which_piece_they_came_from() -> None:
    assert cells_from(CELLS > 0, (3, 3)).max() == 8
    assert np.array_equal(cells_from(CELLS > 0, (3, 3)) > 0, CELLS > 0)


@pytest.mark.parametrize(
    ("board", "message"),
    [
        (None, r"board: shape \(\); allowed: \(3, 3\)"),
        (np.zeros((3, 4), int), r"board: shape \(3, 4\); allowed: \(3, 3\)"),
        (np.zeros((3, 3)), "board: type float64; allowed: integers or bools"),
        ([["a"] * 3] * 3, "board: type <U1; allowed"),
        (CELLS * 2, "board: 16; allowed: 0 to 8"),
        (CELLS.astype(int) - 1, "board: -1; allowed: 0 to 8"),
        ([[0, 0, 0], [1, 1, 1], [0, 0, 0]], "board: row 1 is full; allowed: rows with"),
    ],
)
def test_what_is_no_board_is_refused(board: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cells_from(board, (3, 3))


def test_full_rows_are_found() -> None:
    columns = np.array([[1, 1, 0], [0b110, 0b110, 0b011]], np.int32)
    with pytest.raises(ValueError, match="columns: row 2 of game 1 is full"):
        check_rows(columns, 4)


def test_a_piece_is_brought_to_the_front() -> None:
    bag = np.array([2, 3, 1, 4, 5, 6, 7, 7, 6, 5, 4, 3, 2, 1], np.int8)
    put_first(bag, "I", is_bag=True)
    assert bag.tolist() == [1, 3, 2, 4, 5, 6, 7, 7, 6, 5, 4, 3, 2, 1]
    uniform = np.array([2, 2, 2], np.int8)
    put_first(uniform, "L", is_bag=False)
    assert uniform.tolist() == [7, 2, 2]
    for name in ("", "X", 1, None):
        with pytest.raises(ValueError, match="allowed: I, O, T, S, Z, J, L"):
            put_first(bag, name, is_bag=True)
