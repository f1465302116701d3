"""Browsers come and go; each is a store that takes updates, as `js/store.ts` is one."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import numpy as np
import psutil

from tests.faults.kills import FOREVER
from tests.faults.matrix import Measure, case, episodes_on_disk, wait_for
from tests.faults.toy import FULL_SPEED, ToyManager
from tetris_widget.config import TrainingConfig
from tetris_widget.panel import panel as panel_module
from tetris_widget.panel.panel import TrainingPanel
from tetris_widget.panel.widget import TrainingWidget

HEARD_SECONDS = 1.0
MEGABYTE = 1e6
TURNS = 5
# What a run tells in a second, about. By then all that is bounded is full.
EPISODES_A_SECOND = 100
MESSAGES_A_SECOND = 10
WARMING_SECONDS = 120
BEST, BEST_EPISODE = 1_000_000, 15_000
FRAME = ("piece", "rotation", "row", "column", "lines", "pieces")


class Tab:
    """One view of the panel: what it knows from the messages it was sent."""

    def __init__(self, panel: TrainingPanel) -> None:
        self._panel = panel
        self.seq = 0
        self.episodes = 0
        self.series: dict[str, Any] = {}
        self.is_visible = True

    def sync(self) -> None:
        """Ask for everything since what is known."""
        content = {"type": "sync", "since": self.seq}
        self._panel.widget._handle(None, content, [])

    def take(self, update: dict[str, Any], buffers: list[bytes]) -> None:
        """Take an update in, unless something before it is missing."""
        if not self.is_visible or update.get("type") != "update":
            return
        if update["since"] > self.seq or (update["since"] and not self.seq):
            return
        if update["since"] == 0:
            self.series = {}
        self.seq = max(self.seq, update["seq"])
        self.episodes = update["status"]["episodes"]
        for one in update["series"]:
            columns = np.frombuffer(buffers[one["buffer"]]).reshape(4, -1)
            epoch, held = self.series.get(one["name"], (-1, columns[:, :0]))
            if epoch != one["epoch"]:
                held = columns[:, :0]
            whole = np.concatenate([held[:, : one["start"]], columns], axis=1)
            self.series[one["name"]] = one["epoch"], whole


def send_to(tabs: list[Tab]) -> Any:
    """Return what stands in for a widget's `send`."""

    def send(self: Any, content: Any, buffers: Any = None) -> None:
        for tab in tabs:
            tab.take(content, buffers)

    return send


@contextmanager
def panel_with(home: Path, tabs: list[Tab]) -> Iterator[TrainingPanel]:
    """A panel that trains the toy and sends to these tabs."""

    config = TrainingConfig(total_timesteps=FOREVER, run_dir=str(home))
    with (
        mock.patch.object(panel_module, "TrainingManager", ToyManager),
        mock.patch.object(TrainingWidget, "send", send_to(tabs)),
        TrainingPanel(config) as panel,
    ):
        panel.start()
        wait_for(lambda: panel.status == "Training")
        yield panel


def check_shown(tab: Tab, panel: TrainingPanel) -> None:
    """A tab shows what the kernel has; and that is what is on disk."""
    panel.stop()
    wait_for(lambda: panel.status == "Stopped")
    wait_for(lambda: panel._history.episodes == len(panel.episodes))
    # Hosts that drop messages ask twice a second.
    for _ in range(2):
        tab.sync()
    assert tab.episodes == len(panel.episodes)
    for name in panel._history.names():
        shown, kept = tab.series[name][1], panel._history.series(name)
        np.testing.assert_array_equal(shown, kept, err_msg=name)


@case("browser: reload", full=20, short=3)
def reload(times: int, home: Path) -> list[Measure]:
    heard = Measure("everything after", HEARD_SECONDS)
    tabs: list[Tab] = []
    with panel_with(home, tabs) as panel:
        for _ in range(times):
            tabs[:] = [Tab(panel)]
            with heard.timed():
                before = panel._history.episodes
                tabs[0].sync()
                wait_for(lambda before=before: tabs[0].episodes >= before)
            time.sleep(0.1)
        check_shown(tabs[0], panel)
    return [heard]


@case("browser: seconds that the tab is closed", full=60, short=2)
def closed_tab(times: int, home: Path) -> list[Measure]:
    heard = Measure("everything after", HEARD_SECONDS)
    tabs: list[Tab] = []
    with panel_with(home, tabs) as panel:
        tabs.append(Tab(panel))
        tabs[0].sync()
        time.sleep(0.3)
        tabs[0].is_visible = False
        time.sleep(times)
        tabs[0].is_visible = True
        with heard.timed():
            before = panel._history.episodes
            tabs[0].sync()
            wait_for(lambda: tabs[0].episodes >= before)
        check_shown(tabs[0], panel)
    return [heard]


