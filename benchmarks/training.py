"""What watching and steering cost: ratios measured in one run.

Prints a table: training through the panel's process against bare `learn()`, with and
without the watched game; timesteps per CPU-second; latencies of start, pause and stop.
(`benchmarks.memory` measures memory.)

Run by `make bench`; about five minutes.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

from tetris_widget.config import TrainingConfig
from tetris_widget.manager import TrainingManager

ROUNDS = 5
# Long enough for the first seconds, full of new bests, not to decide.
TIMESTEPS = 500_000
PRESSES = 20

BARE = """
import time, sys
from tetris_widget.config import TrainingConfig
from tetris_widget.envs import TetrisVecEnv
from tetris_widget.training.policies import build_model, warm_up
config = TrainingConfig(total_timesteps=int(sys.argv[1]))
warm_up(config)
model = build_model(config, TetrisVecEnv(config.n_envs, seed=0))
wall, cpu = time.perf_counter(), time.process_time()
model.learn(config.total_timesteps)
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
print(model.num_timesteps / wall, model.num_timesteps / cpu)
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


def bare() -> tuple[float, float]:
    """Return timesteps per second and per CPU-second of bare SB3 `learn()`."""
    done = subprocess.run(
        [sys.executable, "-c", BARE, str(TIMESTEPS)],
        capture_output=True,
        text=True,
        check=True,
    )
    wall, cpu = done.stdout.split()[-2:]
    return float(wall), float(cpu)


def through_the_process(view: str, directory: str) -> float:
    """Return timesteps per second of the same run through the training process."""
    listener = Listener()
    manager = ready(listener)
    config = TrainingConfig(
        total_timesteps=TIMESTEPS, view=view, evaluation=False, run_dir=directory
    )
    manager.start_training(config)
    manager.wait()
    manager.close()
    return float(listener.metrics["timesteps"] / listener.metrics["elapsed"])


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
            # Side by side, so that a noisy machine disturbs both alike.
            wall, per_cpu = bare()
            cpu.append(per_cpu)
            headless.append(through_the_process("headless", directory) / wall)
            watched.append(through_the_process("watch", directory) / wall)
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
