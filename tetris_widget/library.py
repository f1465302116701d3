"""Models that a person keeps, by name, apart from the runs that they come from.

Owns a directory with one zip for each: SB3's own, which plain SB3 loads, with what is
known of the model inside it. SB3's `load` unpickles, and a pickle from elsewhere can do
anything; so what comes in is taken apart into weights and data, and made anew from
these. Deliberately doesn't know who shows the list.
"""

from __future__ import annotations

import io
import json
import os
import secrets
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tetris_widget.config import ConfigError, TrainingConfig
from tetris_widget.run_directory import (
    DAMAGED_ZIP,
    METADATA_NAME,
    RunDirectory,
    check_name,
    damage_of,
    origin_of,
    read_metadata,
    sync_file,
    to_json,
    write_atomically,
)

if TYPE_CHECKING:
    import pandas as pd
    from stable_baselines3.common.base_class import BaseAlgorithm

COLUMNS = (
    "name",
    "mean_lines",
    "lower",
    "upper",
    "best_lines",
    "timesteps",
    "algorithm",
    "saved_at",
    "notes",
)
NUMBERS = ("mean_lines", "lower", "upper", "best_lines", "timesteps", "saved_at")
CHECKPOINT_NAME = "checkpoint.json"
MAX_NOTES = 10_000
# What a file says of itself may be anything. JavaScript's whole numbers are exact up
# to here, and pandas' times end a few years later.
MAX_NUMBER = 1e15
MAX_TIME = 9_000_000_000
# Of a file to be imported, unpacked: a small file can be made to fill any memory.
MAX_UNPACKED_BYTES = 500_000_000
# Deleted models that can still be brought back.
KEPT_DELETED = 10
# No name has it: what comes after it is when a model was deleted.
DELETED_MARK = "~"
# A model that nobody has evaluated plays an evaluation's games, for so long.
EVALUATION_SECONDS = 10.0


class ModelFileError(ValueError):
    """A file that is no model, or that would have to be trusted."""


