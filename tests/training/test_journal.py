"""The journal on disk: what is written, and what is said when it can't be."""

from __future__ import annotations

from pathlib import Path

from tetris_widget.config import TrainingConfig
from tetris_widget.run_directory import RunDirectory
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
