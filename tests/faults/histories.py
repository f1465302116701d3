"""Random histories of everything that a person, or bad luck, can do to a run."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import psutil
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from tests.faults.kills import FOREVER, assert_as_if_never_killed
from tests.faults.matrix import Kernel, Measure, case, check_told, wait_for
from tests.faults.toy import ToyManager
from tetris_widget.config import TrainingConfig
from tetris_widget.run_directory import TERMINAL, RunDirectory

STEPS = 25
LEGAL = {
    ("idle", "idle"),
    ("running", "starting"),
    ("running", "running"),
    # A click is ahead of the process's word, which may still be on its way.
    ("running", "paused"),
    ("paused", "starting"),
    ("paused", "running"),
    ("paused", "paused"),
    ("stopping", "starting"),
    ("stopping", "running"),
    ("stopping", "paused"),
    ("stopped", "stopped"),
    ("finished", "finished"),
    ("failed", "failed"),
}


class History(RuleBasedStateMachine):
    """One run directory at a time, and all that happens to it.

    What cannot be done at a moment is not done. A precondition would let depend on time
    what Hypothesis draws, which it refuses.
    """

    home: Path
    calls: Measure

    def __init__(self) -> None:
        super().__init__()
        self.kernel = Kernel(ToyManager)
        self.kernel.calls = type(self).calls  # type: ignore[assignment]
        self.kernel.manager = ToyManager(self.hear)
        # Seconds, and whether it dozes off at the end of a run, or at the next message.
        self.nap, self.naps_at_end = 0.0, False
        self.best = 0
        self.run: RunDirectory | None = None
        self.runs: list[RunDirectory] = []

    def hear(self, message: dict[str, Any]) -> None:
        """Listen, and now and then doze off over it."""
        if not self.naps_at_end or message.get("state") in TERMINAL:
            nap, self.nap = self.nap, 0.0
            time.sleep(nap)
        self.kernel.messages.append(message)

    @initialize()
    def begin(self) -> None:
        config = TrainingConfig(total_timesteps=FOREVER, run_dir=str(self.home))
        self.kernel.start(config)
        self.run = self.kernel.run
        self.runs.append(self.run)
        self.best = 0

    def is_running(self) -> bool:
        return bool(self.kernel.call("is_running"))

    @rule(seconds=st.floats(0, 0.1))
    def wait(self, seconds: float) -> None:
        time.sleep(seconds)

    @rule()
    def pause(self) -> None:
        before = self.kernel.status()["status"]
        assert self.kernel.call("pause_training") == (before == "running")

    @rule()
    def go_on(self) -> None:
        before = self.kernel.status()["status"]
        assert self.kernel.call("resume_training") == (before == "paused")

    @rule()
    def stop(self) -> None:
        asked = self.kernel.call("request_stop")
        assert not asked or self.kernel.status()["status"] in ("stopping", "stopped")

    @rule(seconds=st.floats(0, 0.5), at_end=st.booleans())
    def doze(self, seconds: float, at_end: bool) -> None:
        self.nap, self.naps_at_end = seconds, at_end

    @rule()
    def resume(self) -> None:
        if self.is_running():
            return
        assert self.run is not None
        self.check()
        self.kernel.start({}, resume=self.run)

    @rule()
    def resume_at_once(self) -> None:
        """Before the end was told, and perhaps before the process is gone."""
        if self.is_running():
            return
        self.kernel.start({}, resume=self.run)

    @rule()
    def start_at_once(self) -> None:
        """Another run takes the place of one whose end was not told yet."""
        if self.is_running():
            return
        self.begin()

    @rule(kills=st.booleans())
    def end_and_go_on_at_once(self, kills: bool) -> None:
        if self.is_running():
            self.kill() if kills else self.stop()
            wait_for(lambda: not self.is_running(), 10)
        self.resume_at_once()

    @rule()
    def kill(self) -> None:
        if not self.is_running():
            return
        pid = self.kernel.status()["pid"]
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            wait_for(lambda: not self.is_running(), 2)

    @rule(seconds=st.floats(0, 0.2))
    def stall(self, seconds: float) -> None:
        if not self.is_running():
            return
        pid = self.kernel.status()["pid"]
        if pid is not None:
            # It may be on its way out already.
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
                time.sleep(seconds)
                os.kill(pid, signal.SIGCONT)

    @rule()
    def attach(self) -> None:
        """Go on in another kernel, which begins with what is on disk."""
        if self.is_running():
            return
        assert self.run is not None
        self.check()
        wait_for(lambda: not self.kernel.manager._is_alive())
        self.kernel.manager = ToyManager(self.hear)
        assert self.kernel.call("adopt", self.run)

    @rule()
    def start_too_much(self) -> None:
        if self.is_running() and self.kernel.status()["status"] != "stopping":
            config = TrainingConfig(run_dir=str(self.home))
            assert not self.kernel.call("start_training", config)

    @invariant()
    def states_are_legal(self) -> None:
        status = self.kernel.status()
        assert (status["status"], status["effective"]) in LEGAL

    @invariant()
    def there_is_one_process_at_most(self) -> None:
        workers = [child for child in psutil.Process().children() if _is_toy(child)]
        # The one before may be on its way out.
        assert len(workers) <= 2
        if len(workers) == 2:
            wait_for(lambda: sum(map(_is_toy, psutil.Process().children())) < 2, 3)

    @invariant()
    def the_best_never_gets_worse(self) -> None:
        if self.run is None:
            return
        path = self.run.path / "best" / "metadata.json"
        if path.exists():
            best = json.loads(path.read_text())["best_lines"]
            assert best >= self.best
            self.best = best

    def check(self) -> None:
        """After the end: complete, in order, and what the disk has."""
        self.kernel.until_told(self.kernel.status()["status"])
        for run in self.runs:
            self.kernel.until_told_all(run)
            check_told(self.kernel, run)

    def teardown(self) -> None:
        if self.run is not None:
            assert self.kernel.manager.stop_training()
            self.check()
            for run in self.runs:
                assert_as_if_never_killed(run)
        self.kernel.manager.close()


def _is_toy(process: psutil.Process) -> bool:
    try:
        return "spawn_main" in " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return False


@case("random histories (Hypothesis)", full=60, short=4)
def histories(times: int, home: Path) -> list[Measure]:
    with Kernel(ToyManager) as kernel:
        attributes: dict[str, Any] = {"home": home, "calls": kernel.calls}
        machine = type("History", (History,), attributes)
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=times,
                stateful_step_count=STEPS,
                deadline=None,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            ),
        )
        return [kernel.calls]
