"""What it costs that nothing is lost: shares of the training time, and latencies.

Prints a table: the share of checkpoints and of the journal in a default run's CPU time,
how long attaching to a run of a million episodes takes, how soon a pause is
acknowledged, how long a stop with a full replay buffer takes, and what of it is the
disk's.

Run by `make bench`; about two minutes.
"""

from __future__ import annotations

import contextlib
import os
import queue
import random
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.figures import p95, row
from benchmarks.training import Listener, ready, until, until_state
from tetris_widget.config import TrainingConfig
from tetris_widget.manager import TrainingManager
from tetris_widget.run_directory import RunDirectory

RUN_SECONDS = 12.0
EPISODES = 1_000_000
EPISODES_A_SECOND = 500
EVALUATIONS_A_SECOND = 2
# In episodes.
PAUSED_EACH = 30_000
# What SB3's PPO reports of an update, in part.
TRAINED = ("loss", "value_loss", "entropy_loss", "approx_kl", "clip_fraction")
PAUSES = 100
STOPS = 3
CHECKPOINTS, JOURNAL = "checkpoints, both", "journal"
# Percent of the learning's time: by the clock, and of its CPU time.
GOALS = {CHECKPOINTS: 1.0, JOURNAL: 1.0}


class Clock:
    """CPU and wall seconds spent in some functions, on whichever thread."""

    def __init__(self) -> None:
        self.cpu = 0.0
        self.wall = 0.0
        self.calls = 0

    def watch(self, owner: Any, name: str) -> None:
        """Count the time spent in a method from now on."""
        original: Callable[..., Any] = getattr(owner, name)

        def timed(*arguments: Any, **options: Any) -> Any:
            cpu, wall = time.thread_time(), time.perf_counter()
            try:
                return original(*arguments, **options)
            finally:
                self.cpu += time.thread_time() - cpu
                self.wall += time.perf_counter() - wall
                self.calls += 1

        setattr(owner, name, timed)


def shares(directory: str) -> dict[str, float]:
    """Train the default run in this process; return shares of the learning's time."""
    from tetris_widget.ipc import BatchQueue
    from tetris_widget.training.journal import Journal
    from tetris_widget.training.outbox import Outbox
    from tetris_widget.training.policies import warm_up
    from tetris_widget.training.session import TrainingSession

    config = TrainingConfig(total_timesteps=10**9, run_dir=directory)
    warm_up(config)
    run = RunDirectory.create(config)
    manager = TrainingManager()
    messages: BatchQueue = manager.metrics_queue
    outbox = Outbox(messages, run.run_id, Journal(run, print))
    stop = threading.Event()
    session = TrainingSession(
        config, run, outbox, queue.SimpleQueue(), manager.pause_event, stop
    )
    snapshots, files, journal = Clock(), Clock(), Clock()
    snapshots.watch(session._checkpointer, "_take")
    files.watch(session._checkpointer, "_write")
    journal.watch(outbox, "_write_down")
    threading.Thread(target=drain, args=(messages,), daemon=True).start()
    threading.Timer(RUN_SECONDS, stop.set).start()
    # Of the thread that learns: the contest has the other core.
    cpu, wall = time.thread_time(), time.perf_counter()
    session.train()
    cpu, wall = time.thread_time() - cpu, time.perf_counter() - wall
    outbox.close(5)
    # One was written at the start, one at the end; the learning waits for the disk.
    per_file = files.wall / files.calls
    costs = {
        "snapshots in memory": snapshots.wall / wall,
        "checkpoint files, one each 30 s": per_file / config.checkpoint_seconds,
    }
    return {
        **costs,
        CHECKPOINTS: sum(costs.values()),
        JOURNAL: journal.cpu / cpu,
        "recording games": recording(session) / cpu,
    }


