"""The manager against a real process: legal states, one process, never blocking."""

from __future__ import annotations

import contextlib
import errno
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.processes import command_line, guards_of, has_ended
from tests.toy import ToyManager
from tetris_widget.config import ConfigError, TrainingConfig
from tetris_widget.guard import LOOK_SECONDS, PATIENCE_SECONDS
from tetris_widget.manager import (
    DID_NOT_ANSWER,
    EXIT_SECONDS,
    KILL_SECONDS,
    _Heard,
)
from tetris_widget.run_directory import WHILE_STARTING, RunDirectory
from tetris_widget.training import worker
from tetris_widget.training.journal import Journal

pytestmark = pytest.mark.timeout(90)

# Generous: the goal of every call is 0.1 s.
CALL_SECONDS = 0.5
# From its kernel's death on, no training process lives longer.
ORPHAN_SECONDS = 7.0


class Listener:
    """Collects what a manager reports."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []

    def __call__(self, message: dict[str, Any]) -> None:
        self.messages.append(message)

    def states(self) -> list[str]:
        return [m["state"] for m in self.messages if m["type"] == "status"]


def wait_for(condition: Callable[[], Any], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.005)


@pytest.fixture
def config(tmp_path: Path) -> TrainingConfig:
    return TrainingConfig(run_dir=str(tmp_path / "runs"))


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture
def manager(listener: Listener) -> Iterator[ToyManager]:
    made = ToyManager(listener)
    yield made
    made.close()


def is_effectively(manager: ToyManager, state: str) -> Callable[[], bool]:
    return lambda: manager.get_status()["effective"] == state


def started(manager: ToyManager, config: TrainingConfig) -> ToyManager:
    assert manager.start_training(config)
    wait_for(is_effectively(manager, "running"))
    return manager


def test_a_new_manager_is_idle(manager: ToyManager) -> None:
    assert manager.status == "idle"
    assert not manager.is_running()
    assert manager.pause_event.is_set()
    assert not manager.stop_event.is_set()
    assert manager.process is None


def test_start_pause_resume_stop(
    manager: ToyManager, config: TrainingConfig, listener: Listener
) -> None:
    started(manager, config)
    assert manager.pause_training()
    assert manager.status == "paused"
    assert not manager.pause_event.is_set()
    wait_for(is_effectively(manager, "paused"))
    assert manager.resume_training()
    assert manager.status == "running"
    wait_for(is_effectively(manager, "running"))
    assert manager.stop_training()
    assert manager.status == manager.get_status()["effective"] == "stopped"
    states = ["running", "paused", "running", "stopped"]
    wait_for(lambda: listener.states() == states)


def test_what_makes_no_sense_is_false_and_changes_nothing(
    manager: ToyManager, config: TrainingConfig
) -> None:
    assert not manager.pause_training()
    assert not manager.resume_training()
    assert not manager.request_stop()
    manager.set_speed(0.5)
    manager.set_mode(True)
    assert manager.status == "idle"
    started(manager, config)
    pid = manager.get_status()["pid"]
    assert not manager.start_training(config)
    assert not manager.resume_training()
    assert manager.get_status()["pid"] == pid
    assert manager.pause_training()
    assert not manager.pause_training()


def test_stop_while_paused(manager: ToyManager, config: TrainingConfig) -> None:
    started(manager, config)
    manager.pause_training()
    wait_for(is_effectively(manager, "paused"))
    before = time.monotonic()
    assert manager.stop_training()
    assert time.monotonic() - before < 2.5
    assert manager.status == "stopped"


def test_commands_reach_the_process(
    manager: ToyManager, config: TrainingConfig, listener: Listener
) -> None:
    started(manager, config)
    manager.set_mode(True)
    manager.set_speed(5)
    manager.set_view("watch")
    assert manager.set_reward({"lines": 2})

    def texts() -> list[str]:
        return [m["text"] for m in listener.messages if m["type"] == "info"]

    wait_for(lambda: len(texts()) == 4)
    assert texts() == [
        "{'command': 'set_mode', 'visual': True}",
        "{'command': 'set_speed', 'speed': 1.0}",
        "{'command': 'set_view', 'view': 'watch'}",
        "{'command': 'set_reward', 'reward': {'lines': 2.0}}",
    ]


def test_a_reward_that_cannot_be_is_refused(manager: ToyManager) -> None:
    with pytest.raises(ValueError, match="did you mean 'holes'"):
        manager.set_reward({"hole": 1.0})
    assert not manager.set_reward({"holes": -1.0})  # nothing runs


@pytest.mark.parametrize("speed", [float("nan"), float("inf"), "fast", None, True])
def test_a_speed_that_is_no_number_is_refused(manager: ToyManager, speed: Any) -> None:
    with pytest.raises(ValueError, match="speed"):
        manager.set_speed(speed)


def test_a_second_run_has_fresh_channels(
    manager: ToyManager, config: TrainingConfig
) -> None:
    started(manager, config)
    first = manager.get_status()["run_dir"]
    events = manager.pause_event, manager.stop_event
    manager.stop_training()
    started(manager, config)
    assert manager.get_status()["run_dir"] != first
    assert manager.pause_event not in events
    assert manager.pause_event.is_set()
    assert not manager.stop_event.is_set()


class SlowToSpawn(ToyManager):
    """Its second process begins when all is known of the first one's death."""

    def _spawn(self, job: dict[str, Any]) -> None:
        if self.process is not None:
            self.process.join(20)
            time.sleep(0.3)
        super()._spawn(job)


