"""What kernels ask of the machine, against what Python says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit
from numba.core.errors import TypingError

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

words = st.integers(-(2**63), 2**63 - 1)
N_VALUES = 5


@njit
def ask(one: int, other: int) -> tuple[int, int, int, int]:
    return popcount(one), leading_zeros(one), larger(one, other), smaller(one, other)


@settings(deadline=None)
@given(words, words)
def test_bits_are_counted_and_numbers_compared(one: int, other: int) -> None:
    bits = one % 2**64
    expected = bits.bit_count(), 64 - bits.bit_length(), max(one, other)
    assert ask(one, other) == (*expected, min(one, other))


@njit
def write_through(out: np.ndarray, start: int) -> int:
    words = words_of(out)
    first = words[0]
    fetch(values_of(out), start)  # to be noticed by nothing but a clock
    put_word(values_of(out), start, np.uint64(0x0807060504030201))
    return first


def test_bytes_are_read_and_written_as_words_from_any_place_on() -> None:
    out = np.arange(40, dtype=np.uint8).reshape(5, 8)
    first = out.view("<u4")[0, 0]
    expected = out.ravel().copy()
    expected[13:21] = range(1, 9)
    assert write_through(out, 13) == first
    assert out.ravel().tolist() == expected.tolist()


def test_values_that_do_not_follow_one_another_are_refused() -> None:
    with pytest.raises(TypingError, match="is not contiguous"):
        write_through(np.zeros((5, 8), np.uint8)[:, :4], 0)


@njit
def sum_of_rooms(start: float) -> tuple[float, int]:
    """Fill two rooms, in each round anew, and add up what is in them."""
    total, count = 0.0, 0
    for _ in range(1_000):
        numbers, counts = room(np.float32, N_VALUES), room(np.int64, N_VALUES)
        for i in range(N_VALUES):
            numbers[i] = start + i
            counts[i] = i
        for i in range(N_VALUES):
            total += numbers[i]
            count += counts[i]
    return total, count


def test_each_room_has_its_own_values_however_often_it_is_asked_for() -> None:
    assert sum_of_rooms(0.5) == (12_500.0, 10_000)


@njit
def room_for(size: int) -> int:
    found = room(np.int64, size)
    found[0] = size
    return found[0]


def test_room_has_a_constant_size() -> None:
    with pytest.raises(TypingError, match="room"):
        room_for(3)
