"""A toy training process: the manager's other side, without torch.

It follows the Events and commands like the real one, and breaks in the way that the
environment variable TOY_FAULT names.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import time
from pathlib import Path
from typing import Any

from tetris_widget.ipc import BatchQueue, SharedEvent
from tetris_widget.manager import TrainingManager
from tetris_widget.run_directory import RunDirectory

LINGER_SECONDS = 1.0


def toy_worker(
    job: dict[str, Any],
    metrics: BatchQueue,
    commands: BatchQueue,
    pause: SharedEvent,
    stop: SharedEvent,
) -> None:
    """Count timesteps until stopped."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if "warm" in job:
        ready = {"state": "ready", "reason": None, "detail": None}
        metrics.put({"type": "status", "run_id": None, **ready})
        while (job := commands.get())["command"] != "start":
            pass
    run_id = Path(job["run_path"]).name

    timesteps = 0

    def send(type_: str, **fields: Any) -> None:
        always = {"run_id": run_id, "timesteps": timesteps, "elapsed": timesteps / 1e3}
        metrics.put({"type": type_, **always, **fields})

    def send_status(state: str) -> None:
        send("status", state=state, reason=None, detail=None)

    fault = os.environ.get("TOY_FAULT", "")
    if fault == "asleep":
        time.sleep(1000)
    send_status("running")
    if fault == "exit":
        os._exit(0)
    if fault == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if fault == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(1000)
    if fault == "mute":
        # What it says of its end is on disk, and lost on its way.
        RunDirectory(job["run_path"]).record_end("stopped", None, 0)
        os._exit(0)
    while not stop.is_set():
        if not pause.is_set():
            send_status("paused")
            pause.wait()
            if not stop.is_set():
                send_status("running")
        with contextlib.suppress(queue.Empty):
            send("info", kind="note", text=str(commands.get_nowait()))
        timesteps += 1
        if timesteps % 10 == 0:
            send("metrics", fps=1e3, episodes=0, watch_cost=None, values={})
        time.sleep(0.001)
    RunDirectory(job["run_path"]).write_state("stopped", reason=None)
    send_status("stopped")
    if fault == "linger":
        time.sleep(LINGER_SECONDS)


class ToyManager(TrainingManager):
    """A manager of the toy process."""

    _training_worker = staticmethod(toy_worker)