class ModelLibrary:
    """Models by name, in a directory.

    Attributes:
        path: the directory; it is made when the first model is saved.
    """

    def __init__(self, path: str | Path = "models") -> None:
        self.path = Path(path).expanduser().absolute()
        # By name: the file's time and size, and what was read from it.
        self._read: dict[str, tuple[tuple[int, int], dict[str, Any]]] = {}

    def names(self) -> list[str]:
        """Return the models' names, sorted; a file that none can have is left out."""
        found = (file.stem for file in self.path.glob("*.zip"))
        return sorted(name for name in found if _is_name(name))

    def models(self) -> pd.DataFrame:
        """Return what is known of every model.

        Columns: name; mean_lines, lower, upper (of its evaluation, 95 %; where
        `mean_lines` is `upper` none of its games has ended, and only `lower` is known);
        best_lines (of one game); timesteps; algorithm; saved_at (a time); notes.
        """
        import pandas as pd

        frame = pd.DataFrame(self.entries(), columns=list(COLUMNS))
        for column in NUMBERS:
            frame[column] = pd.to_numeric(frame[column], errors="coerce")
        frame["saved_at"] = pd.to_datetime(frame["saved_at"], unit="s", utc=True)
        return frame

    def entries(self) -> list[dict[str, Any]]:
        """Return the rows of `models()` as plain values; None for what is not known."""
        entries = []
        for name in self.names():
            facts = self._facts(name)
            if facts is not None:
                entries.append({**dict.fromkeys(COLUMNS), **facts, "name": name})
        return entries

    def file(self, name: str) -> Path:
        """Return where a model is, or would be.

        Raises:
            ValueError: no file can be called so.
        """
        return self.path / f"{check_name(name)}.zip"

    def save(
        self,
        name: str,
        run: RunDirectory | str | Path,
        which: str = "best_eval",
        notes: str = "",
    ) -> Path:
        """Keep a model of a run under a name.

        Args:
            name: of the model.
            run: where it was trained.
            which: `best_eval` (the contest's winner, confirmed in fresh games), `best`
                (the best game), `latest` (the newest checkpoint), `last` (when the run
                ended), `current` (when it was last asked for, see
                `TrainingManager.save_model`).
            notes: whatever helps to remember.

        Raises:
            ValueError: the name is taken, or none for a file; `which` is neither.
            ModelFileError: there is no such model (yet), or it is damaged.
            ConfigError: `run` is not the directory of a run.
        """
        source = run if isinstance(run, RunDirectory) else RunDirectory(run)
        config = _of_our_game(source.config(), source.path)
        return self._keep(name, _model_file(source, which), config, notes)

    def rename(self, name: str, new_name: str) -> Path:
        """Give a model another name; return its file.

        Raises:
            ValueError: there is no such model; the new name is taken, or none.
        """
        return self._put(self._need(name), new_name)

    def delete(self, name: str) -> None:
        """Delete a model; the last ten can be restored.

        Raises:
            ValueError: there is no such model.
        """
        path = self._need(name)
        self._deleted.mkdir(exist_ok=True)
        mark = f"{DELETED_MARK}{time.time_ns()}"
        path.rename(self._deleted / f"{path.stem}{mark}{path.suffix}")
        for old in self._deleted_files("*")[KEPT_DELETED:]:
            old.unlink(missing_ok=True)

    def restore(self, name: str) -> Path:
        """Bring back a model that was deleted, the last of its name; return its file.

        Raises:
            ValueError: none of this name was deleted lately, or the name is taken.
        """
        deleted = self._deleted_files(self._free(name).stem)
        if not deleted:
            raise ValueError(f"name: no model {name!r} was deleted lately")
        return self._put(deleted[0], name)

    def set_notes(self, name: str, notes: str) -> None:
        """Replace a model's notes.

        Raises:
            ValueError: there is no such model, or the notes are too long.
            ModelFileError: its file is damaged.
        """
        path = self._need(name)
        metadata = read_metadata(path)
        if metadata is None:
            raise ModelFileError(f"{path} is damaged, or has no notes")
        changed = {**metadata, "notes": _check_notes(notes)}
        buffer = io.BytesIO()
        with zipfile.ZipFile(path) as old, zipfile.ZipFile(buffer, "w") as new:
            for member in old.namelist():
                if member != METADATA_NAME:
                    new.writestr(member, old.read(member))
            new.writestr(METADATA_NAME, to_json(changed, indent=2))
        write_atomically(path, buffer.getvalue())

    def config(self, name: str) -> TrainingConfig:
        """Return the configuration that a model was trained with.

        Raises:
            ValueError: there is no such model.
            ModelFileError: it is damaged, or not one of ours.
        """
        path = self._need(name)
        return _config_in(read_metadata(path) or {}, path)

    def load(self, name: str, trust: bool = False) -> BaseAlgorithm:
        """Load a model, with its environments, unpickling nothing unless it is trusted.

        Args:
            name: of the model.
            trust: let SB3 load the file as it is, which can run code from it; for
                models that came in that way.

        Raises:
            ValueError: there is no such model.
            ModelFileError: it is damaged, or would have to be trusted.
        """
        path = self._need(name)
        if trust:
            return _load_trusted(path)
        return _made_anew(path, self.config(name))

    def export(self, name: str, target: str | Path) -> Path:
        """Copy a model to a file (or into a directory) that plain SB3 can load.

        Raises:
            ValueError: there is no such model.
            FileExistsError: there is a file already.
        """
        source, path = self._need(name), Path(target).expanduser()
        if path.is_dir():
            path = path / source.name
        try:
            _write_new(path, source.read_bytes())
        except FileExistsError:
            raise FileExistsError(
                f"{path} is there already; nothing is overwritten"
            ) from None
        return path

    def read(self, name: str) -> bytes:
        """Return a model's file.

        Raises:
            ValueError: there is no such model.
        """
        return self._need(name).read_bytes()

    def check_free(self, name: str) -> None:
        """Make sure that a model can be called so.

        Raises:
            ValueError: the name is taken, or none for a file.
        """
        self._free(name)

    def import_model(
        self, source: str | Path, name: str | None = None, trust: bool = False
    ) -> Path:
        """Take in a model from a file.

        A model of this library's is taken apart into weights and data and made anew, so
        that no code that came with it stays. Any other one cannot be: loading it runs
        whatever its maker put in.

        Args:
            source: the file.
            name: under which it is kept; None: the file's own.
            trust: take it as it is, as you would run a program of its maker's.

        Raises:
            ValueError: the name is taken, or none for a file.
            ModelFileError: it is no model, damaged, or would have to be trusted.
        """
        path = Path(source).expanduser()
        name = path.stem if name is None else name
        self._free(name)
        if trust:
            _load_trusted(path)
            return self._add(name, path.read_bytes())
        _check_size(path)
        metadata = read_metadata(path) or {}
        notes = _fit(metadata).get("notes", "")
        return self._keep(name, path, _config_in(metadata, path), notes)

    def _keep(
        self, name: str, source: Path, config: TrainingConfig, notes: str
    ) -> Path:
        """Save the model in `source`, made anew."""
        self._free(name)  # or the work is for nothing
        notes = _check_notes(notes)
        from tetris_widget.training.best import model_zip

        model = _made_anew(source, config)
        facts = _facts(source)
        model.num_timesteps = int(facts.get("timesteps", 0))
        if "mean_lines" not in facts:
            if config.learned_rows < config.rows:
                facts.pop("best_lines", None)  # of a low game: no other model's is
            facts = {**_evaluate(model, config), **facts}
        metadata = {
            **facts,
            "algorithm": config.algorithm,
            "config": config.to_dict(),
            "run_id": origin_of(source),
            "notes": notes,
        }
        return self._add(name, model_zip(model, metadata))

    def _add(self, name: str, data: bytes) -> Path:
        """Write a new model's file; somebody may have taken the name meanwhile."""
        path = self._free(name)
        try:
            _write_new(path, data)
        except FileExistsError:
            raise _taken(name) from None
        return path

    def _put(self, source: Path, name: str) -> Path:
        """Let a file be the model of this name; return where it is now."""
        path = self._free(name)
        try:
            _move(source, path)
        except FileExistsError:
            raise _taken(name) from None
        return path

    @property
    def _deleted(self) -> Path:
        return self.path / "deleted"

    def _deleted_files(self, name: str) -> list[Path]:
        """Return the deleted models of a name, `*`: of any; the last deleted first."""
        return sorted(
            self._deleted.glob(f"{name}{DELETED_MARK}*.zip"),
            key=lambda path: path.stem.rpartition(DELETED_MARK)[2],
            reverse=True,
        )

    def _facts(self, name: str) -> dict[str, Any] | None:
        """Return what is listed of a model; None if somebody has just deleted it."""
        path = self.path / f"{name}.zip"
        try:
            stat = path.stat()
        except FileNotFoundError:
            return None
        stamp = (stat.st_mtime_ns, stat.st_size)
        if name not in self._read or self._read[name][0] != stamp:
            found = read_metadata(path) or {"notes": "cannot be read"}
            self._read[name] = stamp, _fit(found)
        return self._read[name][1]

    def _need(self, name: str) -> Path:
        path = self.file(name)
        if not path.exists():
            allowed = ", ".join(self.names()) or "there is none yet"
            raise ValueError(f"name: no model {name!r}; allowed: {allowed}")
        return path

    def _free(self, name: str) -> Path:
        path = self.file(name)
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"library: {self.path} is a file; allowed: a directory")
        if path.exists():
            raise _taken(name)
        return path


