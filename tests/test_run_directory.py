"""A run on disk: written atomically, read back whole even when torn."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tetris_widget.config import TrainingConfig
from tetris_widget.run_directory import (
    RunDirectory,
    to_jsonable,
    write_atomically,
)
from tetris_widget.training.journal import Journal


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory.create(TrainingConfig(run_dir=str(tmp_path), seed=7))


def episode(number: int, lines: int | None = 3) -> dict[str, object]:
    return {
        "type": "episode",
        "episode": number,
        "env": 0,
        "reward": 1.5,
        "lines": lines,
        "length": 12,
        "timesteps": number * 12,
        "elapsed": 0.25,
    }


def test_it_knows_its_config_state_and_versions(run: RunDirectory) -> None:
    assert run.config().seed == 7
    assert run.state()["state"] == "starting"
    assert run.state()["versions"]["stable-baselines3"]
    run.write_state("finished", reason=None)
    assert run.state()["state"] == "finished"
    assert run.state()["seed"] == 7


def test_episodes_are_read_back(run: RunDirectory) -> None:
    journal = Journal(run, pytest.fail)
    journal.write([episode(1), episode(2, None)])
    journal.close()
    frame = run.episodes()
    assert frame["episode"].tolist() == [1, 2]
    assert frame["reward"].tolist() == [1.5, 1.5]
    assert frame["lines"].isna().tolist() == [False, True]


def test_sb3_reads_the_monitor_file(run: RunDirectory) -> None:
    from stable_baselines3.common.monitor import load_results

    journal = Journal(run, pytest.fail)
    journal.write([episode(1), episode(2)])
    assert load_results(str(run.path))["r"].tolist() == [1.5, 1.5]


def test_a_new_run_has_empty_tables(run: RunDirectory) -> None:
    assert run.episodes().empty
    assert run.metrics().empty
    assert run.evaluations().empty
    assert "mean_lines" in run.evaluations()


def test_torn_last_lines_are_skipped(run: RunDirectory) -> None:
    journal = Journal(run, pytest.fail)
    journal.write([episode(1), {"type": "info", "text": "hello"}])
    journal.close()
    with run.monitor_file.open("a") as file:
        file.write("1.5,12")
    with run.journal_file.open("a") as file:
        file.write('{"type": "in')
    assert run.episodes()["episode"].tolist() == [1]
    assert [entry["text"] for entry in run.journal()] == ["hello"]


def test_garbage_in_the_middle_gives_one_warning(run: RunDirectory) -> None:
    run.journal_file.write_text('{"type": "a"}\nnonsense\n{"type": "b"}\n')
    with pytest.warns(UserWarning, match="1 lines cannot be read"):
        assert len(list(run.journal())) == 2


def test_a_disk_that_refuses_is_reported_once_and_nothing_is_lost(
    run: RunDirectory,
) -> None:
    warnings: list[str] = []
    journal = Journal(run, warnings.append)
    run.monitor_file.mkdir()  # in the way of the file
    journal.write([episode(1)])
    journal.write([episode(2)])
    assert len(warnings) == 1
    assert "could not save" in warnings[0]
    run.monitor_file.rmdir()
    journal.write([episode(3)])
    assert "works again" in warnings[-1]
    assert run.episodes()["episode"].tolist() == [1, 2, 3]


def test_a_disk_that_refuses_for_long_costs_the_oldest_lines_not_the_memory(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tetris_widget.training.journal.MAX_UNWRITTEN", 2)
    warnings: list[str] = []
    journal = Journal(run, warnings.append)
    run.monitor_file.mkdir()  # in the way of the file
    for number in range(1, 6):
        journal.write([episode(number)])
    run.monitor_file.rmdir()
    journal.write([])
    assert "works again; 3 lines are lost" in warnings[-1]
    assert run.episodes()["episode"].tolist() == [4, 5]


def test_a_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, "old")
    path.with_name(f"{path.name}.tmp.{__import__('os').getpid()}").mkdir()
    with pytest.raises(OSError):
        write_atomically(path, "new")
    assert path.read_text() == "old"


def test_numpy_and_nan_become_json() -> None:
    value = {"a": np.float32(1.5), "b": [np.int64(2), float("nan")], "c": (True, None)}
    assert json.dumps(to_jsonable(value)) == (
        '{"a": 1.5, "b": [2, null], "c": [true, null]}'
    )
