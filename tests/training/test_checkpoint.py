"""Exact resume: interrupted and gone on with, or straight, it is the same run."""

from __future__ import annotations

import copy
import json
import os
import pickle
import platform
import random
import signal
import subprocess
import sys
import time
import zipfile
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO

from tests.training.runs import SMALL, Run, new_run, resumed
from tetris_widget.config import TrainingConfig
from tetris_widget.run_directory import RunDirectory, without_superseded
from tetris_widget.training.checkpoint import (
    BUFFER_ARRAYS,
    CheckpointError,
    Snapshot,
    read_checkpoint,
    restore,
    take_snapshot,
    write_checkpoint,
)

pytestmark = pytest.mark.timeout(180)

ALGORITHMS: dict[str, dict[str, Any]] = {
    "ppo": {},
    "maskable_ppo": {"policy": "mlp"},
    "a2c": {},
    # Its replay buffer is full before the stop, its first targets are updated after it.
    "dqn": {"buffer_size": 1_040, "batch_size": 16},
    "ppo by a network": {"algorithm": "ppo", "policy": "mlp"},
    "ppo by patterns": {
        "algorithm": "ppo",
        "observation": "board",
        "policy": "patterns",
    },
    "ppo by tuples": {"algorithm": "ppo", "observation": "heights", "policy": "tuples"},
    "ppo on the board": {"algorithm": "ppo", "observation": "board", "policy": "mlp"},
    "dqn on the board": {
        "algorithm": "dqn",
        "observation": "board",
        "policy": "mlp",
        "buffer_size": 1_040,
        "batch_size": 16,
    },
}
TOTAL, STOP_AT = 2_200, 1_110


def config_of(name: str, directory: Path) -> TrainingConfig:
    options = {"algorithm": name, **SMALL, **ALGORITHMS[name]}
    return TrainingConfig(**options, total_timesteps=TOTAL, run_dir=str(directory))


@pytest.fixture(scope="module")
def pairs(
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, tuple[RunDirectory, RunDirectory]]:
    """Straight runs, and runs that were stopped and resumed in a new process."""
    found = {}
    for name in ALGORITHMS:
        straight = new_run(config_of(name, tmp_path_factory.mktemp("straight")))
        assert straight.train() == "finished"
        stopped = new_run(config_of(name, tmp_path_factory.mktemp("resumed")))
        with pytest.MonkeyPatch.context() as patch:
            # A snapshot at every boundary, however quick the run is.
            module = "tetris_widget.training.checkpointer"
            patch.setattr(f"{module}.MAX_SNAPSHOT_SECONDS", 0.0)
            assert stopped.train(stop_at=STOP_AT) == "stopped"
        found[name] = straight.run, stopped.run
    paths = [str(stopped.path) for _, stopped in found.values()]
    subprocess.run(
        [sys.executable, "-m", "tests.training.runs", *paths],
        check=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
    )
    return found


def last(run: RunDirectory) -> Snapshot:
    return read_checkpoint(run.checkpoints()[0])


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_resumed_run_ends_like_a_straight_one_bit_for_bit(
    name: str, pairs: dict[str, tuple[RunDirectory, RunDirectory]]
) -> None:
    straight, again = pairs[name]
    first, second = last(straight), last(again)
    assert first.timesteps >= TOTAL
    assert_equal_parameters(first.parameters, second.parameters)
    np.testing.assert_equal(second.arrays, first.arrays)
    for snapshot in (first, second):
        # The clock's, and what evaluations were begun by it.
        del snapshot.values["reports"]["elapsed"]
        del snapshot.values["extra"]
    assert second.values == first.values


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_resumed_run_has_the_episodes_of_a_straight_one(
    name: str, pairs: dict[str, tuple[RunDirectory, RunDirectory]]
) -> None:
    straight, again = (run.episodes().drop(columns="seconds") for run in pairs[name])
    assert len(straight) > 50
    assert again.equals(straight)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_resumed_run_has_the_records_of_a_straight_one_and_a_mark(
    name: str, pairs: dict[str, tuple[RunDirectory, RunDirectory]]
) -> None:
    def records(run: RunDirectory) -> list[tuple[int, int, int]]:
        return [
            (entry["timesteps"], entry["episode"], entry["best_lines"])
            for entry in without_superseded(run.journal())
            if entry["type"] == "info" and entry["kind"] == "best"
        ]

    straight, again = pairs[name]
    assert records(straight) == records(again) != []
    (mark,) = [entry for entry in again.journal() if entry["type"] == "resume"]
    assert 0 < mark["timesteps"] < TOTAL
    assert mark["is_exact"]
    seconds = again.metrics()["elapsed"]
    assert seconds.is_monotonic_increasing
    assert again.metrics()["timesteps"].is_monotonic_increasing


