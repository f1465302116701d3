"""The way out of the training process: disk first, lossless, never blocking."""

from __future__ import annotations

import multiprocessing
import queue
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tetris_widget.config import TrainingConfig
from tetris_widget.ipc import BatchQueue
from tetris_widget.run_directory import RunDirectory
from tetris_widget.training.journal import Journal
from tetris_widget.training.outbox import FLUSH_SECONDS, MAX_WAITING, Outbox

pytestmark = pytest.mark.timeout(60)


def episode(number: int) -> dict[str, Any]:
    return {
        "type": "episode",
        "episode": number,
        "env": 0,
        "reward": 1.0,
        "lines": 2,
        "length": 3,
        "timesteps": number,
        "elapsed": 0.1,
    }


@pytest.fixture
def messages() -> BatchQueue:
    return BatchQueue(multiprocessing.get_context("spawn"), maxsize=8)


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory.create(TrainingConfig(run_dir=str(tmp_path)))


@pytest.fixture
def outbox(messages: BatchQueue, run: RunDirectory) -> Iterator[Outbox]:
    made = Outbox(messages, "run-1", Journal(run, pytest.fail))
    yield made
    made.close(0.1)


def receive(messages: BatchQueue, count: int) -> list[dict[str, Any]]:
    return [messages.get(timeout=10) for _ in range(count)]


def test_everything_arrives_in_order_with_the_run_id(
    outbox: Outbox, messages: BatchQueue
) -> None:
    for number in range(500):
        outbox.put(episode(number))
    seen = receive(messages, 500)
    assert [message["episode"] for message in seen] == list(range(500))
    assert {message["run_id"] for message in seen} == {"run-1"}


