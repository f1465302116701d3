"""Files are written in order, on another thread, and what goes wrong is raised."""

from __future__ import annotations

import threading

import pytest

from tetris_widget.training.writer import Writer

pytestmark = pytest.mark.timeout(30)


def test_jobs_are_done_in_order_on_another_thread() -> None:
    writer, done, threads = Writer(), list[int](), set[int]()

    def job(number: int) -> None:
        done.append(number)
        threads.add(threading.get_ident())

    for number in range(50):
        writer.put(lambda number=number: job(number))
    writer.flush()
    assert done == list(range(50))
    assert threading.get_ident() not in threads


def test_putting_waits_for_nothing() -> None:
    writer, may_go_on, waited = Writer(), threading.Event(), list[bool]()
    writer.put(lambda: waited.append(may_go_on.wait(10)))
    may_go_on.set()
    writer.flush()
    assert waited == [True]


def test_a_mistake_is_raised_once_and_the_rest_is_done() -> None:
    writer, done = Writer(), list[int]()

    def fail() -> None:
        raise RuntimeError("no such job")

    writer.put(fail)
    writer.put(lambda: done.append(1))
    with pytest.raises(RuntimeError, match="no such job"):
        writer.flush()
    assert done == [1]
    writer.flush()
