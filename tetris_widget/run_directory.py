"""One run on disk: where its files are, and how they are read back.

Owns the names and formats of the files of a run directory. Readers accept a torn last
line, for the writer may be killed at any moment. Deliberately doesn't know who trains
or who watches; the writing while training is `training.journal`'s.
"""

from __future__ import annotations

import json
import math
import os
import platform
import secrets
import time
import warnings
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tetris_widget.config import TrainingConfig

if TYPE_CHECKING:
    import pandas as pd

EPISODE_COLUMNS = ("r", "l", "t", "episode", "env", "lines", "timesteps")
PACKAGES = (
    "tetris-widget",
    "stable-baselines3",
    "sb3-contrib",
    "gymnasium",
    "torch",
    "numpy",
    "numba",
)


class RunDirectory:
    """The files of one run.

    Attributes:
        path: the directory.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @classmethod
    def create(cls, config: TrainingConfig) -> RunDirectory:
        """Make a new directory below `config.run_dir`, named by date and time.

        Raises:
            OSError: it cannot be made or written.
        """
        stamp = time.strftime("%Y-%m-%d_%H-%M-%S")
        parent = Path(config.run_dir).expanduser().absolute()
        run = cls(parent / f"{stamp}_{secrets.token_hex(2)}")
        run.path.mkdir(parents=True)
        write_atomically(run.config_file, to_json(config.to_dict(), indent=2))
        run.write_state("starting", seed=config.seed, versions=_versions())
        return run

    @property
    def run_id(self) -> str:
        """The directory's own name."""
        return self.path.name

    @property
    def config_file(self) -> Path:
        """The configuration, as JSON."""
        return self.path / "config.json"

    @property
    def state_file(self) -> Path:
        """How the run stands, with which versions, as JSON."""
        return self.path / "run.json"

    @property
    def journal_file(self) -> Path:
        """What happened: one JSON object a line."""
        return self.path / "journal.jsonl"

    @property
    def monitor_file(self) -> Path:
        """Every finished episode, in the format of SB3's Monitor."""
        return self.path / "monitor.csv"

    @property
    def progress_file(self) -> Path:
        """The metrics over time, as written by SB3's logger."""
        return self.path / "progress.csv"

    @property
    def log_file(self) -> Path:
        """What the training process printed."""
        return self.path / "worker.log"

    @property
    def best_model_file(self) -> Path:
        """The model of the best game so far; it need not exist yet."""
        return self.path / "best" / "model.zip"

    @property
    def last_model_file(self) -> Path:
        """The model as it was when the run ended; it need not exist yet."""
        return self.path / "checkpoints" / "last.zip"

    def config(self) -> TrainingConfig:
        """Return the configuration that the run was started with."""
        return TrainingConfig.from_file(self.config_file)

    def state(self) -> dict[str, Any]:
        """Return run.json, or an empty dict when there is none that can be read."""
        try:
            state = json.loads(self.state_file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return state if isinstance(state, dict) else {}

    def write_state(self, state: str, **fields: Any) -> None:
        """Replace `state` and `fields` in run.json, keeping its other fields.

        Raises:
            OSError: it cannot be written.
        """
        merged = {**self.state(), "state": state, "changed_at": time.time(), **fields}
        write_atomically(self.state_file, to_json(merged, indent=2))

    def journal(self) -> Iterator[dict[str, Any]]:
        """Yield what happened, in order; lines that are not whole are skipped."""
        try:
            text = self.journal_file.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return
        bad = 0
        lines = text.splitlines()
        for number, line in enumerate(lines, start=1):
            try:
                yield json.loads(line)
            except ValueError:
                # The last line may be torn: its writer was killed.
                bad += number < len(lines)
        if bad:
            warnings.warn(
                f"{self.journal_file}: {bad} lines cannot be read", stacklevel=2
            )

    def episodes(self) -> pd.DataFrame:
        """Return every finished episode.

        Columns: episode, timesteps, reward, length, lines (NaN where the environment
        has none), env, seconds (since the start).
        """
        import pandas as pd

        names = {"r": "reward", "l": "length", "t": "seconds"}
        frame = self._read_csv(self.monitor_file, EPISODE_COLUMNS)
        frame = frame.rename(columns=names)
        order = ["episode", "timesteps", "reward", "length", "lines", "env", "seconds"]
        table: pd.DataFrame = frame[order].apply(pd.to_numeric, errors="coerce")
        whole = ["episode", "timesteps", "length", "env"]
        # The last line may be torn: its writer was killed.
        table = table.dropna(subset=[*whole, "reward"])
        return table.astype(dict.fromkeys(whole, "int64")).reset_index(drop=True)

    def metrics(self) -> pd.DataFrame:
        """Return the metrics over time: timesteps, elapsed, fps, and SB3's own keys."""
        return self._read_csv(self.progress_file, ("timesteps", "elapsed", "fps"))

    def evaluations(self) -> pd.DataFrame:
        """Return the evaluations: timesteps, elapsed, mean_lines, lower, upper, …."""
        import pandas as pd

        rows = [entry for entry in self.journal() if entry["type"] == "evaluation"]
        columns = "timesteps elapsed mean_lines lower upper games finished max_lines"
        frame = pd.DataFrame(rows, columns=columns.split())
        return frame

    def _read_csv(self, path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
        import pandas as pd

        try:
            frame = pd.read_csv(path, comment="#", on_bad_lines="skip")
        except (FileNotFoundError, pd.errors.EmptyDataError):
            frame = pd.DataFrame(columns=list(columns), dtype=float)
        return frame


def write_atomically(path: Path, data: str | bytes) -> None:
    """Write a file so that a reader, or a crash, finds the old one or the new one.

    Raises:
        OSError: it cannot be written; the old file is unharmed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.tmp.{os.getpid()}")
    raw = data.encode() if isinstance(data, str) else data
    try:
        with temporary.open("wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def to_jsonable(value: Any) -> Any:
    """Return `value` with NumPy's numbers made Python's, and NaN and inf made None."""
    if isinstance(value, Mapping):
        return {str(key): to_jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_jsonable(item) for item in value]
    if hasattr(value, "tolist"):
        return to_jsonable(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, (bool, int, float, str, bytes)):
        return value
    return str(value)


def to_json(value: Any, indent: int | None = None) -> str:
    """Return `value` as JSON that every reader accepts (no NaN)."""
    return json.dumps(to_jsonable(value), indent=indent, ensure_ascii=False)


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found
