"""Too much of everything."""

from __future__ import annotations

import math
import os
import random
import threading
import time
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import psutil

from tests.faults.kills import FOREVER
from tests.faults.matrix import (
    Kernel,
    Measure,
    case,
    check_told,
    episodes_on_disk,
    wait_for,
)
from tests.faults.toy import FULL_SPEED, PACE, ROLLOUT, ToyManager
from tetris_widget.config import TrainingConfig
from tetris_widget.panel import panel as panel_module
from tetris_widget.panel.panel import TrainingPanel

MEGABYTE = 1e6
EPISODES_A_MINUTE = 100_000
TURNS = 5


def shared_memory() -> int:
    """Return how many named semaphores and the like there are."""
    return len(list(Path("/dev/shm").iterdir())) if Path("/dev/shm").exists() else 0


@case("start/stop cycles", full=200, short=10)
def cycles(times: int, home: Path) -> list[Measure]:
    config = TrainingConfig(total_timesteps=FOREVER, run_dir=str(home))
    me = psutil.Process()
    # A whole test session has others: browsers, servers.
    others = set(me.children())

    def children() -> int:
        return len(set(me.children()) - others)

    leaks = {
        "descriptors": (me.num_fds, 2),
        "threads": (threading.active_count, 1),
        "processes": (children, 0),
        # Others come and go on the machine.
        "shared memory": (shared_memory, 3),
    }
    with Kernel(ToyManager) as kernel:

        def cycle() -> None:
            kernel.start(config)
            assert kernel.manager.stop_training()
            wait_for(lambda: children() <= 1)
            kernel.messages.clear()

        cycle()
        wait_for(lambda: not kernel.manager._is_alive())
        before = {name: count() for name, (count, _) in leaks.items()}
        for _ in range(times):
            cycle()
        grown = []
        for name, (count, limit) in leaks.items():
            measure = Measure(f"{name} +", limit, "")
            wait_for_calm = time.monotonic() + 5
            while count() > before[name] + limit and time.monotonic() < wait_for_calm:
                time.sleep(0.05)
            measure.add(max(0, count() - before[name]))
            grown.append(measure)
        return [*grown, kernel.calls]


@case("slider events in a second", full=1_000, short=1_000)
def slider(times: int, home: Path) -> list[Measure]:
    config = TrainingConfig(total_timesteps=FOREVER, run_dir=str(home))
    with Kernel(ToyManager) as kernel:
        kernel.start(config)
        speeds = [0.1 + 0.9 * number / times for number in range(times)]
        began = time.monotonic()
        for number, speed in enumerate(speeds):
            kernel.call("set_speed", speed)
            time.sleep(max(0.0, began + number / times - time.monotonic()))
        kernel.until_trained()
        wait_for(lambda: len(kernel.of_type("command")) >= times)
        assert [m["values"]["speed"] for m in kernel.of_type("command")] == speeds
        assert kernel.manager.stop_training()
        kernel.until_told("stopped")
        check_told(kernel)
        return [kernel.calls]


@case("malformed messages from the browser", full=10_000, short=1_000)
def malformed(times: int, home: Path) -> list[Measure]:
    config = TrainingConfig(total_timesteps=FOREVER, run_dir=str(home))
    handled = Measure("message", 0.1)
    with (
        mock.patch.object(panel_module, "TrainingManager", ToyManager),
        TrainingPanel(config) as panel,
    ):
        panel.start()
        wait_for(lambda: panel.status == "Training")
        before = psutil.Process().memory_info().rss
        for _ in range(times):
            with handled.timed():
                panel.widget._handle(None, _nonsense(), [])
        assert panel.status == "Training"
        assert (panel._view, panel._speed) == (config.view, config.speed)
        episodes = panel._history.episodes
        wait_for(lambda: panel._history.episodes > episodes)
        grown = Measure("memory +", 20, "MB")
        grown.add((psutil.Process().memory_info().rss - before) / MEGABYTE)
        return [handled, grown]


def _nonsense() -> Any:
    """Return something that is no message."""
    values = (None, True, -1, 10**30, math.nan, math.inf, "", "x" * 100_000, [], {})
    words = ("type", "command", "since", "speed", "view", "id", "start!", "set_speed")
    junk: Any = random.choice(values)
    for _ in range(random.randrange(3)):
        junk = {random.choice(words): junk, "type": random.choice((*words, junk))}
    return junk


@case("seconds of 100,000 episodes a minute", full=60, short=3)
def many_episodes(times: int, home: Path) -> list[Measure]:
    config = TrainingConfig(total_timesteps=FOREVER, run_dir=str(home))
    # The toy needs some time itself; so do others on the machine.
    pace = 0.5 * 60 / EPISODES_A_MINUTE * ROLLOUT / 5
    rate = Measure("seconds per 100,000 episodes", 60)
    with (
        mock.patch.dict(os.environ, {PACE: str(pace)}),
        Kernel(ToyManager) as kernel,
    ):
        kernel.start(config)
        kernel.until_trained(1_000)
        began, before = time.monotonic(), len(kernel.of_type("episode"))
        time.sleep(times)
        done = len(kernel.of_type("episode")) - before
        rate.add((time.monotonic() - began) / done * EPISODES_A_MINUTE)
        assert kernel.manager.stop_training()
        kernel.until_told("stopped")
        check_told(kernel)
        return [rate, kernel.calls]


@case("seconds that the listener stalls, at full speed", full=10, short=10)
def stalled(times: int, home: Path) -> list[Measure]:
    config = TrainingConfig(total_timesteps=FOREVER, run_dir=str(home))
    grown = Measure("memory of the training process +", 20, "MB")
    slowed = Measure("slower while stalled", 0.3, "of its speed")
    with (
        mock.patch.dict(os.environ, FULL_SPEED),
        Kernel(ToyManager) as kernel,
    ):
        is_stalled = threading.Event()

        def listen(message: dict[str, Any]) -> None:
            while is_stalled.is_set():
                time.sleep(0.01)
            kernel.messages.append(message)

        kernel.manager._on_message = listen
        kernel.start(config)
        kernel.until_trained(1_000)
        process = psutil.Process(kernel.pid)
        before = process.memory_info().rss
        speeds: dict[bool, list[float]] = {False: [], True: []}
        # By turns: the machine has other things to do, too.
        for stalls in (False, True) * TURNS:
            (is_stalled.set if stalls else is_stalled.clear)()
            speeds[stalls].append(episodes_on_disk(kernel.run, times / TURNS))
            grown.add((process.memory_info().rss - before) / MEGABYTE)
        is_stalled.clear()
        slowed.add(1 - median(speeds[True]) / median(speeds[False]))
        assert kernel.manager.stop_training()
        kernel.until_told("stopped")
        check_told(kernel)
        return [grown, slowed, kernel.calls]
