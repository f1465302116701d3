"""Real training in a real process: control, counts, crashes, orphans."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.training.runs import small_preset
from tetris_widget.config import PRESETS, TrainingConfig
from tetris_widget.manager import TrainingManager
from tetris_widget.run_directory import WHILE_STARTING, RunDirectory, read_metadata
from tetris_widget.training import worker
from tetris_widget.training.environments import build_env
from tetris_widget.training.policies import load_model

pytestmark = pytest.mark.timeout(120)

SMALL: dict[str, Any] = {
    "rows": 10,
    "columns": 6,
    "n_envs": 4,
    "n_steps": 32,
    "batch_size": 128,
    "total_timesteps": 1_000_000_000,
    "evaluation_games": 4,
    "evaluation_max_pieces": 100,
}


class Listener:
    """Collects what a manager reports."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []

    def __call__(self, message: dict[str, Any]) -> None:
        self.messages.append(message)

    def of_type(self, kind: str) -> list[dict[str, Any]]:
        return [m for m in list(self.messages) if m["type"] == kind]

    def texts(self) -> list[str]:
        return [m["text"] for m in self.of_type("info")]

    def last_timesteps(self) -> int:
        metrics = self.of_type("metrics")
        return int(metrics[-1]["timesteps"]) if metrics else 0


def wait_for(condition: Callable[[], Any], seconds: float = 40.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.005)


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture
def manager(listener: Listener) -> Iterator[TrainingManager]:
    made = TrainingManager(listener)
    yield made
    made.close()


@pytest.fixture
def config(tmp_path: Path) -> TrainingConfig:
    return TrainingConfig(**SMALL, run_dir=str(tmp_path / "runs"))


def is_effectively(manager: TrainingManager, state: str) -> Callable[[], bool]:
    return lambda: manager.get_status()["effective"] == state


def start(manager: TrainingManager, config: TrainingConfig) -> RunDirectory:
    assert manager.start_training(config)
    wait_for(is_effectively(manager, "running"))
    return RunDirectory(manager.get_status()["run_dir"])


def test_a_run_from_start_to_stop(
    manager: TrainingManager, listener: Listener, config: TrainingConfig
) -> None:
    run = start(manager, config)
    wait_for(lambda: listener.of_type("episode"))
    wait_for(lambda: listener.of_type("evaluation"))
    wait_for(lambda: listener.of_type("board"))

    manager.pause_training()
    wait_for(is_effectively(manager, "paused"), 5)
    wait_for(lambda: not _grows(listener.last_timesteps))
    boards = len(listener.of_type("board"))
    manager.set_view("step")
    manager.set_speed(1.0)
    time.sleep(0.3)
    assert len(listener.of_type("board")) == boards
    before = listener.last_timesteps()

    manager.resume_training()
    wait_for(lambda: listener.last_timesteps() > before + 1_000)
    wait_for(lambda: listener.of_type("board")[-1]["view"] == "step")

    # As the specification has it: env 0's own steps, or nothing.
    manager.set_view("watch")
    manager.set_mode(True)
    wait_for(lambda: "Mode: visual" in listener.texts())
    wait_for(lambda: listener.of_type("board")[-1]["view"] == "step")
    manager.set_mode(False)
    wait_for(lambda: "Mode: headless" in listener.texts())
    wait_for(lambda: not _grows(lambda: len(listener.of_type("board"))))

    assert manager.stop_training()
    assert manager.status == "stopped"
    wait_for(lambda: listener.of_type("status")[-1]["state"] == "stopped")
    told = [m["episode"] for m in listener.of_type("episode")]
    assert told == run.episodes()["episode"].tolist()
    assert told == list(range(1, len(told) + 1))
    assert run.state()["state"] == "stopped"
    assert run.last_model_file.exists()
    assert not run.metrics().empty
    assert not run.evaluations().empty


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_trains_is_evaluated_and_leaves_its_best_model(
    name: str, manager: TrainingManager, listener: Listener, tmp_path: Path
) -> None:
    config = small_preset(name, tmp_path)
    run = start(manager, config)
    wait_for(lambda: listener.of_type("evaluation"), 80)
    wait_for(lambda: best_models(listener), 80)
    assert manager.stop_training()
    assert manager.status == "stopped"
    told = listener.of_type("evaluation")[0]
    assert told["games"] == 2
    assert 0 < told["pieces"] <= 40
    saved = read_metadata(run.best_evaluated_model_file)
    assert saved is not None
    assert saved["mean_lines"] == best_models(listener)[-1]["mean_lines"]
    model = load_model(run.best_evaluated_model_file, config)
    env = build_env(config.replace(n_envs=2, n_steps=2, batch_size=2))
    actions, _ = model.predict(env.reset(), deterministic=True)  # type: ignore[arg-type]
    assert actions.shape == (2,)


