"""Browsers come and go; each is a store that takes updates, as `js/store.ts` is one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from tests.faults.kills import FOREVER
from tests.faults.matrix import Measure, case, wait_for
from tests.faults.toy import ToyManager
from tetris_widget.config import TrainingConfig
from tetris_widget.panel import panel as panel_module
from tetris_widget.panel.panel import TrainingPanel
from tetris_widget.panel.widget import TrainingWidget

HEARD_SECONDS = 1.0


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


@contextmanager
def panel_with(home: Path, tabs: list[Tab]) -> Iterator[TrainingPanel]:
    """A panel that trains the toy and sends to these tabs."""

    def send(self: Any, content: Any, buffers: Any = None) -> None:
        for tab in tabs:
            tab.take(content, buffers)

    config = TrainingConfig(total_timesteps=FOREVER, run_dir=str(home))
    with (
        mock.patch.object(panel_module, "TrainingManager", ToyManager),
        mock.patch.object(TrainingWidget, "send", send),
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
                tabs[0].sync()
                wait_for(lambda: tabs[0].episodes)
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
