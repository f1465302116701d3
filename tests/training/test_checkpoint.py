"""Exact resume: interrupted and gone on with, or straight, it is the same run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.training.runs import SMALL, new_run
from tetris_widget.config import TrainingConfig
from tetris_widget.run_directory import RunDirectory, without_superseded
from tetris_widget.training.checkpoint import Snapshot, read_checkpoint

pytestmark = pytest.mark.timeout(180)

ALGORITHMS: dict[str, dict[str, Any]] = {
    "ppo": {},
    "maskable_ppo": {"policy": "mlp"},
    "a2c": {},
    # Its replay buffer is full before the stop, its first targets are updated after it.
    "dqn": {"buffer_size": 1_040, "batch_size": 16},
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