def test_a_run_that_is_stopped_while_it_loads_ends_in_good_order(
    manager: TrainingManager, listener: Listener, config: TrainingConfig
) -> None:
    assert manager.start_training(config)
    wait_for(lambda: listener.of_type("status"))
    assert manager.stop_training(timeout=30)
    assert manager.status == "stopped"
    assert manager.get_status()["reason"] == WHILE_STARTING
    run = RunDirectory(manager.get_status()["run_dir"])
    assert run.holder() is None
    assert run.episodes().empty
    assert run.state()["state"] == "stopped"
    # Start works again.
    start(manager, config)
    assert manager.stop_training()


def best_models(listener: Listener) -> list[dict[str, Any]]:
    return [m for m in listener.of_type("info") if m["kind"] == "best_eval"]


def test_a_run_that_reaches_its_timesteps_is_finished(
    manager: TrainingManager, listener: Listener, config: TrainingConfig
) -> None:
    assert manager.start_training(config.replace(total_timesteps=2_000))
    assert manager.wait(60)
    assert manager.status == "finished"
    loading = listener.of_type("status")[0]
    assert loading["state"] == "starting"
    assert "torch" in loading["detail"]


def test_a_run_that_reaches_its_goal_is_finished_and_says_so(
    manager: TrainingManager, listener: Listener, config: TrainingConfig
) -> None:
    assert manager.start_training(config.replace(target_lines=0.5))
    assert manager.wait(60)
    reason = "reached 0.5 lines per game"
    wait_for(lambda: listener.of_type("status")[-1]["state"] == "finished")
    assert listener.of_type("status")[-1]["reason"] == reason
    assert manager.get_status()["reason"] == reason
    run = RunDirectory(manager.get_status()["run_dir"])
    assert run.state()["reason"] == reason
    assert run.last_model_file.exists()


def test_the_default_config_makes_a_best_model_that_plain_sb3_loads(
    manager: TrainingManager, listener: Listener, tmp_path: Path
) -> None:
    from stable_baselines3 import PPO

    run = start(manager, TrainingConfig(run_dir=str(tmp_path)))
    wait_for(run.best_model_file.exists)
    manager.stop_training()
    PPO.load(run.best_model_file, device="cpu")


@pytest.mark.parametrize("paused", [False, True])
def test_sigkill_is_told_and_episodes_are_kept(
    paused: bool,
    manager: TrainingManager,
    listener: Listener,
    config: TrainingConfig,
) -> None:
    run = start(manager, config)
    wait_for(lambda: len(listener.of_type("episode")) > 50)
    if paused:
        manager.pause_training()
        wait_for(is_effectively(manager, "paused"))
    os.kill(manager.get_status()["pid"], signal.SIGKILL)
    wait_for(is_effectively(manager, "failed"), 5)
    assert "SIGKILL" in manager.get_status()["reason"]
    wait_for(lambda: listener.of_type("status")[-1]["state"] == "failed", 5)
    told = {m["episode"] for m in listener.of_type("episode")}
    assert told <= set(run.episodes()["episode"])