def _is_name(name: str) -> bool:
    try:
        return check_name(name) == name
    except ValueError:
        return False


def _taken(name: str) -> ValueError:
    return ValueError(f"name: {name!r} is taken; allowed: a new one")


def _write_new(path: Path, data: bytes) -> None:
    """Write a file that isn't there yet; a reader finds the whole of it, or none.

    Raises:
        FileExistsError: it is there; nothing is overwritten.
    """
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        write_atomically(temporary, data)
        _move(temporary, path)
        sync_file(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _move(source: Path, target: Path) -> None:
    """Rename a file, but never over another one, as `Path.rename` does.

    Raises:
        FileExistsError: there is one; nothing is overwritten.
    """
    try:
        os.link(source, target)
    except (FileExistsError, FileNotFoundError):
        raise
    except OSError:  # a file system that has no hard links
        target.touch(exist_ok=False)
        try:
            source.replace(target)
        except BaseException:
            target.unlink()
            raise
    else:
        source.unlink(missing_ok=True)


def _model_file(run: RunDirectory, which: str) -> Path:
    newest = run.checkpoints()
    files = {
        "best_eval": run.best_evaluated_model_file,
        "best": run.best_model_file,
        "latest": newest[0] if newest else run.checkpoint_file(0),
        "last": run.last_model_file,
        "current": run.current_model_file,
    }
    if which not in files:
        allowed = ", ".join(files)
        raise ValueError(f"which: {which!r} is refused; allowed: {allowed}")
    if not files[which].exists():
        raise ModelFileError(f"{run.path} has no model {which!r} (yet)")
    return files[which]


def _check_notes(notes: Any) -> str:
    if not isinstance(notes, str):
        raise ValueError(f"notes: {notes!r:.60}; allowed: text")
    if len(notes) > MAX_NOTES:
        raise ValueError(
            f"notes: {len(notes)} characters; allowed: up to {MAX_NOTES:,}"
        )
    return notes


def _config_in(metadata: Mapping[str, Any], path: Path) -> TrainingConfig:
    values = metadata.get("config")
    if not isinstance(values, dict):
        _check_whole(path)
        raise ModelFileError(
            f"{path} is not a model that a library has saved. Loading it runs whatever "
            "code its maker put in; if you trust them, pass trust=True"
        )
    try:
        config = TrainingConfig(**values)
    except (ConfigError, TypeError) as error:
        raise ModelFileError(
            f"{path} has a configuration that cannot be read, perhaps of a newer "
            f"version: {error}"
        ) from None
    return _of_our_game(config, path)


def _check_whole(path: Path) -> None:
    """Refuse what is no file that could be loaded, however much it is trusted."""
    try:
        path.open("rb").close()
    except FileNotFoundError:
        raise ModelFileError(f"{path} is not there") from None
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror}") from None
    reason = damage_of(path)
    if reason is not None:
        raise ModelFileError(f"{path} is not a model, or damaged: {reason}")


