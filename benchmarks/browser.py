"""What a person at the notebook waits for: measured in JupyterLab, in a real browser.

Prints a table, with goals: Start to the first evaluation that is on screen, cold and
warm; a click on Pause or Stop to the state that is shown, in every situation; messages
a second; the time to redraw the charts with a million points behind them; the browser's
heap.

Run by `make bench`; about half an hour.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser

from benchmarks.figures import p95, row
from tests.e2e.lab import PANEL, Notebook, open_browser, open_notebook, serve_lab

PRESSES = 20
COLD_STARTS = 3
WARM_STARTS = 10
CHARTED_POINTS = 1_000_000
COUNTED_SECONDS = 10

SHOW = """
from tetris_widget import TrainingPanel, TrainingConfig
panel = TrainingPanel(TrainingConfig(total_timesteps=1_000_000_000{options}))
panel.display()
"""
# The smallest board, on which games are over at once.
SHORT_GAMES = ", rows=4, columns=4, n_envs=256, n_steps=16, batch_size=4096"
HEAP_EPISODES = (100_000, 400_000, 700_000, 1_000_000)
# Most of the time goes into gradient updates.
UPDATING = ", n_epochs=60"
# Until the notebook is closed.
BUSY_CELL = "import time; time.sleep(3600)"

# Not that of the run before, which is shown until the next one begins.
# It may be "0.05 (95 %: 0 to 0.31)", and "at least 8,711 (no game ended)".
FIRST_EVALUATION = r"^(Starting|Training).*evaluation (at least )?\d"

# Milliseconds from a click until the page shows what is waited for.
CLICK = """([name, pattern]) => new Promise((resolve, reject) => {
  const panel = document.querySelector('[aria-label="Tetris training"]');
  const shows = () => new RegExp(pattern).test(panel.textContent);
  const button = [...panel.querySelectorAll('button')]
    .find((one) => one.textContent === name);
  const started = performance.now();
  const timer = setTimeout(() => reject(`no ${pattern} after ${name}`), 60000);
  // What an earlier run has left on screen does not count.
  let isNews = !shows();
  const observer = new MutationObserver(() => {
    if (!shows()) isNews = true;
    if (!isNews || !shows()) return;
    observer.disconnect();
    clearTimeout(timer);
    resolve(performance.now() - started);
  });
  observer.observe(panel, { subtree: true, childList: true, characterData: true });
  button.click();
})"""
# Milliseconds that each animation frame takes, with the drawing that it leaves to
# microtasks.
TIME_FRAMES = """
  window.frameTimes = [];
  const request = window.requestAnimationFrame.bind(window);
  window.requestAnimationFrame = (callback) => request((time) => {
    const started = performance.now();
    callback(time);
    queueMicrotask(() => frameTimes.push(performance.now() - started));
  });
"""
# A million finished games, through the same door as those of a real run.
FILL = """
with panel._lock:
    for i in range({points}):
        panel._history.add(dict(type='episode', episode=i + 1, timesteps=30 * i,
            reward=float(i % 97), lines=i % 97, length=30))
    panel._figures['timesteps'] = 30 * {points}
panel._changed()
"""
ADD = """
with panel._lock:
    i = panel._history.episodes
    panel._history.add(dict(type='episode', episode=i + 1, timesteps=30 * i,
        reward=1.0, lines=1, length=30))
    panel._figures['timesteps'] = 30 * i
panel._changed()
"""


def click(notebook: Notebook, name: str, pattern: str) -> float:
    """Press a button; return the seconds until the panel's text has `pattern`."""
    return float(notebook.page.evaluate(CLICK, [name, pattern])) / 1000


def cold_start(notebook: Notebook) -> float:
    """Return seconds from Start, right after the display, to the first evaluation.

    The process that the display starts has had no time to get ready.
    """
    notebook.open([SHOW.format(options="")])
    notebook.page.wait_for_selector("[role=status]")
    return click(notebook, "Start", FIRST_EVALUATION)


def warm_starts(notebook: Notebook) -> list[float]:
    """Return seconds from Start to the first evaluation shown, with a warm process."""
    notebook.open([SHOW.format(options="")])
    notebook.expect_status("Idle")
    found = []
    for _ in range(WARM_STARTS):
        warm_up(notebook)
        found.append(click(notebook, "Start", FIRST_EVALUATION))
        click(notebook, "Stop", "Stopped")
    return found


def warm_up(notebook: Notebook) -> None:
    """Wait until the next training process is ready."""
    ready = "print(panel._manager.get_status()['is_warm'])"
    notebook.wait_for(lambda: "True" in notebook.execute(ready), 60)