def test_stopped_again_and_again_in_rollouts_and_updates_it_is_the_same(
    tmp_path: Path,
) -> None:
    config = config_of("ppo", tmp_path)
    straight = new_run(config)
    straight.train()
    run = new_run(config)
    assert run.train(stop_at=37) == "stopped"
    for stop_at in (300, 301, 900, 1_400):
        run = resumed(run.run.path)
        stop_in_an_update(run, stop_at)
        assert run.train() == "stopped"
        run = resumed(run.run.path)
        assert run.train(stop_at=stop_at + 99) == "stopped"
    run = resumed(run.run.path)
    assert run.train() == "finished"
    first, second = last(straight.run), last(run.run)
    assert_equal_parameters(first.parameters, second.parameters)
    np.testing.assert_equal(second.arrays, first.arrays)
    assert second.values["model"] == first.values["model"]
    one, other = (r.run.episodes().drop(columns="seconds") for r in (straight, run))
    assert other.equals(one)
    marks = [entry for entry in run.run.journal() if entry["type"] == "resume"]
    assert len(marks) == 9


def stop_in_an_update(run: Run, timesteps: int) -> None:
    """Let a run stop between two steps of its optimizer."""
    hook = run.callback._on_optimizer_step

    def stop_and_go_on(*arguments: Any) -> None:
        if run.callback.num_timesteps >= timesteps:
            run.stop.set()
        hook(*arguments)

    run.callback._on_optimizer_step = stop_and_go_on  # type: ignore[method-assign]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A checkpoint of a short run, and its session."""
    directory = tmp_path_factory.mktemp("small")
    run = new_run(config_of("ppo", directory).replace(total_timesteps=64))
    run.train()
    return run.run.checkpoints()[0], run.session


def test_taking_a_snapshot_draws_no_number_and_changes_nothing(small: Any) -> None:
    _, session = small
    model, reports = session._model, session._callback.get_state()
    first = take_snapshot(model, reports, {})
    second = take_snapshot(model, reports, {})
    np.testing.assert_equal(second.arrays, first.arrays)
    assert second.values == first.values


def test_a_snapshot_does_not_change_when_the_run_goes_on(tmp_path: Path) -> None:
    run = new_run(config_of("ppo", tmp_path))
    run.train(stop_at=200)
    model = run.session._model
    snapshot = take_snapshot(model, run.callback.get_state(), {})
    kept = copy.deepcopy(snapshot)
    model.learn(128, reset_num_timesteps=False)
    np.testing.assert_equal(snapshot.arrays, kept.arrays)
    assert snapshot.values == kept.values
    assert_equal_parameters(snapshot.parameters, kept.parameters)


@pytest.mark.parametrize("timesteps", [0, 600, 1_600])
def test_a_replay_buffer_is_restored_to_the_last_row(
    timesteps: int, tmp_path: Path
) -> None:
    config = config_of("dqn", tmp_path)
    run = new_run(config)
    run.train(stop_at=timesteps)
    checkpoint = tmp_path / "checkpoint.zip"
    model: Any = run.session._model
    state = run.callback.get_state()
    write_checkpoint(checkpoint, model, take_snapshot(model, state, {}))
    other: Any = new_run(config).session._model
    restore(other, read_checkpoint(checkpoint))
    before, after = model.replay_buffer, other.replay_buffer
    assert after.pos == before.pos
    assert after.full == before.full == (timesteps > 1_100)
    for name in (*BUFFER_ARRAYS, "next_observations"):
        filled = slice(None if before.full else before.pos)
        first, second = getattr(before, name)[filled], getattr(after, name)[filled]
        assert np.array_equal(first, second), name


def test_plain_sb3_loads_a_checkpoint(small: Any) -> None:
    path, session = small
    loaded = PPO.load(path, device="cpu")
    assert loaded.num_timesteps == 64
    theirs, ours = loaded.get_parameters(), session._model.get_parameters()
    assert_equal_parameters(theirs, ours)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_reading_runs_no_foreign_code(small: Any, tmp_path: Path) -> None:
    path, _ = small
    for name in ("policy.pth", "arrays/last_obs.npy", "data"):
        trap = tmp_path / "sprung"
        forged = tmp_path / "forged.zip"
        _replace_member(path, forged, name, pickle.dumps(_Trap(trap)))
        if name == "data":  # is there for plain SB3; never looked at here
            read_checkpoint(forged)
        else:
            with pytest.raises(CheckpointError, match="damaged, or no checkpoint"):
                read_checkpoint(forged)
        assert not trap.exists()