def test_many_at_once_need_not_be_looked_up_on_disk(
    outbox: Outbox, messages: BatchQueue
) -> None:
    count = int(1.6 * MAX_WAITING)
    seen: list[dict[str, Any]] = []
    reader = Thread(target=lambda: seen.extend(receive(messages, count)), daemon=True)
    reader.start()
    for number in range(1, count + 1):
        outbox.put(episode(number))
        if number % (MAX_WAITING // 5) == 0:
            time.sleep(FLUSH_SECONDS / 4)
    reader.join(20)
    assert [message["episode"] for message in seen] == list(range(1, count + 1))


def test_it_is_on_disk_before_anybody_hears_of_it(
    outbox: Outbox, messages: BatchQueue, run: RunDirectory
) -> None:
    outbox.put(episode(1))
    receive(messages, 1)
    assert run.episodes()["episode"].tolist() == [1]


def test_what_is_to_be_kept_is_on_disk_at_once(
    outbox: Outbox, run: RunDirectory
) -> None:
    for number in range(1, 200):
        outbox.put(episode(number))
        outbox.keep()
        assert next(run._episodes_backwards())["episode"] == number


def test_what_is_kept_does_not_wait_for_a_reader(
    outbox: Outbox, run: RunDirectory
) -> None:
    with outbox._turn:  # as long as a reader takes nothing
        outbox.put(episode(1))
        outbox.keep()
        assert len(run.episodes()) == 1


def test_what_cannot_be_told_does_not_end_the_training(
    outbox: Outbox,
    run: RunDirectory,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def fail(_: Any) -> None:
        raise ValueError("what is this?")

    with monkeypatch.context() as broken:
        broken.setattr(outbox.journal, "write", fail)
        outbox.put({"type": "info", "text": "x"})
        outbox.keep()
    outbox.put(episode(1))
    outbox.keep()
    assert len(run.episodes()) == 1
    assert "what is this?" in capfd.readouterr().err


def test_a_slow_disk_does_not_slow_the_training_down(
    messages: BatchQueue, run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(run, pytest.fail)
    write = journal.write

    def write_slowly(*arguments: Any) -> None:
        time.sleep(0.05)
        write(*arguments)

    monkeypatch.setattr(journal, "write", write_slowly)
    outbox = Outbox(messages, "run-1", journal)
    before = time.monotonic()
    for number in range(1, 201):
        outbox.put(episode(number))
        outbox.keep()
    assert time.monotonic() - before < 5  # all at once would take 10 s
    outbox.sync()
    assert len(run.episodes()) == 200
    outbox.close(0.1)


def test_a_state_does_not_wait_for_the_next_flush(
    outbox: Outbox, messages: BatchQueue
) -> None:
    before = time.monotonic()
    for _ in range(10):
        outbox.put({"type": "status", "state": "paused"})
        receive(messages, 1)
    assert time.monotonic() - before < 0.4  # ten flushes would take 1 s


def test_only_the_last_metrics_of_a_flush_are_sent(
    messages: BatchQueue, run: RunDirectory
) -> None:
    outbox = Outbox(messages, "run-1", None)
    with outbox._turn:  # so that they all fall into one flush
        for number in range(100):
            outbox.put({"type": "metrics", "timesteps": number})
    assert receive(messages, 1)[0]["timesteps"] == 99
    outbox.close(0.1)


@pytest.mark.parametrize("text", ["x" * 100_000, "错" * 2_000, "half a pair: \ud800"])
def test_no_text_ends_the_reporting(
    text: str, outbox: Outbox, messages: BatchQueue, run: RunDirectory
) -> None:
    outbox.put({"type": "error", "text": text, "traceback": text})
    outbox.put(episode(1))
    told, counted = receive(messages, 2)
    assert told["text"][:10] == text.encode(errors="backslashreplace").decode()[:10]
    assert counted["episode"] == 1
    assert [entry["type"] for entry in run.journal()] == ["error"]


def test_a_message_that_is_too_large_is_left_out(
    outbox: Outbox, messages: BatchQueue, capfd: pytest.CaptureFixture[str]
) -> None:
    outbox.put({"type": "board", "frames": [{"cells": bytes(10_000)}]})
    outbox.put(episode(1))
    assert receive(messages, 1)[0]["episode"] == 1
    assert "not sent: a 'board' message of" in capfd.readouterr().err


def test_nobody_reading_costs_no_episode_on_disk_and_no_memory(
    outbox: Outbox, messages: BatchQueue, run: RunDirectory
) -> None:
    count = 40_000
    before = time.monotonic()
    for number in range(count):
        outbox.put(episode(number))
    assert time.monotonic() - before < 5  # it never waited for a reader
    deadline = time.monotonic() + 20
    while run.last_seq() < count:  # who reads all may see half a line
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert len(run.episodes()) == count
    assert len(outbox._waiting) <= MAX_WAITING


def test_sync_puts_on_disk_what_was_taken_though_nobody_reads(
    outbox: Outbox, run: RunDirectory
) -> None:
    for number in range(5_000):
        outbox.put(episode(number))
    before = time.monotonic()
    outbox.sync()
    assert time.monotonic() - before < 2
    assert len(run.episodes()) == 5_000


def test_sync_tells_what_the_disk_refused(
    messages: BatchQueue, run: RunDirectory
) -> None:
    outbox = Outbox(messages, "run-1", Journal(run, lambda _: None))
    run.monitor_file.mkdir()  # in the way of the file
    outbox.put(episode(1))
    with pytest.raises(OSError, match="cannot be written"):
        outbox.sync()
    run.monitor_file.rmdir()
    outbox.put(episode(2))
    outbox.sync()
    assert run.episodes()["episode"].tolist() == [1, 2]
    outbox.close(0.1)


def test_close_hands_over_what_is_left(messages: BatchQueue, run: RunDirectory) -> None:
    outbox = Outbox(messages, "run-1", None)
    for number in range(50):
        outbox.put(episode(number))
    outbox.close(5)
    assert len(receive(messages, 50)) == 50
    with pytest.raises(queue.Empty):
        messages.get(timeout=0.05)


def test_the_last_message_is_heard_when_all_is_on_disk(
    messages: BatchQueue, run: RunDirectory
) -> None:
    outbox = Outbox(messages, "run-1", Journal(run, pytest.fail))
    outbox.put(episode(1))
    seen: list[Any] = []

    def on_disk() -> None:
        seen.append([entry["state"] for entry in run.journal()])
        seen.append(messages.empty())

    receive(messages, 1)
    outbox.close(5, {"type": "status", "state": "stopped"}, on_disk)
    assert seen == [["stopped"], True]
    assert receive(messages, 1)[0]["state"] == "stopped"
