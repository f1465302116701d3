"""What watching, evaluating and steering cost: ratios measured in one run.

Prints a table, with goals: training through the panel's process against bare `learn()`,
with and without the watched game; with evaluation (and the contest for the best model)
against without; timesteps per CPU-second; latencies of start, pause and stop. The two
that are compared learn at the same time, on a core each, and then on the other's, so
that whatever else the machine does disturbs both alike. (`benchmarks.memory` measures
memory.)

Run by `make bench`; about twenty minutes. Needs Linux and two cores.
"""

from __future__ import annotations

import contextlib
import math
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from benchmarks.figures import p95, row
from tetris_widget.config import TrainingConfig
from tetris_widget.manager import TrainingManager

ROUNDS = 3
# The default run: its first seconds are full of new bests.
TIMESTEPS = TrainingConfig().total_timesteps
# No run of so many timesteps takes longer.
LONG_SECONDS = 600.0
# A process that is not warm takes seconds to start; every other one of those that are
# is stopped while it is paused.
COLD_STARTS = 5
WARM_STARTS = 40

BARE = """
import time, sys
from tetris_widget.config import TrainingConfig
from tetris_widget.training.environments import build_env
from tetris_widget.training.policies import build_model, warm_up
config = TrainingConfig(total_timesteps=int(sys.argv[1]))
warm_up(config)
model = build_model(config, build_env(config))
print("ready", flush=True)
input()
cpu = time.process_time()
model.learn(config.total_timesteps)
print(model.num_timesteps / (time.process_time() - cpu), flush=True)
"""


class Listener:
    """The last state, how many evaluations there were, and when it had learned.

    Attributes:
        ended_at: when the last timestep was done, not when that was heard of: numbers
            wait up to a quarter of a second until they are sent. None: not yet.
    """

    def __init__(self) -> None:
        self.state = ""
        self.evaluated = 0
        self.ended_at: float | None = None
        self._began_at: float | None = None

    def __call__(self, message: dict[str, Any]) -> None:
        if message["type"] == "status":
            # States are sent at once.
            if message["state"] == "running" and self._began_at is None:
                self._began_at = time.perf_counter() - message["elapsed"]
            self.state = message["state"]
        elif message["type"] == "metrics" and message["timesteps"] >= TIMESTEPS:
            if self.ended_at is None:
                assert self._began_at is not None
                self.ended_at = self._began_at + message["elapsed"]
        elif message["type"] == "evaluation":
            self.evaluated += 1