def test_the_death_of_the_process_before_says_nothing_about_a_run(
    config: TrainingConfig, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOY_FAULT", "linger")
    manager = SlowToSpawn(listener)
    started(manager, config)
    manager.stop_training()
    time.sleep(0.1)  # the reader waits for the death by now
    started(manager, config)
    run = RunDirectory(manager.get_status()["run_dir"])
    assert run.state()["state"] == "starting"
    assert run.last_seq() == 0
    assert listener.states() == ["running", "stopped", "running"]
    manager.close()


class Blocked(Listener):
    """Takes its time to hear of an end."""

    def __init__(self) -> None:
        super().__init__()
        self.heard = threading.Event()
        self.goes_on = threading.Event()

    def __call__(self, message: dict[str, Any]) -> None:
        super().__call__(message)
        if message.get("state") == "stopped":
            self.heard.set()
            self.goes_on.wait(20)


def test_a_run_may_begin_while_the_end_of_another_is_told(
    config: TrainingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener = Blocked()
    manager = ToyManager(listener)
    monkeypatch.setenv("TOY_FAULT", "mute")
    assert manager.start_training(config)
    assert listener.heard.wait(20)
    assert manager.wait(20)
    monkeypatch.delenv("TOY_FAULT")
    started(manager, config)
    pid = manager.get_status()["pid"]
    listener.goes_on.set()
    wait_for(lambda: not has_thread("training-reader", more_than=1))
    assert manager.get_status()["effective"] == "running"
    assert manager.get_status()["pid"] == pid
    manager.close()


def has_thread(name: str, more_than: int) -> bool:
    return sum(thread.name == name for thread in threading.enumerate()) > more_than


def test_every_process_has_a_stop_ladder_of_its_own(
    manager: ToyManager, config: TrainingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOY_FAULT", "linger")
    started(manager, config)
    assert manager.stop_training()
    monkeypatch.setenv("TOY_FAULT", "deaf")
    # While the ladder of the one before waits for its death.
    started(manager, config)
    assert manager.stop_training(timeout=30)
    assert manager.get_status()["rung"] == "SIGKILL"


def test_a_large_configuration_fits_a_prepared_process(
    manager: ToyManager, config: TrainingConfig, listener: Listener
) -> None:
    manager.prepare()
    wait_for(lambda: listener.states() == ["ready"])
    pid = manager.get_status()["pid"]
    large = {"text": "x" * 10_000}
    started(manager, config.replace(env_id="CartPole-v1", env_kwargs=large))
    assert manager.get_status()["pid"] == pid


class WithoutProcesses(ToyManager):
    """The system gives it none, at first."""

    is_refused = True

    def _spawn(self, job: dict[str, Any]) -> None:
        if self.is_refused:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        super()._spawn(job)


def test_a_process_that_the_system_refuses_is_a_failure_and_start_works_again(
    config: TrainingConfig, listener: Listener
) -> None:
    manager = WithoutProcesses(listener)
    assert not manager.start_training(config)
    status = manager.get_status()
    assert (status["status"], status["effective"]) == ("failed", "failed")
    assert "cannot start a training process: " in status["reason"]
    assert listener.states() == ["failed"]
    run = RunDirectory(status["run_dir"])
    assert run.state()["reason"] == status["reason"]
    manager.is_refused = False
    started(manager, config)
    manager.close()


def test_a_prepared_process_takes_the_run(
    manager: ToyManager, config: TrainingConfig, listener: Listener
) -> None:
    manager.prepare()
    manager.prepare()
    wait_for(lambda: listener.states() == ["ready"])
    assert manager.status == "idle"
    pid = manager.get_status()["pid"]
    started(manager, config)
    assert manager.get_status()["pid"] == pid


def test_close_ends_a_prepared_process(manager: ToyManager, listener: Listener) -> None:
    manager.prepare()
    wait_for(listener.states)
    pid = manager.get_status()["pid"]
    manager.close()
    wait_for(lambda: not psutil.pid_exists(pid))


@pytest.mark.parametrize("paused", [False, True])
def test_a_killed_process_is_failed_with_the_reason(
    paused: bool, manager: ToyManager, config: TrainingConfig, listener: Listener
) -> None:
    started(manager, config)
    if paused:
        manager.pause_training()
        wait_for(is_effectively(manager, "paused"))
    os.kill(manager.get_status()["pid"], signal.SIGKILL)
    wait_for(lambda: manager.status == "failed", 5)
    assert "SIGKILL" in manager.get_status()["reason"]
    wait_for(lambda: listener.states()[-1] == "failed")
    for call in (manager.pause_training, manager.resume_training, manager.get_status):
        before = time.monotonic()
        call()
        assert time.monotonic() - before < CALL_SECONDS
    started(manager, config)


@pytest.mark.parametrize(
    ("fault", "reason"), [("exit", "exit code 0"), ("crash", "SIGSEGV")]
)
def test_an_end_without_a_word_is_a_failure(
    fault: str,
    reason: str,
    manager: ToyManager,
    config: TrainingConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TOY_FAULT", fault)
    assert manager.start_training(config)
    wait_for(lambda: manager.status == "failed")
    assert reason in manager.get_status()["reason"]


def test_a_process_that_hangs_is_killed(
    manager: ToyManager,
    config: TrainingConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TOY_FAULT", "deaf")
    started(manager, config)
    assert manager.stop_training(timeout=30)
    assert manager.status == "stopped"
    assert "SIGKILL" in manager.get_status()["reason"]
    # Not for lack of memory, as when the system kills it.
    assert manager.get_status()["reason"] == DID_NOT_ANSWER


def test_a_run_that_is_stopped_while_it_starts_says_so(
    manager: ToyManager,
    config: TrainingConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TOY_FAULT", "asleep")
    assert manager.start_training(config)
    assert manager.stop_training(timeout=30)
    assert manager.status == "stopped"
    assert manager.get_status()["reason"] == WHILE_STARTING
    run = RunDirectory(manager.get_status()["run_dir"])
    wait_for(lambda: run.state().get("reason") == WHILE_STARTING)


def test_the_first_run_has_the_queues_and_events_that_were_there(
    manager: ToyManager, config: TrainingConfig
) -> None:
    def channels() -> list[Any]:
        events = [manager.pause_event, manager.stop_event]
        return [*events, manager.metrics_queue, manager.command_queue]

    before = channels()
    # However long they were there, that is no silence of a process; and a run begins
    # as it should, whatever was done with them.
    manager.metrics_queue.pulse._time.value -= 1_000
    manager.pause_event.clear()
    manager.stop_event.set()
    assert manager.start_training(config)
    assert manager.get_status()["not_responding"] is None
    wait_for(is_effectively(manager, "running"))
    assert all(a is b for a, b in zip(channels(), before, strict=True))
    assert manager.stop_training()
    # What an old process may still hold is not for the next one.
    started(manager, config)
    assert not any(a is b for a, b in zip(channels(), before, strict=True))


HANGS = """
import os, sys, time
from pathlib import Path
from tests.toy import ToyManager
from tetris_widget.config import TrainingConfig
if __name__ == "__main__":
    manager = ToyManager({listener})
    assert manager.start_training(TrainingConfig(run_dir={home!r}))
    while manager.get_status()["effective"] != "running":
        if {listener} is None and not manager.metrics_queue.empty():
            manager.metrics_queue.get()
        time.sleep(0.01)
    # In one piece, and not between what the listener prints.
    Path("written").write_text(str(manager.get_status()["pid"]))
    os.replace("written", "pid")
    {then}
"""
NOT_YET_ENDED = "time.sleep(1000)"


@contextlib.contextmanager
def a_kernel_whose_training_hangs(
    home: Path, fault: str = "deaf", listener: str = "print", then: str = NOT_YET_ENDED
) -> Iterator[tuple[subprocess.Popen[bytes], psutil.Process]]:
    """Give a kernel's process, and the one that trains: both are gone afterwards."""
    script = home / "script.py"
    script.write_text(HANGS.format(home=str(home), listener=listener, then=then))
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd()), "TOY_FAULT": fault}
    kernel = subprocess.Popen([sys.executable, script], env=environment, cwd=home)
    pid = home / "pid"
    try:
        wait_for(pid.exists)
        worker = psutil.Process(int(pid.read_text()))
        try:
            yield kernel, worker
        finally:
            if worker.is_running():
                worker.kill()
    finally:
        kernel.kill()
        kernel.wait(20)


@pytest.mark.skipif(os.name == "nt", reason="there is no guard")
@pytest.mark.parametrize("fault", ["deaf", "stopped by a signal"])
def test_a_process_that_hangs_does_not_outlive_its_kernel(
    fault: str, tmp_path: Path
) -> None:
    with a_kernel_whose_training_hangs(tmp_path, fault) as (kernel, worker):
        if fault != "deaf":
            worker.suspend()
        wait_for(lambda: guards_of(psutil.Process(kernel.pid)))
        guards = guards_of(psutil.Process(kernel.pid))
        before = time.monotonic()
        kernel.kill()
        kernel.wait(20)
        wait_for(lambda: has_ended(worker), 20)
        # One that is not deaf has its time to write a checkpoint, and to leave.
        assert PATIENCE_SECONDS <= time.monotonic() - before <= ORPHAN_SECONDS
        assert len(guards) == 1
        wait_for(lambda: has_ended(guards[0]))


def test_a_process_that_answers_has_its_time_when_its_kernel_is_gone() -> None:
    longest = worker.PARENT_CHECK_SECONDS + worker.DEADLINE_SECONDS
    assert longest <= PATIENCE_SECONDS
    assert PATIENCE_SECONDS + LOOK_SECONDS < ORPHAN_SECONDS


@pytest.mark.parametrize("listener", ["print", "None"])
def test_a_process_that_hangs_does_not_keep_its_kernel_from_ending(
    listener: str, tmp_path: Path
) -> None:
    training = a_kernel_whose_training_hangs(tmp_path, "deaf", listener, then="pass")
    with training as (kernel, worker):
        assert kernel.wait(EXIT_SECONDS + KILL_SECONDS + 10) == 0
        assert not worker.is_running()
    (path,) = tmp_path.glob("*/run.json")
    recorded = RunDirectory(path.parent).state()
    assert (recorded["state"], recorded["reason"]) == ("stopped", DID_NOT_ANSWER)
    assert recorded["rung"] == "SIGKILL"


def test_a_forked_child_of_the_kernel_ends_without_the_training(
    tmp_path: Path,
) -> None:
    ended = "os.waitpid(os.fork() or sys.exit(), 0); Path('ended').touch()"
    then = f"{ended}; time.sleep(99)"
    with a_kernel_whose_training_hangs(tmp_path, then=then) as (_, worker):
        wait_for((tmp_path / "ended").exists)
        assert worker.is_running()


def test_a_guard_kills_a_group_whose_parent_is_gone_and_nobody_else() -> None:
    family = "sleep 100 & sleep 100"
    reader, writer = os.pipe()
    with subprocess.Popen(["sh", "-c", family], start_new_session=True) as worker:
        wait_for(psutil.Process(worker.pid).children)
        (child,) = psutil.Process(worker.pid).children()[:1]
        guarding = "from tetris_widget import guard; import sys; guard.start"
        start = f"{guarding}(sys.executable, {worker.pid}, {reader}, 0.2)"
        command = [sys.executable, "-c", start]
        # What has ended: its number may be another's by now.
        os.close(writer)
        subprocess.run(command, pass_fds=[reader], check=True, timeout=60)
        time.sleep(1.0)
        assert worker.poll() is None
        assert child.is_running()
        os.close(reader)
        reader, writer = os.pipe()
        command[-1] = f"{guarding}(sys.executable, {worker.pid}, {reader}, 0.2)"
        subprocess.run(command, pass_fds=[reader], check=True, timeout=60)
        assert worker.wait(20) == -signal.SIGKILL
        wait_for(lambda: has_ended(child))
    os.close(reader)
    os.close(writer)


def test_without_a_listener_the_queue_is_the_callers(config: TrainingConfig) -> None:
    manager = ToyManager()
    assert manager.start_training(config)
    assert manager.metrics_queue.get(timeout=20)["state"] == "running"
    assert manager.get_status()["effective"] == "running"
    manager.set_speed(1.0)
    assert manager.stop_training()
    assert manager.status == "stopped"
    manager.close()


def test_an_unread_queue_does_not_keep_it_from_ending(config: TrainingConfig) -> None:
    manager = ToyManager()
    assert manager.start_training(config)
    time.sleep(1)
    assert manager.stop_training(timeout=20)
    with pytest.raises(queue.Empty):
        while True:
            manager.metrics_queue.get(timeout=0.5)
    manager.close()


def test_a_directory_that_cannot_be_written_fails_and_start_works_again(
    manager: ToyManager, config: TrainingConfig, tmp_path: Path
) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("not a directory")
    assert not manager.start_training(config.replace(run_dir=str(in_the_way)))
    assert manager.status == "failed"
    assert str(in_the_way) in manager.get_status()["reason"]
    started(manager, config)


def test_what_cannot_be_resumed_raises_and_changes_nothing(
    manager: ToyManager, config: TrainingConfig, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"config\.json"):
        manager.start_training({}, resume=tmp_path / "nowhere")
    run = RunDirectory.create(config)
    before = run.config_file.read_text(), run.state()
    with pytest.raises(ConfigError, match="columns: 9 is refused; this run has 10"):
        manager.start_training({"columns": 9}, resume=run)
    assert (run.config_file.read_text(), run.state()) == before
    assert manager.status == "idle"
    assert manager.process is None


def test_a_run_is_resumed_in_its_directory_with_what_may_change(
    manager: ToyManager, config: TrainingConfig
) -> None:
    started(manager, config)
    manager.stop_training()
    run = RunDirectory(manager.get_status()["run_dir"])
    assert run.state()["state"] == "stopped"
    assert manager.start_training({"total_timesteps": 7}, resume=run)
    assert run.state()["state"] == "starting"
    assert manager.get_status()["run_dir"] == str(run.path)
    assert run.config() == config.replace(total_timesteps=7)
    wait_for(is_effectively(manager, "running"))


def end_in_the_journal(run: RunDirectory, state: str) -> None:
    """Let a run's journal have its end, and a run.json from before that."""
    before = run.state_file.read_text()
    run.record_end(state, "the goal is reached", 0, timesteps=7, elapsed=0.5)
    run.state_file.write_text(before)


@pytest.mark.parametrize("run_json", ["stale", "lost"])
def test_an_adopted_run_has_ended_as_its_journal_says(
    run_json: str, manager: ToyManager, config: TrainingConfig
) -> None:
    run = RunDirectory.create(config)
    end_in_the_journal(run, "finished")
    if run_json == "lost":
        run.state_file.unlink()
    written = run.journal_file.read_bytes()
    assert manager.adopt(run)
    status = manager.get_status()
    assert (status["status"], status["effective"]) == ("finished", "finished")
    assert status["reason"] == "the goal is reached"
    assert run.journal_file.read_bytes() == written
    recorded = run.state()
    assert (recorded["state"], recorded["timesteps"]) == ("finished", 7)


def test_the_end_before_a_resume_is_not_the_end_of_an_adopted_run(
    manager: ToyManager, config: TrainingConfig
) -> None:
    run = RunDirectory.create(config)
    end_in_the_journal(run, "finished")
    run.reopen(config)
    assert manager.adopt(run)
    assert manager.status == "failed"
    assert manager.get_status()["reason"] == "its training process ended without a word"
    assert [entry["state"] for entry in run.journal()] == ["finished", "failed"]


def test_a_checkpoint_needs_a_name_for_a_file(manager: ToyManager) -> None:
    with pytest.raises(ValueError, match="name: 'a/b' is refused"):
        manager.save_checkpoint("a/b")


def test_a_bad_config_raises_before_anything_starts(manager: ToyManager) -> None:
    with pytest.raises(ConfigError, match="rows"):
        manager.start_training({"rows": 2})
    assert manager.process is None


def test_an_interrupt_while_starting_is_not_for_the_process(
    manager: ToyManager, config: TrainingConfig
) -> None:
    assert manager.start_training(config)
    # It has no handler of its own yet.
    os.kill(manager.get_status()["pid"], signal.SIGINT)
    wait_for(is_effectively(manager, "running"))


def test_calls_from_many_threads_start_one_process(
    manager: ToyManager, config: TrainingConfig
) -> None:
    results: list[bool] = []
    threads = [
        threading.Thread(target=lambda: results.append(manager.start_training(config)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert results.count(True) == 1


def test_start_and_stop_leak_nothing(
    manager: ToyManager, config: TrainingConfig
) -> None:
    def cycle() -> None:
        started(manager, config)
        manager.stop_training()

    cycle()
    me = psutil.Process()
    wait_for(lambda: not _toys(me))
    descriptors, threads = me.num_fds(), threading.active_count()
    for _ in range(5):
        cycle()
    wait_for(lambda: not _toys(me))
    wait_for(lambda: not guards_of(me))
    assert psutil.STATUS_ZOMBIE not in [child.status() for child in me.children()]
    wait_for(lambda: threading.active_count() <= threads + 1)
    assert me.num_fds() <= descriptors + 4


def test_the_kernel_needs_no_torch() -> None:
    code = (
        "import sys; from tetris_widget.manager import TrainingManager; "
        "TrainingManager(); bad = {'torch', 'numba', 'IPython', 'anywidget', 'pandas'}"
        "; sys.exit(str(bad & set(sys.modules)) if bad & set(sys.modules) else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def _toys(me: psutil.Process) -> list[psutil.Process]:
    return [child for child in me.children() if "spawn_main" in command_line(child)]


def journalled(*kinds: str) -> list[dict[str, Any]]:
    """Return what a training process tells, one of each kind in order."""
    fields: dict[str, dict[str, Any]] = {
        "episode": {"env": 0, "reward": 1.0, "lines": 2, "length": 3},
        "status": {"state": "paused", "reason": None, "detail": None},
    }
    always = {"timesteps": 7, "elapsed": 0.5}
    return [
        {"type": kind, "episode": number, **always, **fields[kind]}
        for number, kind in enumerate(kinds, 1)
    ]


def told_of(
    run: RunDirectory, arriving: list[dict[str, Any]]
) -> tuple[list[int], list[int]]:
    """Let a manager hear what arrives; return the numbers told, and reads of the disk.

    Each read is given as the number that it began after.
    """
    told: list[int] = []
    reads: list[int] = []
    manager = ToyManager(lambda message: told.append(message["seq"]))
    heard = _Heard(run, 0, 0)
    since = run.since

    def count(seq: int, at_most: int | None = None) -> list[dict[str, Any]]:
        reads.append(seq)
        return since(seq, at_most)

    run.since = count  # type: ignore[method-assign]
    for message in arriving:
        manager._deliver(heard, {**message, "run_id": run.run_id})
    manager.close()
    return told, reads


@pytest.mark.parametrize(
    ("kinds", "reads"),
    [
        # All that is there is told at once, and read once.
        (["episode"] * 9, [0]),
        # A state that is still on its way is waited for.
        (["episode"] * 5 + ["status"] + ["episode"] * 3, [0, 6]),
    ],
)
def test_who_is_behind_reads_the_disk_but_once(
    kinds: list[str], reads: list[int], tmp_path: Path
) -> None:
    run = RunDirectory.create(TrainingConfig(run_dir=str(tmp_path)))
    messages = journalled(*kinds)
    Journal(run, pytest.fail).write(messages)
    # Of those between, the queue has lost all but this one and states.
    lossy = [m for m in messages if m["seq"] in (3, 9) or m["type"] == "status"]
    assert told_of(run, lossy) == (list(range(1, 10)), reads)


def test_what_is_not_written_yet_is_told_when_it_comes(tmp_path: Path) -> None:
    run = RunDirectory.create(TrainingConfig(run_dir=str(tmp_path)))
    messages = journalled("episode", "episode", "status", "episode")
    journal = Journal(run, pytest.fail)
    journal.write(messages)
    # As if the last episode's file had been written, and the state's not yet.
    run.journal_file.write_text("")
    assert run.since(0)[-1]["seq"] == 4
    told, _ = told_of(run, messages[1:])
    assert told == [1, 2, 3, 4]


def test_a_process_that_waits_is_released_and_a_start_takes_another(
    manager: ToyManager, config: TrainingConfig, listener: Listener
) -> None:
    manager.release()
    manager.prepare()
    wait_for(lambda: listener.states() == ["ready"])
    process = manager.process
    assert process is not None
    manager.release()
    started(manager, config)
    assert manager.process is not process
    wait_for(lambda: not process.is_alive())
    manager.release()
    time.sleep(0.1)
    assert manager.get_status()["effective"] == "running"


def test_without_a_process_to_wait_there_is_one_at_the_start(
    config: TrainingConfig, listener: Listener
) -> None:
    manager = WithoutProcesses(listener)
    manager.prepare()
    assert manager.process is None
    assert manager.status == "idle"
    manager.is_refused = False
    started(manager, config)
    manager.close()


def test_a_checkpoint_that_is_not_there_changes_nothing_of_the_run(
    manager: ToyManager, config: TrainingConfig
) -> None:
    started(manager, config)
    manager.stop_training()
    run = RunDirectory(manager.get_status()["run_dir"])
    before = run.state_file.read_bytes()
    for name, reason in (
        ("typo", "no 'typo'; allowed: there is"),
        ("../up", "refused"),
    ):
        assert not manager.start_training({}, resume=run, checkpoint=name)
        assert manager.status == "failed"
        assert reason in manager.get_status()["reason"]
    assert run.state_file.read_bytes() == before
