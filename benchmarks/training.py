"""What watching and steering cost: ratios measured in one run.

Prints a table: training through the panel's process against bare `learn()`, with and
without the watched game; timesteps per CPU-second; latencies of start, pause and stop.
The two that are compared take turns of half a second each, so that whatever else the
machine does disturbs both alike. (`benchmarks.memory` measures memory.)

Run by `make bench`; about ten minutes.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any

from tetris_widget.config import TrainingConfig
from tetris_widget.manager import TrainingManager

ROUNDS = 3
# The default run: its first seconds are full of new bests.
TIMESTEPS = TrainingConfig().total_timesteps
TURN_SECONDS = 0.5
PRESSES = 20

BARE = """
import time, sys
from tetris_widget.config import TrainingConfig
from tetris_widget.envs import TetrisVecEnv
from tetris_widget.training.policies import build_model, warm_up
config = TrainingConfig(total_timesteps=int(sys.argv[1]))
warm_up(config)
model = build_model(config, TetrisVecEnv(config.n_envs, seed=0))
print("ready", flush=True)
input()
cpu = time.process_time()
model.learn(config.total_timesteps)
print(model.num_timesteps / (time.process_time() - cpu), flush=True)
"""


class Listener:
    """The last state, and the last metrics and when they were written."""

    def __init__(self) -> None:
        self.state = ""
        self.metrics: dict[str, Any] = {}
        self.evaluated = 0

    def __call__(self, message: dict[str, Any]) -> None:
        if message["type"] == "status":
            self.state = message["state"]
        elif message["type"] == "metrics":
            self.metrics = message
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
        self._said: str | None = None
        self._listener = threading.Thread(target=self._listen)

    def begin(self) -> int:
        """Begin to learn; return the process's id."""
        assert self.process.stdin is not None
        print(file=self.process.stdin, flush=True)
        self._listener.start()
        return self.process.pid

    def has_ended(self) -> bool:
        """Return whether it has learned."""
        return self._said is not None

    def timesteps_per_cpu_second(self) -> float:
        """Return what it found."""
        assert self._said is not None
        self.process.wait()
        return float(self._said)

    def _listen(self) -> None:
        # The process itself takes a while to end.
        assert self.process.stdout is not None
        self._said = self.process.stdout.readline()


class Managed:
    """The same run through the training process."""

    def __init__(self, view: str, directory: str) -> None:
        self._config = TrainingConfig(
            total_timesteps=TIMESTEPS, view=view, evaluation=False, run_dir=directory
        )
        self._listener = Listener()
        self.manager = ready(self._listener)

    def begin(self) -> int:
        """Begin to learn; return the process's id."""
        self.manager.start_training(self._config)
        # The bare one, too, has made its model by now.
        until(lambda: self._listener.state == "running")
        return int(self.manager.get_status()["pid"])

    def has_ended(self) -> bool:
        """Return whether it has learned."""
        return bool(self._listener.metrics.get("timesteps", 0) >= TIMESTEPS)


def compare(view: str, directory: str) -> tuple[float, float]:
    """Let both learn in turns.

    Returns:
        The managed run's timesteps per second as a share of the bare one's, and the
        bare one's timesteps per CPU-second.
    """
    bare, managed = Bare(), Managed(view, directory)
    racers: list[Bare | Managed] = [bare, managed]
    pids: dict[Any, int] = {}
    seconds = dict.fromkeys(racers, 0.0)
    while not all(racer.has_ended() for racer in racers):
        for racer in racers:
            if racer.has_ended():
                continue
            if racer in pids:
                os.kill(pids[racer], signal.SIGCONT)
            else:
                pids[racer] = racer.begin()
            before = time.perf_counter()
            while not racer.has_ended() and time.perf_counter() - before < TURN_SECONDS:
                time.sleep(0.001)
            seconds[racer] += time.perf_counter() - before
            if not racer.has_ended():
                os.kill(pids[racer], signal.SIGSTOP)
    managed.manager.wait()
    managed.manager.close()
    return seconds[bare] / seconds[managed], bare.timesteps_per_cpu_second()


def ready(listener: Listener) -> TrainingManager:
    """Return a manager with a warm process."""
    manager = TrainingManager(listener)
    manager.prepare()
    until(lambda: listener.state == "ready")
    return manager


def latencies(directory: str) -> dict[str, list[float]]:
    """Return seconds: start to first evaluation (cold, warm), pause, resume, stop."""
    names = ("cold", "start", "pause", "resume", "stop")
    found: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(3):
        listener = Listener()
        manager = TrainingManager(listener)
        manager.start_training(TrainingConfig(run_dir=directory))
        found["cold"].append(until(lambda one=listener: one.evaluated))
        manager.close()
        listener = Listener()
        manager = ready(listener)
        manager.start_training(TrainingConfig(run_dir=directory))
        found["start"].append(until(lambda one=listener: one.evaluated))
        for _ in range(PRESSES):
            time.sleep(0.03)
            manager.pause_training()
            found["pause"].append(until(lambda one=listener: one.state == "paused"))
            manager.resume_training()
            found["resume"].append(until(lambda one=listener: one.state == "running"))
        manager.request_stop()
        found["stop"].append(until(lambda one=listener: one.state == "stopped"))
        manager.close()
    return found


def until(condition: Callable[[], Any]) -> float:
    """Wait for a condition; return the seconds it took."""
    before = time.perf_counter()
    while not condition():
        if time.perf_counter() - before > 60:
            raise TimeoutError
        time.sleep(0.0005)
    return time.perf_counter() - before


def p95(values: list[float]) -> float:
    """Return the 95th percentile, in milliseconds."""
    return 1000 * sorted(values)[int(0.95 * (len(values) - 1))]


def main() -> None:
    """Measure everything and print the table."""
    headless, watched, cpu = [], [], []
    with tempfile.TemporaryDirectory() as directory:
        for _ in range(ROUNDS):
            for view, ratios in (("headless", headless), ("watch", watched)):
                ratio, per_cpu = compare(view, directory)
                ratios.append(ratio)
                cpu.append(per_cpu)
        times = latencies(directory)
    print(f"headless / bare learn()         {spread(headless)}")
    print(f"watching / bare learn()         {spread(watched)}")
    print(f"timesteps per CPU-second        {spread(cpu, ',.0f')}")
    print(f"start to first evaluation, cold {max(times['cold']):.1f} s")
    print(f"start to first evaluation, warm {p95(times['start']):.0f} ms")
    for name in ("pause", "resume", "stop"):
        print(f"{name:<31} p95 {p95(times[name]):.0f} ms")


def spread(values: list[float], style: str = ".3f") -> str:
    """Return median and range."""
    middle = statistics.median(values)
    return f"{middle:{style}} ({min(values):{style}} to {max(values):{style}})"


if __name__ == "__main__":
    main()
