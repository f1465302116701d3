"""When checkpoints are taken, which are kept, and from which a run goes on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.training.runs import SMALL, Run, new_run, resumed
from tetris_widget.config import ConfigError, TrainingConfig
from tetris_widget.run_directory import RunDirectory
from tetris_widget.training.checkpoint import CheckpointError, read_checkpoint
from tetris_widget.training.checkpointer import KEPT, last_checkpoint

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def config(tmp_path: Path) -> TrainingConfig:
    return TrainingConfig(**SMALL, total_timesteps=400, run_dir=str(tmp_path))


def timesteps(run: RunDirectory) -> list[int]:
    return [read_checkpoint(path).timesteps for path in run.checkpoints()]


def refuse(*_: Any) -> None:
    """Be a full disk."""
    raise OSError(28, "No space left on device")


def wait_for(condition: Callable[[], Any], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.002)


def test_a_run_has_one_at_its_start_and_at_its_end(config: TrainingConfig) -> None:
    run = new_run(config)
    run.train()
    assert timesteps(run.run) == [448, 0]


def test_the_clock_takes_them_and_the_last_three_are_kept(
    config: TrainingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if nothing took any time: one at every rollout.
    monkeypatch.setattr("tetris_widget.training.checkpointer.FILE_SHARE", 1e9)
    run = new_run(config.replace(checkpoint_seconds=1e-9))
    run.train()
    assert timesteps(run.run) == [448, 384, 320]
    assert len(timesteps(run.run)) == KEPT


def test_they_never_cost_more_than_their_share(config: TrainingConfig) -> None:
    run = new_run(config.replace(checkpoint_seconds=1e-9))
    run.train()
    assert timesteps(run.run) == [448, 0]


@pytest.mark.parametrize("algorithm", ["ppo", "dqn"])
def test_a_pause_writes_one_and_so_does_a_stop(
    algorithm: str, config: TrainingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A snapshot at every boundary: none is older than a rollout.
    module = "tetris_widget.training.checkpointer"
    monkeypatch.setattr(f"{module}.MAX_SNAPSHOT_SECONDS", 0.0)
    forever = {"total_timesteps": 10**9, "algorithm": algorithm, "buffer_size": 999}
    run = new_run(config.replace(**forever))
    thread = threading.Thread(target=run.train)
    thread.start()
    wait_for(lambda: run.callback.num_timesteps > 1_000)
    run.pause.clear()
    wait_for(lambda: run.messages.of_type("status")[-1]["state"] == "paused")
    wait_for(lambda: len(run.run.checkpoints()) == 2)
    paused_at = timesteps(run.run)[0]
    # 64 timesteps are a ppo rollout; a dqn one is shorter, and always completed.
    assert 0 <= run.callback.num_timesteps - paused_at <= 64
    run.pause.set()
    wait_for(lambda: run.callback.num_timesteps > paused_at + 1_000)
    run.stop.set()
    thread.join(20)
    kept = timesteps(run.run)[0]
    assert kept > paused_at
    notes = [m["text"] for m in run.messages.of_type("info") if m["kind"] == "note"]
    again = run.callback.num_timesteps - kept
    assert notes == (
        [
            f"kept until timestep {kept:,}; the {again:,} after it happen "
            "again, the same, when the run is resumed"
        ]
        if again
        else []
    )


def test_a_failure_keeps_the_last_boundary(config: TrainingConfig) -> None:
    run = new_run(config.replace(total_timesteps=10**9))

    def fail() -> None:
        if run.callback.num_timesteps > 2_000:
            raise MemoryError("no more")

    run.callback.background.append(fail)
    with pytest.raises(MemoryError):
        run.train()
    assert 0 < timesteps(run.run)[0] <= 2_000


def test_a_named_one_is_kept_and_can_be_resumed_from(config: TrainingConfig) -> None:
    run = new_run(config.replace(total_timesteps=2_000))
    run.commands.put({"command": "save_checkpoint", "name": "früh"})
    run.commands.put({"command": "save_checkpoint", "name": "../up"})
    run.train()
    assert run.run.named_checkpoints() == ["früh"]
    assert "name: '../up' is refused" in run.messages.of_type("error")[0]["text"]
    notes = [m["text"] for m in run.messages.of_type("info") if m["kind"] == "note"]
    assert notes == ["checkpoint at 0 timesteps saved as 'früh'"]
    episodes = run.run.episodes().drop(columns="seconds")

    again = resumed(run.run.path, "früh")
    assert run.run.episodes().empty
    assert timesteps(run.run) == [0]
    again.train()
    assert again.run.episodes().drop(columns="seconds").equals(episodes)
    again.commands.put({"command": "save_checkpoint", "name": "früh"})
    again.callback._process_commands()
    assert "is there already" in again.messages.of_type("error")[0]["text"]
    kept = list(run.run.superseded_directory.glob("*/monitor.csv"))
    assert len(kept) == 1
    assert len(kept[0].read_text().splitlines()) == len(episodes)


def test_a_damaged_one_is_skipped_with_a_warning(config: TrainingConfig) -> None:
    run = new_run(config)
    run.train()
    newest = run.run.checkpoints()[0]
    newest.write_bytes(newest.read_bytes()[:5_000])
    again = resumed(run.run.path)
    (warning,) = [m["text"] for m in again.messages.of_type("info")]
    assert newest.name in warning
    assert "the checkpoint before it" in warning
    assert again.train() == "finished"
    assert timesteps(again.run) == [448, 0]
    (mark,) = again.messages.of_type("resume")
    assert mark["timesteps"] == 0


def test_without_any_a_run_cannot_be_resumed(
    config: TrainingConfig, tmp_path: Path
) -> None:
    run = RunDirectory.create(config)
    with pytest.raises(CheckpointError, match="start a new run"):
        last_checkpoint(run, None, pytest.fail)
    with pytest.raises(CheckpointError, match="no 'x'; allowed: there is none"):
        last_checkpoint(run, "x", pytest.fail)


def test_a_finished_run_takes_more_timesteps(config: TrainingConfig) -> None:
    run = new_run(config)
    assert run.train() == "finished"
    straight = new_run(config.replace(total_timesteps=1_000))
    straight.train()
    longer = resumed(run.run.path, total_timesteps=1_000)
    assert longer.train() == "finished"
    assert longer.run.config().total_timesteps == 1_000
    one, other = (
        item.run.episodes().drop(columns="seconds") for item in (straight, longer)
    )
    assert one.equals(other)


def test_a_run_that_is_done_finishes_at_once(config: TrainingConfig) -> None:
    run = new_run(config)
    run.train()
    again = resumed(run.run.path, total_timesteps=10)
    assert again.train() == "finished"
    assert again.callback.num_timesteps == 448


def test_what_made_the_run_cannot_be_changed(config: TrainingConfig) -> None:
    with pytest.raises(ConfigError, match="rows: 9 is refused; this run has 8"):
        config.for_resuming({"rows": 9})
    assert config.for_resuming({"speed": 1.0}).speed == 1.0


def test_the_callback_goes_on_counting(config: TrainingConfig) -> None:
    run = new_run(config)
    run.train()
    before = run.callback
    after = resumed(run.run.path).callback
    assert after.episode_rewards == before.episode_rewards
    assert after.episode_lines == before.episode_lines
    longer = resumed(run.run.path, total_timesteps=800)
    longer.train()
    assert longer.callback.episode_count > before.episode_count
    elapsed = [m["elapsed"] for m in longer.messages.of_type("episode")]
    assert min(elapsed) >= max(m["elapsed"] for m in run.messages.of_type("episode"))
    assert longer.callback.best_lines >= before.best_lines


def test_a_disk_that_refuses_is_told_once_and_training_goes_on(
    config: TrainingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = "tetris_widget.training.checkpointer"
    monkeypatch.setattr(f"{module}.FILE_SHARE", 1e9)
    run = new_run(config.replace(checkpoint_seconds=1e-9))
    with monkeypatch.context() as full:
        full.setattr(f"{module}.write_checkpoint", refuse)
        assert run.train() == "finished"
    texts = [m["text"] for m in run.messages.of_type("info") if m["kind"] == "warning"]
    assert texts == ["could not save a checkpoint: No space left on device"]
    run.session._checkpointer.save_end()
    assert "works again" in run.messages.of_type("info")[-1]["text"]


def test_none_counts_episodes_that_are_not_on_disk(
    config: TrainingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = new_run(config)

    monkeypatch.setattr(run.session._checkpointer, "_sync", refuse)
    assert run.train() == "finished"
    assert run.run.checkpoints() == []
    texts = [m["text"] for m in run.messages.of_type("info") if m["kind"] == "warning"]
    assert texts == ["could not save a checkpoint: No space left on device"]


def test_leftovers_of_a_killed_writer_are_no_checkpoints(
    config: TrainingConfig,
) -> None:
    run: Run = new_run(config)
    run.train()
    newest = run.run.checkpoints()[0]
    newest.with_name(f"{newest.name}.tmp.1-1").write_bytes(b"half")
    assert len(run.run.checkpoints()) == 2
    run.run.remove_leftovers()
    assert not list(run.run.path.rglob("*.tmp.*"))


@pytest.mark.parametrize("algorithm", ["ppo", "dqn"])
def test_one_that_is_asked_for_before_a_resumed_run_goes_on_is_where_it_was(
    algorithm: str, config: TrainingConfig
) -> None:
    options = {"total_timesteps": 2_000, "algorithm": algorithm, "buffer_size": 999}
    run = new_run(config.replace(**options))
    run.train(stop_at=600)
    before = read_checkpoint(run.run.checkpoints()[0])
    again = resumed(run.run.path)
    again.commands.put({"command": "save_checkpoint", "name": "at once"})
    again.train()
    after = read_checkpoint(run.run.named_checkpoint("at once"))
    assert after.timesteps == before.timesteps
    for name in ("python_generator", "numpy_generator", "action_generator"):
        assert after.values[name] == before.values[name], name
    for name in ("numpy_generator", "torch_generator"):
        assert np.array_equal(after.arrays[name], before.arrays[name]), name


def test_one_of_a_run_with_nothing_left_to_learn_is_where_it_was(
    config: TrainingConfig,
) -> None:
    run = new_run(config)
    run.train()
    before = read_checkpoint(run.run.checkpoints()[0])
    again = resumed(run.run.path)
    again.session._checkpointer.steer()  # so that it is written anew
    again.train()
    after = read_checkpoint(run.run.checkpoints()[0])
    assert after.timesteps == before.timesteps
    assert after.values["numpy_generator"] == before.values["numpy_generator"]
    for name in ("numpy_generator", "torch_generator"):
        assert np.array_equal(after.arrays[name], before.arrays[name]), name


def test_a_named_one_takes_the_place_of_another_of_the_same_timesteps(
    config: TrainingConfig,
) -> None:
    run = new_run(config.replace(total_timesteps=2_000))
    run.commands.put({"command": "save_checkpoint", "name": "early"})
    run.train()
    first = run.run.checkpoints()[-1]
    assert read_checkpoint(first).timesteps == 0
    first.write_bytes(b"damaged")
    resumed(run.run.path, "early")
    assert timesteps(run.run) == [0]


def test_a_resume_that_breaks_off_loses_no_episode(
    config: TrainingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = new_run(config.replace(total_timesteps=2_000))
    run.commands.put({"command": "save_checkpoint", "name": "early"})
    run.train()
    episodes = run.run.episodes()

    with monkeypatch.context() as full:
        full.setattr("tetris_widget.run_directory.shutil.copyfileobj", refuse)
        with pytest.raises(OSError, match="No space left"):
            resumed(run.run.path, "early")
    again = resumed(run.run.path, total_timesteps=3_000)
    assert run.run.episodes().equals(episodes)
    assert again.messages.of_type("resume")[0]["episode"] == len(episodes)


def test_one_with_a_name_that_a_disk_refuses_is_told_each_time(
    config: TrainingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = "tetris_widget.training.checkpointer"
    monkeypatch.setattr(f"{module}.write_checkpoint", refuse)
    run = new_run(config)
    for name in ("a", "b"):
        run.commands.put({"command": "save_checkpoint", "name": name})
    run.train()
    assert [m["text"] for m in run.messages.of_type("error")] == [
        f"Command refused: checkpoint {name!r} is not saved: No space left on device"
        for name in ("a", "b")
    ]
    assert not run.messages.of_type("command")


def test_metrics_come_as_often_as_a_resumed_run_is_told(config: TrainingConfig) -> None:
    seldom = {"total_timesteps": 10**9, "update_freq": 10**6}
    run = new_run(config.replace(**seldom))
    run.train(stop_at=300)
    again = resumed(run.run.path, update_freq=50)
    again.train(stop_at=800)
    came = [m["timesteps"] for m in again.messages.of_type("metrics")]
    assert len(came) > 5
