"""The training process is silent: it hangs, or is stopped by a signal."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path
from unittest import mock

import psutil

from tests.faults.kills import FOREVER
from tests.faults.matrix import Kernel, Measure, case, check_told, wait_for
from tests.faults.toy import FAULT, ToyManager
from tetris_widget.config import TrainingConfig
from tetris_widget.manager import (
    DID_NOT_ANSWER,
    KILL_SECONDS,
    READ_SECONDS,
    STOP_SECONDS,
    TERMINATE_SECONDS,
)

LADDER_SECONDS = STOP_SECONDS + TERMINATE_SECONDS + KILL_SECONDS
# A process that a signal has stopped says so with this delay at most, when it goes on.
ANSWER_SECONDS = 1.0


def details(kernel: Kernel) -> list[str]:
    """What the statuses have said of silence."""
    return [m["detail"] for m in kernel.of_type("status") if "not_responding" in m]


@case("SIGSTOP, SIGCONT", full=10, short=1)
def stopped_by_a_signal(times: int, home: Path) -> list[Measure]:
    config = TrainingConfig(total_timesteps=FOREVER, run_dir=str(home))
    said = Measure("not responding after", 3.0)
    answered = Measure("gone after SIGCONT", ANSWER_SECONDS)
    with Kernel(ToyManager) as kernel:
        kernel.start(config)
        for _ in range(times):
            kernel.until_trained()
            kernel.messages.clear()
            os.kill(kernel.pid, signal.SIGSTOP)
            said.add(wait_for(lambda: details(kernel)))
            found = kernel.status()["not_responding"]
            assert found["seconds"] >= 2
            told = details(kernel)[0]
            assert re.fullmatch(rf"not responding for \d s \({found['phase']}\)", told)
            assert kernel.is_("running")
            wait_for(lambda: len(details(kernel)) > 1)  # it is said each second
            os.kill(kernel.pid, signal.SIGCONT)
            answered.add(wait_for(lambda: details(kernel)[-1] is None))
            assert kernel.status()["not_responding"] is None
        assert kernel.manager.stop_training()
        return [said, answered, kernel.calls]


@case("native code hangs, then Stop; SIGTERM ignored, too", full=4, short=1)
def hangs(times: int, home: Path) -> list[Measure]:
    config = TrainingConfig(total_timesteps=FOREVER, run_dir=str(home))
    said = Measure("not responding after", 3.0)
    ended = Measure("stopped after", LADDER_SECONDS)
    with Kernel(ToyManager) as kernel:
        for number in range(times):
            kernel.messages.clear()
            fault = ("deaf", "hang")[number % 2]
            with mock.patch.dict(os.environ, {FAULT: fault}):
                kernel.start(config)
            silence = READ_SECONDS + 3.0
            wait_for(lambda: kernel.status()["silent_seconds"] > 0.3)
            began = time.monotonic() - kernel.status()["silent_seconds"]
            wait_for(lambda: details(kernel), silence)
            said.add(time.monotonic() - began)
            with ended.timed():
                assert kernel.manager.stop_training(LADDER_SECONDS)
            status = kernel.status()
            assert status["status"] == "stopped"
            assert status["rung"] == "SIGKILL", status
            kernel.until_told("stopped")
            # Native code that keeps Python's lock hears no SIGTERM.
            assert "SIGKILL" in status["reason"], status["reason"]
            assert status["reason"] == DID_NOT_ANSWER
            assert kernel.run.state()["rung"] == "SIGKILL"
            assert [*kernel.run.journal()][-1]["rung"] == "SIGKILL"
            check_told(kernel)
            kernel.start({}, resume=kernel.run)
            assert kernel.manager.stop_training()
        return [said, ended, kernel.calls]


@case("Stop while SIGSTOPped; a bounded stop_training", full=3, short=1)
def stop_of_a_stopped(times: int, home: Path) -> list[Measure]:
    config = TrainingConfig(total_timesteps=FOREVER, run_dir=str(home))
    ended = Measure("stopped after", LADDER_SECONDS)
    bounded = Measure("stop_training(0.5) returned after", 0.6)
    with Kernel(ToyManager) as kernel:
        for _ in range(times):
            kernel.start(config)
            kernel.until_trained()
            stop_by_a_signal(kernel)
            with ended.timed():
                with bounded.timed():
                    assert not kernel.manager.stop_training(0.5)
                assert kernel.manager.stop_training(LADDER_SECONDS)
            assert kernel.status()["rung"] == "SIGKILL"
            assert kernel.status()["reason"] == DID_NOT_ANSWER
        return [bounded, ended, kernel.calls]


def stop_by_a_signal(kernel: Kernel) -> None:
    """Stop the process, but not while it saves: then it is given longer to end."""
    while True:
        os.kill(kernel.pid, signal.SIGSTOP)
        wait_for(lambda: psutil.Process(kernel.pid).status() == psutil.STATUS_STOPPED)
        if kernel.status()["phase"] != "saving":
            return
        os.kill(kernel.pid, signal.SIGCONT)
        time.sleep(0.01)