def _of_our_game(config: TrainingConfig, path: Path) -> TrainingConfig:
    """Return the configuration; refuse one that would load another environment."""
    if config.env_id is not None:
        raise ModelFileError(
            f"{path} was trained on {config.env_id!r}, and a library keeps models of "
            "our own game only; plain SB3 loads such a file"
        )
    return config


def _check_size(path: Path) -> None:
    """Refuse what would fill the memory when it is unpacked."""
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
    except (OSError, ValueError, *DAMAGED_ZIP):
        return  # what reads it says what is wrong
    if size > MAX_UNPACKED_BYTES:
        raise ModelFileError(
            f"{path}: {size:,} bytes when unpacked; allowed: {MAX_UNPACKED_BYTES:,}"
        )


def _facts(path: Path) -> dict[str, Any]:
    """Return the numbers that a model's file says of the model."""
    facts = read_metadata(path) or {}
    if "max_lines" in facts:
        facts["best_lines"] = facts["max_lines"]
    try:
        with zipfile.ZipFile(path) as archive:
            if CHECKPOINT_NAME in archive.namelist():
                values = json.loads(archive.read(CHECKPOINT_NAME))
                facts["timesteps"] = values["model"]["num_timesteps"]
                facts["best_lines"] = values["reports"]["best_lines"]
    except (ValueError, KeyError, TypeError, *DAMAGED_ZIP) as error:
        raise ModelFileError(
            f"{path} has a {CHECKPOINT_NAME} that cannot be read"
        ) from error
    numbers = {name: value for name, value in _fit(facts).items() if name in NUMBERS}
    return {"saved_at": time.time(), **numbers}


def _fit(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a file says of itself in `COLUMNS`, without what cannot be shown."""
    facts = {}
    for name in COLUMNS:
        value = found.get(name)
        if name in NUMBERS:
            if _is_number(value, MAX_TIME if name == "saved_at" else MAX_NUMBER):
                facts[name] = value
        elif isinstance(value, str):
            # JSON can hold halves of characters, which nothing can send.
            facts[name] = value[:MAX_NOTES].encode("utf-8", "replace").decode()
    return facts


def _is_number(value: Any, most: float) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    # NaN fails this comparison, too.
    return is_number and 0 <= value <= most


def _evaluate(model: BaseAlgorithm, config: TrainingConfig) -> dict[str, Any]:
    """Return how many lines a model clears; nothing if that takes too long."""
    from tetris_widget.training.evaluation import Evaluator

    evaluator = Evaluator(config)
    evaluator.begin(model)
    result = evaluator.advance(EVALUATION_SECONDS)
    if result is None:
        return {}
    return {
        "mean_lines": result.mean_lines,
        "lower": result.lower,
        "upper": result.upper,
        "best_lines": result.max_lines,
    }


def _made_anew(path: Path, config: TrainingConfig) -> BaseAlgorithm:
    """Return a new model with the weights in `path`; unpickle nothing."""
    from tetris_widget.training.policies import load_model

    try:
        return load_model(path, config)
    except (ValueError, MemoryError) as error:  # its buffers may be of any size
        raise ModelFileError(str(error)) from error


def _load_trusted(path: Path) -> BaseAlgorithm:
    """Load a model as SB3 does: this runs code from the file."""
    try:
        return _unpickled(path)
    except Exception as error:  # it may be anybody's code
        raise ModelFileError(
            f"{path} is no model that SB3 can load: {type(error).__name__}: {error}"
        ) from error


def _unpickled(path: Path) -> BaseAlgorithm:
    from sb3_contrib import MaskablePPO
    from stable_baselines3 import A2C, DQN, PPO
    from stable_baselines3.common.save_util import load_from_zip_file

    from tetris_widget.training.policies import AfterstateDQN, AfterstateQPolicy

    data, _, _ = load_from_zip_file(path, device="cpu")
    if not isinstance(data, dict) or "policy_class" not in data:
        raise ModelFileError("it names no policy")
    policy: Any = data["policy_class"]
    kind: Any = A2C
    if "exploration_rate" in data:
        kind = AfterstateDQN if policy is AfterstateQPolicy else DQN
    elif "clip_range" in data:
        kind = MaskablePPO if "Maskable" in policy.__name__ else PPO
    model: BaseAlgorithm = kind.load(path, device="cpu")
    return model
