"""What the two processes need in memory, and whether that stays so.

Prints a table, with goals: how much a kernel grows by the import and by a panel; the
training process after warming up and during half a minute of the default run; both over
many short episodes, with a panel at the other end.

Run by `python -m benchmarks.memory [EPISODES]`; the default is a million.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from tetris_widget import TrainingPanel

# The training process imports this file too (it is `__main__`), as it does a user's
# script: what only the kernel needs is imported where it is needed.

EPISODES = 1_000_000
ROWS_OF_THE_TABLE = 10
DEFAULT_RUN_SECONDS = 30.0
SAMPLE_SECONDS = 0.1
MOST_KERNEL_MB, MOST_WORKER_MB = 80, 450
# A few pieces and a game is over, and it stays so: nothing is learned. (`max_pieces`
# would cost SB3 a call of the critic for each game that it cuts.)
SHORT_EPISODES: dict[str, Any] = {
    "rows": 4,
    "columns": 4,
    "learning_rate": 1e-9,
    "total_timesteps": 100_000_000_000,
}


def resident(pid: int | None = None) -> float:
    """Return the resident memory of a process (None: this one) in MB."""
    return float(psutil.Process(pid).memory_info().rss / 1e6)


def private(pid: int | None = None) -> float:
    """Return the part of it that is no file's, which no system takes back, in MB."""
    memory = psutil.Process(pid).memory_info()
    return float((memory.rss - memory.shared) / 1e6)


def kernel_growth() -> tuple[float, float]:
    """Return by how many MB importing the package and a panel make a kernel grow."""
    import ipykernel.ipkernel  # noqa: F401 a kernel has it already

    before = resident()
    import tetris_widget

    imported = tetris_widget.TrainingPanel  # resolved lazily
    after_import = resident()
    with imported():
        return after_import - before, resident() - before


def default_run(directory: str) -> tuple[float, float, float]:
    """Return MB: the process when it is ready, after the default run, at most."""
    from tetris_widget.config import TrainingConfig
    from tetris_widget.manager import TrainingManager

    states: list[str] = []

    def listen(message: dict[str, Any]) -> None:
        if message["type"] == "status":
            states.append(message["state"])

    manager = TrainingManager(listen)
    manager.prepare()
    wait_until(lambda: "ready" in states)
    pid = manager.get_status()["pid"]
    ready = resident(pid)
    manager.start_training(TrainingConfig(run_dir=directory))
    samples = []
    end = time.monotonic() + DEFAULT_RUN_SECONDS
    while time.monotonic() < end and manager.is_running():
        samples.append(resident(pid))
        time.sleep(SAMPLE_SECONDS)
    manager.close()
    return ready, samples[-1], max(samples)


def over_episodes(directory: str, episodes: int) -> None:
    """Print the memory of both processes at ten times in a run of short episodes."""
    from tetris_widget import TrainingConfig, TrainingPanel

    print("                          training process             kernel")
    print("    episodes  seconds   resident    private   resident    private")
    with TrainingPanel(TrainingConfig(run_dir=directory, **SHORT_EPISODES)) as panel:
        before = time.monotonic()
        panel.start()
        pid = panel._manager.get_status()["pid"]
        for row in range(1, ROWS_OF_THE_TABLE + 1):
            wanted = episodes * row // ROWS_OF_THE_TABLE
            wait_until(partial(has_seen, panel, wanted))
            sizes = resident(pid), private(pid), resident(), private()
            print(
                f"{panel._history.episodes:>12,} {time.monotonic() - before:>8.0f}",
                *(f"{size:>7.1f} MB" for size in sizes),
                flush=True,
            )


def has_seen(panel: TrainingPanel, episodes: int) -> bool:
    """Return whether so many episodes have arrived at the panel."""
    return panel._history.episodes >= episodes


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for a condition."""
    while not condition():
        time.sleep(SAMPLE_SECONDS)


def main() -> None:
    """Measure everything and print it."""
    episodes = int(sys.argv[1]) if len(sys.argv) > 1 else EPISODES
    imported, shown = kernel_growth()
    from benchmarks.figures import row

    print(row("kernel, more by the import", [imported], ".0f", " MB"))
    panel = "kernel, more by the import and a panel"
    print(row(panel, [shown], ".0f", " MB", most=MOST_KERNEL_MB))
    with tempfile.TemporaryDirectory() as directory:
        ready, last, most = default_run(directory)
        print(row("training process, ready", [ready], ".0f", " MB"))
        after = f"after {DEFAULT_RUN_SECONDS:.0f} s of the default run"
        print(row(after, [last], ".0f", " MB"))
        print(row("at most", [most], ".0f", " MB", most=MOST_WORKER_MB), flush=True)
        over_episodes(directory, episodes)


if __name__ == "__main__":
    main()