@case("browser: minutes of messages while the tab is closed, at full speed", 60, 1)
def closed_for_long(times: int, home: Path) -> list[Measure]:
    """Feed a panel what a run tells in so many minutes, while its view is away."""
    heard = Measure("everything after", HEARD_SECONDS)
    grown = Measure("memory +", 20, "MB")
    tabs: list[Tab] = []
    me = psutil.Process()
    config = TrainingConfig(run_dir=str(home))
    with (
        mock.patch.object(TrainingWidget, "send", send_to(tabs)),
        TrainingPanel(config) as panel,
    ):
        tab = Tab(panel)
        tabs.append(tab)
        feed(panel, seconds=WARMING_SECONDS, since=0)
        tab.is_visible = False
        before = me.memory_info().rss
        feed(panel, seconds=60 * times, since=WARMING_SECONDS)
        grown.add((me.memory_info().rss - before) / MEGABYTE)
        tab.is_visible = True
        with heard.timed():
            tab.sync()
        assert tab.episodes == EPISODES_A_SECOND * (WARMING_SECONDS + 60 * times)
        assert set(tab.series) == set(panel._history.names()) >= {"train/loss"}
        for name, (_, shown) in tab.series.items():
            np.testing.assert_array_equal(shown, panel._history.series(name))
        # The game that stood out, and the last.
        timesteps, _, most, _ = tab.series["episode/lines"][1]
        assert most.max() == BEST
        assert timesteps[-1] == tab.episodes
    return [heard, grown]


def feed(panel: TrainingPanel, seconds: int, since: int) -> None:
    """Tell a panel what a run tells in so many seconds."""
    cells = bytes(panel.config.rows * panel.config.columns)
    frame = {"cells": cells, "next": [], "over": False, **dict.fromkeys(FRAME, 0)}
    interval = {"mean_lines": 5.0, "lower": 4.0, "upper": 6.0, "cost": 0.05}
    for second in range(since, since + seconds):
        first = 1 + second * EPISODES_A_SECOND
        for number in range(first, first + EPISODES_A_SECOND):
            lines = BEST if number == BEST_EPISODE else number % 100
            game = {"episode": number, "lines": lines, "reward": 1.0, "length": 9}
            tell(panel, number, "episode", **game)
        timesteps = first + EPISODES_A_SECOND - 1
        for _ in range(MESSAGES_A_SECOND):
            metrics = {"values": {"train/loss": second % 7}, "fps": 1e4}
            tell(panel, timesteps, "metrics", **metrics, watch_cost=None)
            tell(panel, timesteps, "board", view="watch", frames=[frame])
        tell(panel, timesteps, "evaluation", **interval)
        tell(panel, timesteps, "info", kind="note", text=f"second {second}")


def tell(panel: TrainingPanel, timesteps: int, type_: str, **fields: Any) -> None:
    """Let a panel hear a message, as its manager does."""
    always = {"timesteps": timesteps, "elapsed": timesteps / EPISODES_A_SECOND}
    panel._on_message({"type": type_, "run_id": None, **always, **fields})


@case("browser: training's speed with the tab closed, against open", full=20, short=10)
def speed_of_training(times: int, home: Path) -> list[Measure]:
    slowed = Measure("slower while closed", 0.3, "of its speed")
    grown = Measure("memory +", 20, "MB")
    tabs: list[Tab] = []
    me = psutil.Process()
    speeds: dict[bool, list[float]] = {False: [], True: []}
    with mock.patch.dict(os.environ, FULL_SPEED), panel_with(home, tabs) as panel:
        tabs.append(Tab(panel))
        tabs[0].sync()
        run = panel._need_run()
        wait_for(lambda: panel._history.episodes > 1_000)
        before = me.memory_info().rss
        # By turns: the machine has other things to do, too.
        for is_open in (True, False) * TURNS:
            tabs[0].is_visible = is_open
            speeds[is_open].append(episodes_on_disk(run, times / 2 / TURNS))
        grown.add((me.memory_info().rss - before) / MEGABYTE)
        slowed.add(1 - median(speeds[False]) / median(speeds[True]))
        tabs[0].is_visible = True
        check_shown(tabs[0], panel)
    return [slowed, grown]


@case("browser: seconds of two tabs, one of them now and then", full=20, short=2)
def two_tabs(times: int, home: Path) -> list[Measure]:
    heard = Measure("everything after", HEARD_SECONDS)
    tabs: list[Tab] = []
    with panel_with(home, tabs) as panel:
        tabs += [Tab(panel), Tab(panel)]
        end = time.monotonic() + times
        while time.monotonic() < end:
            tabs[1].is_visible = not tabs[1].is_visible
            for tab in tabs:
                with heard.timed():
                    tab.sync()
            time.sleep(0.2)
        tabs[1].is_visible = True
        check_shown(tabs[0], panel)
        check_shown(tabs[1], panel)
    return [heard]
