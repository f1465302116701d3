"""The journal on disk: what is written, and what is said when it can't be."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tetris_widget.config import TrainingConfig
from tetris_widget.run_directory import DamagedRunWarning, RunDirectory
from tetris_widget.training import journal as module
from tetris_widget.training.journal import Journal


def test_a_file_that_somebody_deletes_is_said_and_begun_anew(tmp_path: Path) -> None:
    run = RunDirectory.create(TrainingConfig(run_dir=str(tmp_path)))
    warnings: list[str] = []
    journal = Journal(run, warnings.append)

    def tell(text: str) -> None:
        journal.write(
            [
                {
                    "type": "info",
                    "kind": "note",
                    "text": text,
                    "timesteps": 1,
                    "elapsed": 1.0,
                }
            ]
        )

    tell("first")
    run.journal_file.unlink()
    tell("second")
    tell("third")
    journal.close()
    assert warnings == [f"somebody deleted {run.journal_file}; a new one begins here"]
    assert [entry["text"] for entry in run.journal()] == ["second", "third"]


def metrics(timesteps: int) -> dict[str, Any]:
    fields = {"elapsed": 1.0, "fps": 1.0, "episodes": 1, "values": {}}
    return {"type": "metrics", "timesteps": timesteps, **fields}


def test_metrics_go_on_in_a_new_file_when_somebody_deletes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PROGRESS_SECONDS", 0.0)
    run = RunDirectory.create(TrainingConfig(run_dir=str(tmp_path)))
    warnings: list[str] = []
    journal = Journal(run, warnings.append)
    journal.write([metrics(1)])
    run.progress_file.unlink()
    journal.write([metrics(2)])
    journal.write([metrics(3)])
    journal.close()
    assert warnings == [f"somebody deleted {run.progress_file}; a new one begins here"]
    assert run.metrics()["timesteps"].tolist() == [2, 3]


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """Let every write to a file fail."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_new_file_that_a_full_disk_refuses_leaves_none_open(tmp_path: Path) -> None:
    run = RunDirectory.create(TrainingConfig(run_dir=str(tmp_path)))
    journal = Journal(run, lambda _: None)
    message = {"type": "episode", "reward": 1.0, "length": 2, "elapsed": 1.0}
    message |= {"episode": 1, "env": 0, "lines": 3, "timesteps": 4}
    with full_disk():
        journal.write([message])
        before = len(list(Path("/proc/self/fd").iterdir()))
        for _ in range(50):
            journal.write([])
        assert len(list(Path("/proc/self/fd").iterdir())) == before
    journal.write([])
    journal.close()
    assert run.episodes()["lines"].tolist() == [3]


def test_a_byte_that_is_damaged_ends_no_metrics(tmp_path: Path) -> None:
    run = RunDirectory.create(TrainingConfig(run_dir=str(tmp_path)))
    journal = Journal(run, pytest.fail)
    journal.write([metrics(100)])
    journal.close()
    data = run.progress_file.read_bytes()
    damaged = data.replace(b"100", b"1\xb40")
    assert damaged != data
    run.progress_file.write_bytes(damaged)
    again = Journal(run, pytest.fail)
    again.write([metrics(200)])
    again.sync()
    again.close()
    with pytest.warns(DamagedRunWarning, match="1 lines cannot be read"):
        assert run.metrics()["timesteps"].tolist() == [200]