@pytest.mark.parametrize("package", ["numba", "torch"])
def test_an_error_in_the_run_is_told_with_its_traceback(
    package: str,
    manager: TrainingManager,
    listener: Listener,
    config: TrainingConfig,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    # A package that cannot be imported, found before the real one.
    broken = tmp_path / "broken" / package
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text(f"raise ImportError('{package} is broken')")
    monkeypatch.setenv("PYTHONPATH", f"{broken.parent}{os.pathsep}{Path.cwd()}")
    monkeypatch.syspath_prepend(str(broken.parent))
    assert manager.start_training(config)
    assert manager.wait(60)
    assert manager.status == "failed"
    assert manager.get_status()["reason"] == f"ImportError: {package} is broken"
    wait_for(lambda: listener.of_type("error"))
    assert "__init__.py" in listener.of_type("error")[0]["traceback"]
    run = RunDirectory(manager.get_status()["run_dir"])
    assert [entry["type"] for entry in run.journal()][-2:] == ["error", "status"]
    assert f"{package} is broken" in run.log_file.read_text()


def test_a_warm_process_starts_at_once(
    manager: TrainingManager, listener: Listener, config: TrainingConfig
) -> None:
    manager.prepare()
    wait_for(lambda: [m["state"] for m in listener.of_type("status")][-1:] == ["ready"])
    before = time.monotonic()
    start(manager, config)
    assert time.monotonic() - before < 5
    details = [m["detail"] for m in listener.of_type("status")]
    assert "loading the game" in details


# Runs a worker in its own process, and tells what it has loaded by the end.
TELLING_WORKER = """
import json, multiprocessing, os, sys, threading
from pathlib import Path
from tetris_widget.ipc import BatchQueue, SharedEvent
from tetris_widget.training.worker import Worker

context = multiprocessing.get_context("spawn")
messages = BatchQueue(context)
events = SharedEvent(context, is_set=True), SharedEvent(context)
worker = Worker(messages, BatchQueue(context, maxsize=0), *events)
def read():
    while True:
        messages.get()
threading.Thread(target=read, daemon=True).start()
code = worker.main(json.loads(sys.argv[1]))
# Not `ru_maxrss`: a new process begins with its parent's.
status = Path("/proc/self/status").read_text()
kilobytes = int(status.split("VmHWM:")[1].split()[0])
Path(sys.argv[2]).write_text(json.dumps([sorted(sys.modules), kilobytes]))

"""
# What a run has no use for: compilers, tables, plots, the notebook's side.
UNWANTED = {
    "torch._dynamo",
    "torch._inductor",
    "sympy",
    "cv2",
    "pandas",
    "matplotlib",
    "torch.utils.tensorboard",
    "IPython",
    "ipywidgets",
    "anywidget",
}
# The goal for the default configuration, also of the first run on a machine; a replay
# buffer comes on top.
MAX_KILOBYTES = {"ppo": 450_000, "dqn": 1.3 * 450_000}


@pytest.mark.skipif(sys.platform != "linux", reason="memory is counted as on Linux")
@pytest.mark.parametrize(
    ("algorithm", "is_first"), [("ppo", False), ("dqn", False), ("ppo", True)]
)
def test_a_run_loads_no_more_than_it_needs(
    algorithm: str, is_first: bool, tmp_path: Path
) -> None:
    config = TrainingConfig(
        algorithm=algorithm, total_timesteps=10_000, run_dir=str(tmp_path)
    )
    run = RunDirectory.create(config)
    job = {"run_path": str(run.path)}
    told = tmp_path / "told.json"
    arguments = [sys.executable, "-c", TELLING_WORKER, json.dumps(job), str(told)]
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    if is_first:
        environment["NUMBA_CACHE_DIR"] = str(tmp_path / "cache")
    subprocess.run(arguments, check=True, env=environment)
    loaded, kilobytes = json.loads(told.read_text())
    assert run.state()["state"] == "finished"
    assert "torch" in loaded
    assert not UNWANTED & set(loaded)
    assert kilobytes < MAX_KILOBYTES[algorithm]


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("has_forked", [False, True])
def test_no_orphan_is_left_when_the_parent_dies(
    end: int, has_forked: bool, tmp_path: Path
) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import os, sys, time\n"
        "from tetris_widget.config import TrainingConfig\n"
        "from tetris_widget.manager import TrainingManager\n"
        "if __name__ == '__main__':\n"
        "    manager = TrainingManager()\n"
        f"    manager.start_training(TrainingConfig(run_dir={str(tmp_path)!r}))\n"
        "    print(manager.get_status()['pid'], flush=True)\n"
        "    while (manager.metrics_queue.get().get('timesteps') or 0) < 50_000:\n"
        "        pass\n"
        "    print('running', flush=True)\n"
        # Such a child has all that its parent has open.
        f"    if {has_forked} and not os.fork():\n"
        "        os.close(1)\n"
        "        time.sleep(20)\n"
        "        os._exit(0)\n"
        "    time.sleep(1000)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    with subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, text=True, env=environment
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert parent.stdout.readline() == "running\n"
        parent.send_signal(end)
        wait_for(lambda: not psutil.pid_exists(pid), 8)
    (path,) = tmp_path.glob("*/run.json")
    run = RunDirectory(path.parent)
    assert run.state()["state"] == "stopped"
    # The one of the start, and the one of the end.
    assert len(run.checkpoints()) == 2


def test_a_killed_run_goes_on_where_it_was(
    manager: TrainingManager, listener: Listener, config: TrainingConfig
) -> None:
    run = start(manager, config.replace(checkpoint_seconds=0.1))
    wait_for(lambda: len(run.checkpoints()) > 1)
    wait_for(lambda: len(listener.of_type("episode")) > 50)
    os.kill(manager.get_status()["pid"], signal.SIGKILL)
    wait_for(is_effectively(manager, "failed"), 5)
    killed_at = len(run.episodes())
    before = {e["episode"]: e["reward"] for e in listener.of_type("episode")}

    assert manager.start_training({}, resume=run)
    wait_for(is_effectively(manager, "running"))
    assert manager.get_status()["run_dir"] == str(run.path)
    wait_for(lambda: len(run.episodes()) > killed_at)
    assert manager.stop_training()
    assert run.episodes()["episode"].tolist() == list(range(1, len(run.episodes()) + 1))
    # What happened again is what had happened.
    again = dict(zip(run.episodes()["episode"], run.episodes()["reward"], strict=True))
    assert {number: again[number] for number in before} == before
    (mark,) = listener.of_type("resume")
    assert mark["timesteps"] > 0
    assert mark["is_exact"]


def test_a_worker_that_finds_its_run_taken_says_by_whom_and_touches_nothing(
    manager: TrainingManager, config: TrainingConfig
) -> None:
    assert manager.start_training(config)
    run = RunDirectory(manager.get_status()["run_dir"])
    with run.lock():
        assert manager.wait(60)
    assert manager.status == "failed"
    assert f"in use by process {os.getpid()}" in manager.get_status()["reason"]
    assert not run.journal_file.exists()
    assert run.checkpoints() == []


def test_a_stopped_run_can_be_resumed_at_once(
    manager: TrainingManager, config: TrainingConfig
) -> None:
    run = start(manager, config)
    for _ in range(3):
        assert manager.stop_training()
        assert manager.start_training({}, resume=run), manager.get_status()["reason"]
        wait_for(is_effectively(manager, "running"))


def test_a_second_writer_is_refused_with_the_first_ones_pid(
    manager: TrainingManager, config: TrainingConfig, listener: Listener
) -> None:
    run = start(manager, config)
    other = TrainingManager(Listener())
    assert not other.start_training({}, resume=str(run.path))
    pid = manager.get_status()["pid"]
    assert f"in use by process {pid}" in other.get_status()["reason"]
    assert other.status == "failed"
    assert manager.is_running()
    manager.stop_training()
    assert other.start_training({"total_timesteps": 1}, resume=str(run.path))
    assert other.wait(60)
    assert other.status == "finished"
    other.close()


def _grows(value: Callable[[], int]) -> bool:
    before = value()
    time.sleep(0.15)
    return value() > before


def test_without_room_for_temporary_files_a_process_can_print_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with worker._nameless_file() as file:
        assert file.write(b"said") == 4
        file.seek(0)
        assert file.read() == b""