def click_latencies(
    notebook: Notebook, options: str, busy: bool
) -> dict[str, list[float]]:
    """Return seconds from a click on Pause, Resume and Stop to the state shown."""
    notebook.open([SHOW.format(options=options)])
    notebook.expect_status("Idle")
    if busy:
        notebook.page.evaluate(
            "(code) => { PANEL.sessionContext.session.kernel"
            ".requestExecute({code}); }".replace("PANEL", PANEL),
            BUSY_CELL,
        )
    names = ("Pause", "Resume", "Stop", "Stop while paused")
    found: dict[str, list[float]] = {name: [] for name in names}

    def time_click(button: str, pattern: str, name: str = "") -> None:
        notebook.page.wait_for_timeout(130)
        found[name or button].append(click(notebook, button, pattern))

    for _ in range(PRESSES):
        click(notebook, "Start", "Training")
        notebook.page.wait_for_timeout(500)
        time_click("Pause", "Paused")
        time_click("Resume", "Training")
        time_click("Stop", "Stopped")
        click(notebook, "Start", "Training")
        time_click("Pause", "Paused")
        time_click("Stop", "Stopped", "Stop while paused")
    return found


def messages_per_second(notebook: Notebook) -> float:
    """Return how many messages a second the browser gets, watching at full speed."""
    frames: list[float] = []

    def listen(socket: Any) -> None:
        socket.on("framereceived", lambda _: frames.append(0))

    notebook.page.on("websocket", listen)
    notebook.open([SHOW.format(options=", speed=1.0")])
    notebook.expect_status("Idle")
    notebook.button("Start").click()
    notebook.expect_status("Training")
    notebook.page.wait_for_timeout(2_000)
    before = len(frames)
    notebook.page.wait_for_timeout(1000 * COUNTED_SECONDS)
    return (len(frames) - before) / COUNTED_SECONDS


def redraws(notebook: Notebook) -> list[float]:
    """Return seconds of the frames that redraw the charts, a million points behind."""
    notebook.page.add_init_script(TIME_FRAMES)
    notebook.open([SHOW.format(options="")])
    notebook.expect_status("Idle")
    notebook.execute(FILL.format(points=CHARTED_POINTS))
    notebook.page.wait_for_timeout(1_500)
    times = []
    for _ in range(PRESSES):
        notebook.page.evaluate("frameTimes.length = 0")
        notebook.execute(ADD)
        notebook.page.wait_for_timeout(300)
        found = json.loads(notebook.page.evaluate("JSON.stringify(frameTimes)"))
        times.append(max(found) / 1000)
    return times


def heaps(notebook: Notebook) -> list[tuple[int, float]]:
    """Return the browser's heap in MB, collected, after so many episodes."""
    devtools = notebook.page.context.new_cdp_session(notebook.page)
    notebook.open([SHOW.format(options=SHORT_GAMES)])
    notebook.expect_status("Idle")
    notebook.button("Start").click()
    notebook.expect_status("Training")
    found = []
    for episodes in HEAP_EPISODES:
        said = "print(panel._history.episodes)"
        while int(notebook.execute(said)) < episodes:
            notebook.page.wait_for_timeout(1000)
        devtools.send("HeapProfiler.collectGarbage")
        used = devtools.send("Runtime.getHeapUsage")["usedSize"]
        found.append((int(notebook.execute(said)), used / 1e6))
    return found


def run(home: Path, browser: Browser) -> None:
    """Measure everything and print the table."""
    with serve_lab(home) as lab:
        cold = []
        for i in range(COLD_STARTS):
            with open_notebook(lab, browser, f"cold {i}") as notebook:
                cold.append(cold_start(notebook))
        print(row("Start to first evaluation, cold", cold, ".1f", " s", most=6.0))
        with open_notebook(lab, browser, "warm") as notebook:
            print_p95("Start to first evaluation, warm", warm_starts(notebook), 1_000)
        for name, options, busy in (
            ("in a default run", "", False),
            ("in gradient updates", UPDATING, False),
            ("while a cell runs", "", True),
        ):
            with open_notebook(lab, browser, name) as notebook:
                found = click_latencies(notebook, options, busy)
            for button, values in found.items():
                print_p95(f"{button}, {name}", values, 250)
        with open_notebook(lab, browser, "messages") as notebook:
            rate = messages_per_second(notebook)
        print(row("messages a second", [rate], ".1f", most=30))
        with open_notebook(lab, browser, "redraw") as notebook:
            print_p95("redraw, a million points behind", redraws(notebook), 16, ".1f")
        with open_notebook(lab, browser, "heap") as notebook:
            for episodes, used in heaps(notebook):
                name = f"browser's heap, {episodes:,} episodes"
                print(row(name, [used], ".1f", " MB"), flush=True)


def print_p95(
    name: str, seconds: list[float], most: float, style: str = ",.0f"
) -> None:
    """Print the 95th percentile, and the goal in milliseconds."""
    label = f"{name}, p95 of {len(seconds)}"
    figure = 1_000 * p95(seconds)
    print(row(label, [figure], style, " ms", most=most), flush=True)


def main() -> None:
    """Measure in one JupyterLab and one browser."""
    with tempfile.TemporaryDirectory() as home, open_browser() as browser:
        run(Path(home), browser)


if __name__ == "__main__":
    main()
