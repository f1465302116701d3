"""Whether an hour of streaming leaves memory as it was: worker, kernel and browser.

Prints a row now and then, while a default run is watched at full speed in JupyterLab.

Run by `python -m benchmarks.soak [MINUTES]`; the default is an hour.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.memory import resident
from tests.e2e.lab import Notebook, open_browser, open_notebook, serve_lab

MINUTES = 60
ROWS_OF_THE_TABLE = 20
SHOW = """
from tetris_widget import TrainingPanel, TrainingConfig
panel = TrainingPanel(TrainingConfig(total_timesteps=1_000_000_000, speed=1.0))
panel.display()
"""
ASK = """
import json, os
print(json.dumps([os.getpid(), panel._manager.get_status()['pid'],
                  panel._history.episodes, panel.status]))
"""


def sample(notebook: Notebook, devtools: Any) -> str:
    """Return a row: episodes, and MB of worker, kernel and the page's heap."""
    kernel, worker, episodes, status = json.loads(notebook.execute(ASK))
    devtools.send("HeapProfiler.collectGarbage")
    heap = devtools.send("Runtime.getHeapUsage")["usedSize"] / 1e6
    memory = f"{resident(worker):>6.0f} {resident(kernel):>6.0f} {heap:>7.1f}"
    return f"{episodes:>9,} {memory}  {status}"


def main(minutes: float) -> None:
    """Watch a run for so long."""
    with (
        tempfile.TemporaryDirectory() as home,
        serve_lab(Path(home)) as lab,
        open_browser() as browser,
        open_notebook(lab, browser, "soak") as notebook,
    ):
        notebook.open([SHOW])
        devtools = notebook.page.context.new_cdp_session(notebook.page)
        notebook.expect_status("Idle", 120)
        notebook.button("Start").click()
        notebook.expect_status("Training", 120)
        began = time.monotonic()
        print("minute  episodes worker kernel browser (MB)", flush=True)
        for row in range(1, ROWS_OF_THE_TABLE + 1):
            while time.monotonic() < began + row / ROWS_OF_THE_TABLE * 60 * minutes:
                notebook.page.wait_for_timeout(1000)
            minute = (time.monotonic() - began) / 60
            print(f"{minute:>6.1f} {sample(notebook, devtools)}", flush=True)


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else MINUTES)
