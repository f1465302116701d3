"""Training processes in which something goes wrong, or is counted independently.

Each runs the real worker; only the environment's step is wrapped.
"""

from __future__ import annotations

import json
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tetris_widget.envs import TetrisVecEnv
from tetris_widget.manager import TrainingManager
from tetris_widget.training.worker import run_worker

# Where the independent count goes, and what the fault is.
COUNT_FILE = "TEST_COUNT_FILE"
FAULT = "TEST_FAULT"
FAULTY_STEP = 100


def wrap_step(before: Callable[[int], None], after: Callable[[Any], None]) -> None:
    """Call `before(step number)` and `after(the step's results)` around each step."""
    step_wait = TetrisVecEnv.step_wait
    count = 0

    def wrapped(self: TetrisVecEnv) -> Any:
        nonlocal count
        count += 1
        before(count)
        results = step_wait(self)
        after(results)
        return results

    TetrisVecEnv.step_wait = wrapped  # type: ignore[method-assign]


def fail(step: int) -> None:
    """Do what the environment variable names, at one step."""
    if step != FAULTY_STEP:
        return
    fault = os.environ[FAULT]
    if fault == "raise":
        raise RuntimeError("the board is on fire")
    if fault == "exit":
        raise SystemExit(0)
    if fault == "interrupt":
        raise KeyboardInterrupt
    if fault == "memory":
        raise MemoryError("cannot allocate a board")
    if fault == "hunger":
        # What is left is soon eaten.
        resource.setrlimit(resource.RLIMIT_AS, (_address_space() + 2**28, -1))
        eaten = []
        while True:
            eaten.append(bytearray(2**24))
    if fault == "leave":
        os._exit(0)
    if fault == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    raise AssertionError(fault)


def _address_space() -> int:
    pages = Path("/proc/self/statm").read_text().split()[0]
    return int(pages) * resource.getpagesize()


def fill_disk(step: int) -> None:
    """Let every write to a file fail for some time, as on a full disk."""
    unlimited = resource.RLIM_INFINITY
    if step == FAULTY_STEP:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, unlimited))
    if step == 20 * FAULTY_STEP:
        resource.setrlimit(resource.RLIMIT_FSIZE, (unlimited, unlimited))


def fill_disk_for_good(step: int) -> None:
    """Let every write to a file fail from one step on, and the run, too, if it must."""
    if step == FAULTY_STEP:
        fill_disk(step)
    if step > FAULTY_STEP:
        print("what an environment prints goes to a file of that disk")
    if step == 2 * FAULTY_STEP and FAULT in os.environ:
        raise RuntimeError("the board is on fire")


class Counter:
    """Counts episodes and lines from rewards and ends alone, one file line each.

    A line has the env, its lines, and the number of the step.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", buffering=1)
        self._sums: list[float] = []
        self._step = 0

    def __call__(self, results: Any) -> None:
        _, rewards, dones, _ = results
        self._step += 1
        self._sums = self._sums or [0.0] * len(rewards)
        for env, (reward, done) in enumerate(zip(rewards, dones, strict=True)):
            self._sums[env] += float(reward)
            if done:
                ended = [env, self._sums[env], self._step]
                print(json.dumps(ended), file=self._file)
                self._sums[env] = 0.0


def _nothing(_: Any) -> None:
    pass


def _failing_worker(*arguments: Any) -> None:
    wrap_step(fail, Counter(Path(os.environ[COUNT_FILE])))
    run_worker(*arguments)


def _full_disk_worker(*arguments: Any) -> None:
    wrap_step(fill_disk, _nothing)
    run_worker(*arguments)


def _full_for_good_worker(*arguments: Any) -> None:
    wrap_step(fill_disk_for_good, _nothing)
    run_worker(*arguments)


def _counting_worker(*arguments: Any) -> None:
    wrap_step(_nothing, Counter(Path(os.environ[COUNT_FILE])))
    run_worker(*arguments)


class FailingManager(TrainingManager):
    """Its process fails in its hundredth step, and counts the games until then."""

    _training_worker = staticmethod(_failing_worker)


class FullDiskManager(TrainingManager):
    """Its process cannot write for some time."""

    _training_worker = staticmethod(_full_disk_worker)


class FullForGoodManager(TrainingManager):
    """Its process can write nothing any more from its hundredth step on."""

    _training_worker = staticmethod(_full_for_good_worker)


class CountingManager(TrainingManager):
    """Its process counts the finished games on the side."""

    _training_worker = staticmethod(_counting_worker)
