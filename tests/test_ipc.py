"""Events and queues survive the death of either side."""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tetris_widget.ipc import (
    MAX_MESSAGE_BYTES,
    BatchQueue,
    MessageTooLargeError,
    SharedEvent,
    pack,
)

pytestmark = pytest.mark.timeout(60)
# What a pipe takes on Linux.
PIPE_BYTES = 65_536
CONTEXT = multiprocessing.get_context("spawn")


def wait_on(event: SharedEvent, ready: SharedEvent) -> None:
    ready.set()
    event.wait()


def poll(event: SharedEvent, ready: SharedEvent) -> None:
    ready.set()
    while not event.is_set():
        pass


def flood(messages: BatchQueue, ready: SharedEvent) -> None:
    number = 0
    while True:
        messages.put([{"number": number, "filler": "x" * 3_000}])
        number += 1
        if number == 8:
            ready.set()


def start(target: Callable[..., None], *arguments: Any) -> Any:
    process = CONTEXT.Process(target=target, args=arguments, daemon=True)
    process.start()
    return process


def live(messages: BatchQueue, ready: SharedEvent) -> None:
    messages.pulse.beat("update")
    with messages.pulse.during("saving"):
        ready.wait()
    while True:
        messages.pulse.beat()
        time.sleep(0.01)


def test_a_pulse_is_seen_from_outside_and_stops_with_its_process() -> None:
    def wait_for(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.001)

    messages, ready = BatchQueue(CONTEXT), SharedEvent(CONTEXT)
    pulse = messages.pulse
    assert pulse.phase == "starting"
    process = start(live, messages, ready)
    wait_for(lambda: pulse.phase == "saving")
    ready.set()
    wait_for(lambda: pulse.phase == "update")
    os.kill(process.pid, signal.SIGSTOP)
    wait_for(lambda: pulse.silence > 0.3)
    os.kill(process.pid, signal.SIGCONT)
    wait_for(lambda: pulse.silence < 0.1)
    process.kill()
    process.join()
    wait_for(lambda: pulse.silence > 0.3)


TRACKER = """
import os
from multiprocessing import get_context, resource_tracker
from tetris_widget.ipc import BatchQueue, start_resource_tracker
start_resource_tracker()
pid = resource_tracker._resource_tracker._pid
start_resource_tracker()
messages = BatchQueue(get_context("spawn"))
assert resource_tracker._resource_tracker._pid == pid
assert os.getpgid(pid) == pid != os.getpgrp()
print(pid)
"""


@pytest.mark.skipif(os.name == "nt", reason="there is no tracker, and no group")
def test_the_resource_tracker_is_not_in_the_kernels_group_and_ends_with_it() -> None:
    told = subprocess.run(
        [sys.executable, "-c", TRACKER], capture_output=True, text=True, check=True
    )
    assert told.stderr == ""
    deadline = time.monotonic() + 20
    while psutil.pid_exists(int(told.stdout)):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_it_is_a_multiprocessing_event() -> None:
    event = SharedEvent(CONTEXT)
    assert isinstance(event, multiprocessing.synchronize.Event)
    assert not event.is_set()
    event.set()
    assert event.wait(0)
    event.clear()
    assert not event.wait(0.01)


@pytest.mark.parametrize("target", [wait_on, poll])
def test_a_killed_waiter_blocks_nobody(target: Callable[..., None]) -> None:
    event, ready = SharedEvent(CONTEXT), SharedEvent(CONTEXT)
    process = start(target, event, ready)
    assert ready.wait(20)
    os.kill(process.pid, signal.SIGKILL)
    process.join(10)
    before = time.monotonic()
    event.set()
    event.clear()
    assert not event.is_set()
    assert time.monotonic() - before < 0.5


def test_a_killed_sender_leaves_no_torn_message() -> None:
    messages, ready = BatchQueue(CONTEXT), SharedEvent(CONTEXT)
    process = start(flood, messages, ready)
    assert ready.wait(20)
    os.kill(process.pid, signal.SIGKILL)
    process.join(10)
    numbers = []
    with pytest.raises(queue.Empty):
        while True:
            numbers.append(messages.get(timeout=0.5)["number"])
    assert numbers == list(range(len(numbers)))
    assert numbers


def test_batches_are_unpacked_and_observed() -> None:
    messages = BatchQueue(CONTEXT)
    seen: list[Any] = []
    messages.observer = seen.append
    messages.put([{"n": 1}, {"n": 2}])
    messages.put({"n": 3})
    assert [messages.get(timeout=5) for _ in range(3)] == seen
    assert [message["n"] for message in seen] == [1, 2, 3]
    assert messages.empty()


def until_sent(messages: BatchQueue) -> None:
    deadline = time.monotonic() + 20
    while not messages.is_sent:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_sent_is_what_is_in_the_pipe() -> None:
    messages = BatchQueue(CONTEXT)
    assert messages.is_sent
    messages.put({"n": 0})
    until_sent(messages)
    # One more than a pipe takes waits in the hands of the thread that feeds it.
    for n in range(PIPE_BYTES // MAX_MESSAGE_BYTES + 1):
        messages.put({"n": n, "filler": "x" * (MAX_MESSAGE_BYTES - 100)})
    deadline = time.monotonic() + 0.5
    while time.monotonic() < deadline:
        assert not messages.is_sent
        time.sleep(0.001)
    messages.get(timeout=5)
    messages.get(timeout=5)
    until_sent(messages)


def test_what_could_be_torn_is_refused() -> None:
    messages = BatchQueue(CONTEXT)
    with pytest.raises(MessageTooLargeError, match="4092"):
        messages.put({"text": "x" * MAX_MESSAGE_BYTES})
    with pytest.raises(MessageTooLargeError):
        list(pack([{"text": "x" * MAX_MESSAGE_BYTES}]))


@given(st.lists(st.integers(0, 3_500), max_size=40))
def test_packing_keeps_every_message_in_order(sizes: list[int]) -> None:
    messages = [{"n": n, "filler": "x" * size} for n, size in enumerate(sizes)]
    batches = list(pack(messages))
    assert [message for batch in batches for message in batch] == messages
