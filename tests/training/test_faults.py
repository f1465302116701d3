"""What goes wrong in a real training process is told, and loses nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.training.faults import (
    COUNT_FILE,
    FAULT,
    CountingManager,
    FailingManager,
    FullDiskManager,
    FullForGoodManager,
)
from tests.training.test_worker import SMALL, Listener, start, wait_for
from tetris_widget.config import TrainingConfig
from tetris_widget.manager import TrainingManager
from tetris_widget.run_directory import RunDirectory

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def config(tmp_path: Path) -> TrainingConfig:
    return TrainingConfig(**SMALL, run_dir=str(tmp_path / "runs"))


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("raise", "RuntimeError: the board is on fire"),
        ("exit", "SystemExit: 0"),
        ("interrupt", "KeyboardInterrupt"),
        ("memory", "MemoryError: cannot allocate a board"),
        ("leave", "the training process ended without a word (exit code 0)"),
        ("segfault", "the training process was killed by SIGSEGV"),
    ],
)
def test_an_environment_that_fails_is_a_failure_with_that_reason(
    fault: str,
    reason: str,
    config: TrainingConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(FAULT, fault)
    count = tmp_path / "count"
    monkeypatch.setenv(COUNT_FILE, str(count))
    listener = Listener()
    manager = FailingManager(listener)
    assert manager.start_training(config)
    assert manager.wait(60)
    assert (manager.status, manager.get_status()["reason"]) == ("failed", reason)
    run = RunDirectory(manager.get_status()["run_dir"])
    told = [m["episode"] for m in listener.of_type("episode")]
    assert told
    kept = run.episodes()["episode"].tolist()
    assert kept[: len(told)] == told
    # Every game that has ended, to the very last.
    assert kept == list(range(1, len(count.read_text().splitlines()) + 1))
    assert run.state()["state"] == "failed"
    # Start works again, and the next one fails for the same reason: it did run.
    assert manager.start_training(config)
    assert manager.wait(60)
    assert manager.get_status()["reason"] == reason
    manager.close()


def test_training_goes_on_while_the_disk_is_full(config: TrainingConfig) -> None:
    listener = Listener()
    manager = FullDiskManager(listener)
    run = start(manager, config)

    def warnings() -> list[str]:
        infos = listener.of_type("info")
        return [m["text"] for m in infos if m["kind"] == "warning"]

    wait_for(lambda: any("could not save to" in text for text in warnings()))
    wait_for(lambda: any("works again" in text for text in warnings()))
    before = listener.last_timesteps()
    wait_for(lambda: listener.last_timesteps() > before)
    assert manager.stop_training()
    assert manager.status == "stopped"
    wait_for(lambda: listener.of_type("status")[-1]["state"] == "stopped")
    told = [m["episode"] for m in listener.of_type("episode")]
    assert run.episodes()["episode"].tolist() == told
    assert told == list(range(1, len(told) + 1))
    manager.close()


@pytest.mark.parametrize("end", ["failed", "stopped", "finished"])
def test_a_run_that_ends_while_the_disk_is_full_says_why(
    end: str, config: TrainingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    if end == "failed":
        monkeypatch.setenv(FAULT, "raise")
    listener = Listener()
    manager = FullForGoodManager(listener)
    steps = 300 if end == "finished" else 10**8
    run = start(manager, config.replace(total_timesteps=steps * config.n_envs))

    def warnings() -> list[str]:
        infos = listener.of_type("info")
        return [m["text"] for m in infos if m["kind"] == "warning"]

    wait_for(lambda: any("could not save to" in text for text in warnings()))
    if end == "stopped":
        assert manager.stop_training()
    assert manager.wait(60)
    reason = "RuntimeError: the board is on fire" if end == "failed" else None
    assert (manager.status, manager.get_status()["reason"]) == (end, reason)
    wait_for(lambda: listener.of_type("status")[-1]["state"] == end)
    # What it has on disk from before can be gone on with.
    told = [m["episode"] for m in listener.of_type("episode")]
    kept = run.episodes()["episode"].tolist()
    assert kept == told[: len(kept)]
    assert manager.start_training({"total_timesteps": 1}, resume=run)
    assert manager.wait(60)
    manager.close()


def test_training_goes_on_when_its_directory_is_deleted(
    config: TrainingConfig,
) -> None:
    listener = Listener()
    manager = TrainingManager(listener)
    run = start(manager, config)
    wait_for(lambda: len(listener.of_type("episode")) > 20)
    # At once, whatever is written to it meanwhile.
    shutil.rmtree(run.path.rename(run.path.parent / "deleted"), ignore_errors=True)
    wait_for(lambda: any(m["kind"] == "warning" for m in listener.of_type("info")))
    before = listener.last_timesteps()
    wait_for(lambda: listener.last_timesteps() > before)
    assert manager.stop_training()
    assert manager.status == "stopped"
    manager.close()


@pytest.mark.parametrize("n_envs", [1, 4, 8])
def test_what_is_told_equals_a_count_inside_the_environment(
    n_envs: int,
    config: TrainingConfig,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    count_file = tmp_path / "count"
    monkeypatch.setenv(COUNT_FILE, str(count_file))
    listener = Listener()
    manager = CountingManager(listener)
    small: dict[str, Any] = {"n_envs": n_envs, "total_timesteps": 6_000}
    small["reward"] = {"lines": 1.0}
    assert manager.start_training(config.replace(**small, batch_size=32))
    assert manager.wait(60)
    assert manager.status == "finished"
    wait_for(lambda: listener.of_type("status")[-1]["state"] == "finished")
    truth = [json.loads(line)[:2] for line in count_file.read_text().splitlines()]
    assert len(truth) > 100
    assert sum(lines for _, lines in truth) > 0
    episodes = listener.of_type("episode")
    assert [[m["env"], m["lines"]] for m in episodes] == truth
    assert [m["reward"] for m in episodes] == [lines for _, lines in truth]
    kept = RunDirectory(manager.get_status()["run_dir"]).episodes()
    assert kept[["env", "lines"]].to_numpy().tolist() == truth
    best = max(lines for _, lines in truth)
    told = [m["best_lines"] for m in listener.of_type("info") if m["kind"] == "best"]
    assert max(told) == best
    manager.close()