class Bare:
    """SB3's `learn()` of the same run, without anything of ours around it."""

    def __init__(self) -> None:
        command = [sys.executable, "-c", BARE, str(TIMESTEPS)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.process.stdout.readline()
        self.ended_at: float | None = None
        self._said = ""
        self._listener = threading.Thread(target=self._listen)

    def begin(self) -> int:
        """Begin to learn; return the process's id."""
        assert self.process.stdin is not None
        print(file=self.process.stdin, flush=True)
        self._listener.start()
        return self.process.pid

    def timesteps_per_cpu_second(self) -> float:
        """Return what it found."""
        return float(self._said)

    def close(self) -> None:
        """Wait until its process has ended."""
        self.process.wait()

    def _listen(self) -> None:
        # The process itself takes a while to end.
        assert self.process.stdout is not None
        self._said = self.process.stdout.readline()
        self.ended_at = time.perf_counter()


class Managed:
    """The same run through the training process.

    Args:
        directory: of the run.
        options: of its TrainingConfig.
    """

    def __init__(self, directory: str, **options: Any) -> None:
        self._config = TrainingConfig(
            total_timesteps=TIMESTEPS, run_dir=directory, **options
        )
        self._listener = Listener()
        self.manager = ready(self._listener)

    def begin(self) -> int:
        """Begin to learn; return the process's id."""
        self.manager.start_training(self._config)
        # The bare one, too, has made its model by now.
        until(lambda: self._listener.state == "running")
        return int(self.manager.get_status()["pid"])

    @property
    def ended_at(self) -> float | None:
        """When it had learned; None: it has not."""
        return self._listener.ended_at

    def close(self) -> None:
        """Wait until the run has ended, and end its process."""
        self.manager.wait()
        self.manager.close()


def race(first: Bare | Managed, second: Bare | Managed, cores: list[int]) -> float:
    """Let both learn at once; return the second's speed as a share of the first's.

    What a run may spend beside the learning goes by the clock, so none can be stopped
    for the other's turn. Each has a core of its own.
    """
    racers = first, second
    began = {}
    for racer, core in zip(racers, cores, strict=True):
        pid = racer.begin()
        began[racer] = time.perf_counter()
        keep_to(pid, core)
    until(lambda: all(racer.ended_at for racer in racers), LONG_SECONDS)
    for racer in racers:
        racer.close()
    return seconds(first, began[first]) / seconds(second, began[second])


def keep_to(pid: int, core: int) -> None:
    """Let all threads of a process, and those that they start, have one core."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            os.sched_setaffinity(int(thread.name), {core})


def alone(racer: Managed) -> float:
    """Let one learn by itself, on all cores; return the seconds that it took."""
    racer.begin()
    began = time.perf_counter()
    until(lambda: racer.ended_at, LONG_SECONDS)
    racer.close()
    return seconds(racer, began)


def seconds(racer: Bare | Managed, began: float) -> float:
    """Return how long it has learned."""
    assert racer.ended_at is not None
    return racer.ended_at - began


def ratios(directory: str) -> dict[str, list[float]]:
    """Return shares of the speed without, and the bare timesteps per CPU-second."""
    found: dict[str, list[float]] = {}
    cores = sorted(os.sched_getaffinity(0))[:2]
    for _ in range(ROUNDS):
        for view in ("headless", "watch"):
            pair = []
            # Cores are not alike, and the machine has other things to do on them.
            for order in (cores, cores[::-1]):
                bare = Bare()
                managed = Managed(directory, view=view, evaluation=False)
                pair.append(race(bare, managed, order))
                speed = bare.timesteps_per_cpu_second()
                found.setdefault("speed", []).append(speed)
            found.setdefault(view, []).append(math.sqrt(math.prod(pair)))
        # Not at once, for evaluation has the other core; there and back, for the
        # machine is slower at one time than at another.
        times: dict[bool, float] = {True: 0.0, False: 0.0}
        for evaluation in (False, True, True, False):
            run = Managed(directory, view="headless", evaluation=evaluation)
            times[evaluation] += alone(run)
        found.setdefault("evaluation", []).append(times[False] / times[True])
    return found


def ready(listener: Listener) -> TrainingManager:
    """Return a manager with a warm process."""
    manager = TrainingManager(listener)
    manager.prepare()
    until(lambda: listener.state == "ready")
    return manager


def latencies(directory: str) -> dict[str, list[float]]:
    """Return seconds: start to first evaluation (cold, warm), pause, resume, stop."""
    names = ("cold", "warm", "pause", "resume", "stop", "stop while paused")
    found: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(COLD_STARTS):
        listener = Listener()
        with closing(TrainingManager(listener)) as manager:
            found["cold"].append(start(manager, listener, directory))
    for i in range(WARM_STARTS):
        listener = Listener()
        with closing(ready(listener)) as manager:
            found["warm"].append(start(manager, listener, directory))
            pause, resume = manager.pause_training, manager.resume_training
            found["pause"].append(until_state(listener, "paused", pause))
            found["resume"].append(until_state(listener, "running", resume))
            name = "stop"
            if i % 2:
                name = "stop while paused"
                until_state(listener, "paused", pause)
            stop = manager.request_stop
            found[name].append(until_state(listener, "stopped", stop))
    return found


def start(manager: TrainingManager, listener: Listener, directory: str) -> float:
    """Start a run; return the seconds until its first evaluation."""
    before = time.perf_counter()
    manager.start_training(TrainingConfig(run_dir=directory))
    until(lambda: listener.evaluated)
    return time.perf_counter() - before


def until_state(listener: Listener, state: str, ask: Callable[[], Any]) -> float:
    """Ask for a state; return the seconds until the process had it."""
    before = time.perf_counter()
    ask()
    until(lambda: listener.state == state)
    return time.perf_counter() - before


def until(condition: Callable[[], Any], most: float = 60.0) -> None:
    """Wait for a condition, so many seconds at most."""
    before = time.perf_counter()
    while not condition():
        if time.perf_counter() - before > most:
            raise TimeoutError
        time.sleep(0.0005)


def main() -> None:
    """Measure everything and print the table."""
    with tempfile.TemporaryDirectory() as directory:
        shares = ratios(directory)
        seconds = latencies(directory)
    speed = "timesteps per CPU-second"
    print(row("headless / bare learn()", shares["headless"], least=0.97))
    print(row("watching / bare learn()", shares["watch"], least=0.95))
    print(row("evaluation / no evaluation", shares["evaluation"], least=0.95))
    print(row(speed, shares["speed"], ",.0f", least=40_000))
    cold = "start to first evaluation, cold"
    print(row(cold, seconds.pop("cold"), ".1f", " s", most=6.0))
    for name, values in seconds.items():
        is_start = name == "warm"
        label = "start to first evaluation, warm" if is_start else name
        most = 1_000.0 if is_start else 250.0
        label = f"{label}, p95 of {len(values)}"
        print(row(label, [1_000 * p95(values)], ",.0f", " ms", most=most))


if __name__ == "__main__":
    main()
