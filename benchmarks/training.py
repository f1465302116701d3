"""What watching, evaluating and steering cost: ratios measured in one run.

Prints a table, with goals: training through the panel's process against bare `learn()`,
with and without the watched game; with evaluation (and the contest for the best model)
against without; timesteps per CPU-second; latencies of start, pause and stop. The two
that are compared take turns of half a second each, so that whatever else the machine
does disturbs both alike. (`benchmarks.memory` measures memory.)

Run by `make bench`; about twenty minutes.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

from benchmarks.figures import p95, row
from tetris_widget.config import TrainingConfig
from tetris_widget.manager import TrainingManager

ROUNDS = 3
# The default run: its first seconds are full of new bests.
TIMESTEPS = TrainingConfig().total_timesteps
TURN_SECONDS = 0.5
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


def race(first: Bare | Managed, second: Bare | Managed) -> float:
    """Let both learn in turns; return the second's speed as a share of the first's."""
    racers = first, second
    pids: dict[Any, int] = {}
    turns: dict[Any, list[tuple[float, float]]] = {racer: [] for racer in racers}
    while any(racer.ended_at is None for racer in racers):
        for racer in racers:
            if racer.ended_at is None:
                turns[racer].append(take_turn(racer, pids))
    for racer in racers:
        racer.close()
    return seconds(first, turns[first]) / seconds(second, turns[second])


def take_turn(racer: Bare | Managed, pids: dict[Any, int]) -> tuple[float, float]:
    """Let one begin or go on; return from when to when it had its turn."""
    if racer in pids:
        os.kill(pids[racer], signal.SIGCONT)
    else:
        pids[racer] = racer.begin()
    begin = time.perf_counter()
    while racer.ended_at is None and time.perf_counter() - begin < TURN_SECONDS:
        time.sleep(0.001)
    if racer.ended_at is None:
        os.kill(pids[racer], signal.SIGSTOP)
    return begin, time.perf_counter()


def seconds(racer: Bare | Managed, turns: list[tuple[float, float]]) -> float:
    """Return how long it has learned in its turns."""
    ended_at = racer.ended_at
    assert ended_at is not None
    return sum(max(0.0, min(end, ended_at) - begin) for begin, end in turns)


def ratios(directory: str) -> dict[str, list[float]]:
    """Return shares of the speed without, and the bare timesteps per CPU-second."""
    found: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        for view in ("headless", "watch"):
            bare = Bare()
            managed = Managed(directory, view=view, evaluation=False)
            found.setdefault(view, []).append(race(bare, managed))
            speed = bare.timesteps_per_cpu_second()
            found.setdefault("speed", []).append(speed)
        without = Managed(directory, view="headless", evaluation=False)
        with_it = Managed(directory, view="headless", evaluation=True)
        found.setdefault("evaluation", []).append(race(without, with_it))
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
            manager.pause_training()
            found["pause"].append(until_state(listener, "paused"))
            manager.resume_training()
            found["resume"].append(until_state(listener, "running"))
            name = "stop"
            if i % 2:
                name = "stop while paused"
                manager.pause_training()
                until_state(listener, "paused")
            manager.request_stop()
            found[name].append(until_state(listener, "stopped"))
    return found


def start(manager: TrainingManager, listener: Listener, directory: str) -> float:
    """Start a run; return the seconds until its first evaluation."""
    manager.start_training(TrainingConfig(run_dir=directory))
    return until(lambda: listener.evaluated)


def until_state(listener: Listener, state: str) -> float:
    """Wait for a state; return the seconds it took."""
    return until(lambda: listener.state == state)


def until(condition: Callable[[], Any]) -> float:
    """Wait for a condition; return the seconds it took."""
    before = time.perf_counter()
    while not condition():
        if time.perf_counter() - before > 60:
            raise TimeoutError
        time.sleep(0.0005)
    return time.perf_counter() - before


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