def test_truncated_anywhere_it_is_refused(small: Any, tmp_path: Path) -> None:
    path, _ = small
    data = path.read_bytes()
    broken = tmp_path / "broken.zip"
    for size in range(0, len(data), 1024):
        broken.write_bytes(data[:size])
        with pytest.raises(CheckpointError, match="damaged"):
            read_checkpoint(broken)


def test_a_changed_byte_is_noticed_or_does_not_matter(
    small: Any, tmp_path: Path
) -> None:
    path, _ = small
    data = path.read_bytes()
    whole = read_checkpoint(path)
    broken = tmp_path / "broken.zip"
    rng = random.Random(0)
    directory = data.index(b"PK\x01\x02")  # a zip's own, which no checksum guards
    places = [rng.randrange(len(data)) for _ in range(200)]
    places += [rng.randrange(directory, len(data)) for _ in range(200)]
    # The very end says where the directory is.
    places += range(len(data) - 22, len(data))
    noticed = 0
    for at in places:
        broken.write_bytes(data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :])
        try:
            read = read_checkpoint(broken)
        except CheckpointError:
            noticed += 1
            continue
        np.testing.assert_equal(read.arrays, whole.arrays)
        assert read.values == whole.values
        assert_equal_parameters(read.parameters, whole.parameters)
    assert noticed > 200


def test_killed_while_writing_there_is_always_a_whole_one(
    small: Any, tmp_path: Path
) -> None:
    _, session = small
    model = session._model
    saved = tmp_path / "checkpoint.zip"
    rng = random.Random(0)
    seen = set()
    for _ in range(40):
        pid = os.fork()
        if pid == 0:
            for number in range(10_000):
                model.num_timesteps = number
                snapshot = take_snapshot(model, session._callback.get_state(), {})
                write_checkpoint(saved, model, snapshot)
            os._exit(0)
        time.sleep(rng.uniform(0.03, 0.12))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        if saved.exists():
            seen.add(read_checkpoint(saved).timesteps)
    assert len(seen) > 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"algorithm": "a2c"}, "algorithm: PPO; allowed: A2C"),
        ({"training_rows": 7}, "rows: 8; allowed: 7"),
        ({"columns": 6}, r"last_obs: shape \(4, 21, 14\); allowed"),
        ({"n_envs": 2}, r"last_obs: shape"),
        ({"randomizer": "uniform"}, "randomizer: 0; allowed: 1"),
        ({"policy": "mlp"}, "doesn't fit this run"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(
    changes: dict[str, Any], message: str, small: Any, tmp_path: Path
) -> None:
    path, _ = small
    other = new_run(config_of("ppo", tmp_path).replace(**changes))
    with pytest.raises(CheckpointError, match=message):
        restore(other.session._model, read_checkpoint(path))


def test_a_newer_version_is_told(small: Any, tmp_path: Path) -> None:
    path, _ = small
    newer = tmp_path / "newer.zip"
    values = {**read_checkpoint(path).values, "format": 99}
    _replace_member(path, newer, "checkpoint.json", json.dumps(values).encode())
    with pytest.raises(CheckpointError, match="version 99; allowed: up to 1"):
        read_checkpoint(newer)


def test_what_is_not_as_it_was_is_told(small: Any) -> None:
    path, _ = small
    snapshot = read_checkpoint(path)
    assert snapshot.differences == []
    snapshot.values["surroundings"]["torch"] = "1.0"
    assert snapshot.differences == [f"torch was 1.0, is {torch_version()}"]
    snapshot.values["surroundings"] |= {"torch": torch_version(), "CPU": "VSX"}
    snapshot.values["surroundings"]["machine"] = "ppc64le"
    capability = torch.backends.cpu.get_cpu_capability()
    assert snapshot.differences == [
        f"machine was ppc64le, is {platform.machine()}",
        f"CPU was VSX, is {capability}",
    ]


def torch_version() -> str:
    return metadata.version("torch")


class _Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def _replace_member(source: Path, target: Path, name: str, data: bytes) -> None:
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for member in old.namelist():
            new.writestr(member, data if member == name else old.read(member))


def assert_equal_parameters(first: Any, second: Any) -> None:
    if isinstance(first, torch.Tensor):
        assert torch.equal(first, second)
    elif isinstance(first, dict):
        assert first.keys() == second.keys()
        for key in first:
            assert_equal_parameters(first[key], second[key])
    elif isinstance(first, (list, tuple)):
        assert len(first) == len(second)
        for one, other in zip(first, second, strict=True):
            assert_equal_parameters(one, other)
    else:
        assert first == second