def recording(session: Any) -> float:
    """Return the CPU seconds that a run's recorder has taken, by doing it again.

    A clock around each step would take longer than the step.
    """
    recorder = session._callback.recorder
    steps, episodes = recorder._steps, session._callback.episode_count
    every = max(1, steps // max(1, episodes))
    game = np.zeros(1, np.intp)
    before = time.process_time()
    for step in range(steps):
        recorder.add()
        if step % every == 0:
            recorder.end(game)
    return time.process_time() - before


def drain(messages: Any) -> None:
    """Read a queue until it is closed."""
    with contextlib.suppress(EOFError, OSError):
        while True:
            messages.get()


def attach(directory: str) -> float:
    """Return the seconds until a panel shows a run of a million episodes."""
    from tetris_widget import TrainingPanel

    run = RunDirectory.create(TrainingConfig(run_dir=directory))
    write_long_run(run)
    before = time.perf_counter()
    with TrainingPanel.attach(run.path) as panel:
        seconds = time.perf_counter() - before
        assert panel._history.episodes == EPISODES
        assert panel._history.series("evaluation/lines").size
        assert panel._history.series("train/loss").size
    assert run.verify() == []
    return seconds


def write_long_run(run: RunDirectory) -> None:
    """Write what a run of a million episodes leaves: all of its tables, as it does."""
    from tetris_widget.training.journal import Journal
    from tetris_widget.training.progress import ProgressFile

    rng = random.Random(0)
    journal, progress = Journal(run, print), ProgressFile(run.progress_file)
    best = 0
    for last in range(EPISODES_A_SECOND, EPISODES + 1, EPISODES_A_SECOND):
        messages = []
        for number in range(last - EPISODES_A_SECOND + 1, last + 1):
            lines = int(rng.expovariate(0.01))
            game = {"episode": number, "env": number % 64, "length": lines * 3 + 1}
            messages.append(
                message(number, "episode", reward=float(lines), lines=lines, **game)
            )
            if lines > best:
                best = lines
                text = f"new best: {lines} lines in one game, saved to best/model.zip"
                found = {"best_lines": lines, "episode": number}
                messages.append(
                    message(number, "info", kind="best", text=text, **found)
                )
        for _ in range(EVALUATIONS_A_SECOND):
            mean = rng.gauss(100, 5)
            interval = {"mean_lines": mean, "lower": mean - 9, "upper": mean + 9}
            games = {"games": 20, "finished": 20, "max_lines": 400, "pieces": 5_000}
            messages.append(message(last, "evaluation", **interval, **games, cost=0.05))
        if last % PAUSED_EACH == 0:
            messages += [
                message(last, "command", command="set_speed", values={"speed": 0.5}),
                message(last, "status", state="paused", reason=None, detail=None),
                message(last, "status", state="running", reason=None, detail=None),
            ]
        journal.write(messages)
        row = {**when(last), "fps": 20_000.0}
        row |= {f"train/{name}": rng.random() for name in TRAINED}
        progress.write(row, {}, row["timesteps"])
    journal.close()
    progress.close()
    run.write_state("stopped", reason=None, **when(EPISODES))


def message(number: int, type_: str, **fields: Any) -> dict[str, Any]:
    """Return a message of a training process, told at the end of an episode."""
    return {"type": type_, **when(number), "run_id": "long", **fields}


def when(number: int) -> dict[str, Any]:
    """Return when an episode ends."""
    return {"timesteps": number * 40, "elapsed": number / EPISODES_A_SECOND}


def pauses(directory: str) -> list[float]:
    """Return the seconds until each of many pauses was acknowledged."""
    listener = Listener()
    manager = ready(listener)
    manager.start_training(TrainingConfig(total_timesteps=10**9, run_dir=directory))
    until(lambda: listener.state == "running")
    found = []
    for _ in range(PAUSES):
        time.sleep(random.uniform(0.01, 0.06))
        found.append(until_state(listener, "paused", manager.pause_training))
        manager.resume_training()
        until(lambda: listener.state == "running")
    manager.close()
    return found


def full_buffer(directory: str) -> tuple[float, float, float]:
    """Return how a checkpoint of a full replay buffer is made.

    Returns:
        Its MB, the seconds it takes, and those of a plain copy of as many bytes.
    """
    from tetris_widget.envs import TetrisVecEnv
    from tetris_widget.training.checkpoint import take_snapshot, write_checkpoint
    from tetris_widget.training.policies import build_model

    config = TrainingConfig(algorithm="dqn", run_dir=directory)
    env = TetrisVecEnv(config.n_envs, seed=0)
    model: Any = build_model(config, env)
    model.learn(2_048)
    buffer = model.replay_buffer
    for name in ("observations", "next_observations"):
        array = getattr(buffer, name)
        array[:] = array[: buffer.pos].mean(axis=0)
    buffer.full = True
    reports = {"returns": env.games.lines, "lengths": env.games.lines, "recording": {}}
    path = Path(directory) / "full.zip"
    seconds = []
    for _ in range(STOPS):
        before = time.perf_counter()
        write_checkpoint(path, model, take_snapshot(model, reports, {}))
        seconds.append(time.perf_counter() - before)
    size = path.stat().st_size
    content = path.read_bytes()
    plain = []
    for _ in range(STOPS):
        before = time.perf_counter()
        with path.with_name("plain").open("wb") as file:
            file.write(content)
            os.fsync(file.fileno())
        plain.append(time.perf_counter() - before)
    return size / 1e6, min(seconds), min(plain)


def main() -> None:
    """Measure everything and print the table."""
    with tempfile.TemporaryDirectory() as directory:
        for name, share in shares(directory).items():
            most = GOALS.get(name)
            print(row(name, [100 * share], ".2f", " %", most=most))
        name = f"attach to {EPISODES:,} episodes"
        print(row(name, [attach(directory)], ".1f", " s", most=2), flush=True)
        acknowledged = [1_000 * p95(pauses(directory))]
        print(row("pause acknowledged, p95", acknowledged, ".0f", " ms", most=100))
        size, seconds, plain = full_buffer(directory)
    name = f"checkpoint of a full replay buffer ({size:.0f} MB)"
    print(row(name, [seconds], ".2f", " s"))
    print(row("as many bytes to the same disk", [plain], ".2f", " s"))


if __name__ == "__main__":
    main()
