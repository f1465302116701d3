"""One run on disk: where its files are, and how they are read back.

Owns the names and formats of the files of a run directory. Readers return all that can
be read, and say once, by a `DamagedRunWarning`, what cannot: the writer may be killed
at any moment. Deliberately doesn't know who trains or who watches; the writing while
training is `training.journal`'s.
"""

from __future__ import annotations

import contextlib
import csv
import errno
import hashlib
import io
import itertools
import json
import math
import os
import platform
import re
import secrets
import shutil
import threading
import time
import unicodedata
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from tetris_widget.config import ConfigError, TrainingConfig

if TYPE_CHECKING:
    import pandas as pd

# Of a run directory; a reader refuses a newer one.
FORMAT = 1
EPISODE_COLUMNS = ("r", "l", "t", "episode", "env", "lines", "timesteps", "seq")
METRIC_COLUMNS = ("timesteps", "elapsed", "fps")
# Greater ones are no counts: a float holds no whole numbers beyond.
MAX_COUNT = 2**53
TERMINAL = ("finished", "stopped", "failed")
# What is told of the end of a run, or of going on with one, that was stopped too soon.
WHILE_STARTING = "while it was starting"
BLOCK_BYTES = 65_536
PACKAGES = (
    "tetris-widget",
    "stable-baselines3",
    "sb3-contrib",
    "gymnasium",
    "torch",
    "numpy",
    "numba",
)
# In any alphabet, with what is put after it, within the 255 bytes of a file name.
MAX_NAME = 50
PUNCTUATION = " .,+=()-_"
# A run's models are in its subdirectories, and in theirs.
MODEL_DEPTH = 3
# Somebody else may have written it.
MAX_RUN_ID = 255
METADATA_NAME = "metadata.json"
RECORD_NAME = "record.json"
# Of what a damaged file is kept as, when it is made anew.
DAMAGED_SUFFIX = ".damaged"
# What reading a zip that is none, or that was cut or changed, can raise.
DAMAGED_ZIP = (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError)
# In every model's file, as SB3 writes them.
MODEL_MEMBER = "data"
LOCK_SECONDS = 0.05
# How tables spell what is no number on purpose, and what is empty.
_NAN = tuple(
    sign + text for sign in ("", "+", "-") for text in ("nan", "NaN", "NAN", "Nan")
)
_EMPTY = ("", *_NAN)
# What `atomic_file` writes to, before it takes the place of the file.
_TEMPORARY = re.compile(r".+\.tmp\.\d+-\d+")
# Answers of file systems that have no locks (some network and cloud drives).
_NO_LOCKS = (errno.ENOTSUP, errno.ENOSYS, errno.ENOLCK, errno.EINVAL)


class DamagedRunWarning(UserWarning):
    """A file of a run is missing, torn, or holds what cannot be read."""


class RunBusyError(RuntimeError):
    """A run directory that another process writes to.

    Attributes:
        pid: of that process; 0 if unknown.
    """

    def __init__(self, path: Path, pid: int | None) -> None:
        self.pid = pid or 0
        super().__init__(
            f"{path} is in use by process {pid or 'unknown'}; stop that run first"
        )


class RunDirectory:
    """The files of one run.

    Attributes:
        path: the directory; absolute, wherever the process goes afterwards.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser().absolute()
        # What the files said when they were whole; somebody may delete or damage them.
        self._known_config: TrainingConfig | None = None
        self._known_state: dict[str, Any] = {}
        # What readers have warned of, so that each is said once.
        self._said: set[str] = set()

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
        model = config.initial_model
        origin = None if model is None else origin_of(Path(model))
        run._known_state = {
            "format": FORMAT,
            "seed": config.seed,
            "versions": versions(),
            "parent": origin,
        }
        run._describe(config)
        return run

    @classmethod
    def runs(cls, parent: str | Path = "runs") -> list[RunDirectory]:
        """Return the runs below a directory, the newest first; none if it isn't one."""
        found = Path(parent).expanduser().absolute().glob("*/config.json")
        return [cls(path.parent) for path in sorted(found, reverse=True)]

    @classmethod
    def latest(cls, parent: str | Path = "runs") -> RunDirectory:
        """Return the run below `parent` that something happened in last.

        Raises:
            FileNotFoundError: there is none.
        """
        found = list(Path(parent).expanduser().glob("*/config.json"))
        if not found:
            raise FileNotFoundError(f"{parent}: there is no run in it")

        def changed_at(path: Path) -> float:
            state = path.with_name("run.json")
            return (state if state.exists() else path).stat().st_mtime

        return cls(max(found, key=changed_at).parent.absolute())

    def verify(self) -> list[str]:
        """Return a sentence for each file that is missing, torn or damaged."""
        problems = []
        try:
            self.config()
        except ConfigError as error:
            problems.append(f"the configuration cannot be read: {error}")
        if not self._recorded():
            problems.append(f"{self.state_file} is missing or cannot be read")
        for path in (self.journal_file, self.monitor_file, self.progress_file):
            if not path.exists():
                if self._should_have(path):
                    problems.append(f"{path} is missing")
            elif (flaw := _flaw_of_table(path)) is not None:
                problems.append(f"{path} {flaw}")
        # Elsewhere the metadata are of the one that was saved last.
        crowned = (self.best_model_file, self.best_evaluated_model_file)
        for path in sorted(self.path.rglob("*.zip")):
            reason = damage_of(path)
            if reason is not None:
                problems.append(f"{path} is damaged: {reason}")
            elif path in crowned and not _is_described(path):
                problems.append(
                    f"{path.with_name(METADATA_NAME)} describes another model than "
                    f"{path.name}; what is inside that one is true"
                )
        return problems

    def delete(self) -> None:
        """Delete the directory with everything in it.

        Raises:
            RunBusyError: a process writes to it.
            FileNotFoundError: it is no run, and nothing is deleted.
            OSError: it cannot be deleted.
        """
        if not self.config_file.exists():
            raise FileNotFoundError(f"{self.path} is no run: it has no config.json")
        with self.lock():
            shutil.rmtree(self.path)

    def reopen(self, config: TrainingConfig) -> None:
        """Make ready for going on with the run, by this configuration.

        Raises:
            ConfigError: it cannot be gone on with, see `check_resumable`.
            RunBusyError: another process writes to the directory.
            OSError: it cannot be written.
        """
        self.check_resumable()
        with self.lock():
            self._describe(config, reason=None, resumed_with=versions())

    def check_resumable(self) -> None:
        """Make sure that nothing but the lack of a checkpoint keeps it from going on.

        Raises:
            ConfigError: the configuration is missing or damaged, another version of
                this package has made the run, or a file of it cannot be written.
        """
        self.config()
        if (found := self.state().get("format")) != FORMAT:
            raise ConfigError(
                f"{self.path} is of version {found}; allowed: {FORMAT}; it can be "
                "read, but not gone on with"
            )
        tables = self.journal_file, self.monitor_file, self.progress_file
        models = self.last_model_file.parent
        for path in (self.path, self.lock_file, *tables, models):
            if path.exists() and not os.access(path, os.R_OK | os.W_OK):
                raise ConfigError(
                    f"{path} cannot be written to; allowed: to read the run, or to go "
                    "on with a copy of it"
                )

    def _describe(self, config: TrainingConfig, **fields: Any) -> None:
        # The kernel waits for no disk: `sync` is the training process's.
        self._write_config(config, sync=False)
        self._write_state("starting", fields, sync=False)

    def _write_config(self, config: TrainingConfig, sync: bool) -> None:
        write_atomically(self.config_file, to_json(config.to_dict(), indent=2), sync)
        self._known_config = config

    def sync(self) -> None:
        """Let the configuration and run.json survive a power cut.

        Raises:
            OSError: the disk refuses.
        """
        for path in (self.config_file, self.state_file, self.path, self.path.parent):
            sync_file(path)

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

    @property
    def current_model_file(self) -> Path:
        """The model as it was when it was last asked for; it need not exist yet."""
        return self.path / "checkpoints" / "current.zip"

    @property
    def best_evaluated_model_file(self) -> Path:
        """The winner of the contest for the best model; it need not exist yet."""
        return self.path / "best_eval" / "model.zip"

    @property
    def lock_file(self) -> Path:
        """Locked by the process that writes to the directory; it names its pid."""
        return self.path / "run.lock"

    @property
    def superseded_directory(self) -> Path:
        """What happened after a checkpoint that the run then resumed from."""
        return self.path / "superseded"

    def checkpoint_file(self, timesteps: int) -> Path:
        """The checkpoint taken after so many timesteps; it need not exist."""
        return self.path / "checkpoints" / f"checkpoint-{timesteps:012d}.zip"

    def named_checkpoint_file(self, name: str) -> Path:
        """The checkpoint that a person named; it need not exist.

        Raises:
            ValueError: `name` is none for a file, see `check_name`.
        """
        return self.path / "checkpoints" / "named" / f"{check_name(name)}.zip"

    def named_checkpoint(self, name: str) -> Path:
        """Return the checkpoint that a person named.

        Raises:
            ConfigError: there is none of that name, or it is none for a file.
        """
        try:
            path = self.named_checkpoint_file(name)
        except ValueError as error:
            raise ConfigError(str(error)) from error
        if not path.exists():
            allowed = ", ".join(self.named_checkpoints()) or "there is none"
            raise ConfigError(f"checkpoint: no {name!r}; allowed: {allowed}")
        return path

    def checkpoints(self) -> list[Path]:
        """Return the checkpoints that nobody named, the newest first."""
        found = self.path.joinpath("checkpoints").glob("checkpoint-*.zip")
        return sorted(found, reverse=True)

    def named_checkpoints(self) -> list[str]:
        """Return the names of the named checkpoints."""
        found = self.path.joinpath("checkpoints", "named").glob("*.zip")
        return sorted(path.stem for path in found)

    def record(self) -> dict[str, Any] | None:
        """Return the best game: `best_lines`, …, `actions`, and what they follow from.

        `training.record.replay` plays it again move for move. None: there is none yet,
        or it was too long to be kept.
        """
        path = self.best_model_file.with_name(RECORD_NAME)
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return record if isinstance(record, dict) else None

    def config(self) -> TrainingConfig:
        """Return the configuration that the run was started, or last resumed, with.

        Raises:
            ConfigError: there is none, it cannot be read, or it is of a newer format;
                if another version made the run, the message says so.
        """
        found = self.state().get("format")
        if isinstance(found, int) and found > FORMAT:
            raise ConfigError(
                f"{self.path} is of version {found}; allowed: up to {FORMAT}; a newer "
                "tetris-widget reads it"
            )
        try:
            config = TrainingConfig.from_file(self.config_file)
        except ConfigError as error:
            made_with, own = self.state().get("versions", {}), versions()
            made_by, here = made_with.get(PACKAGES[0]), own[PACKAGES[0]]
            if made_by in (None, here):
                raise
            raise ConfigError(
                f"{error}; tetris-widget {made_by} made this run, this is {here}"
            ) from None
        self._known_config = config
        return config

    def state(self) -> dict[str, Any]:
        """Return run.json; where it is not whole, what other files tell of the same.

        That is `format`, `seed`, `parent`, and of the last status `state`, `reason` and
        `timesteps`. An empty dict: there is no configuration that can be read either.
        """
        recorded = self._recorded()
        if "format" in recorded:
            return recorded
        return {**self._told_elsewhere(), **recorded}

    def _recorded(self) -> dict[str, Any]:
        """Return run.json; an empty dict if it is missing or cannot be read."""
        try:
            found = _to_dict(self.state_file.read_bytes())
        except OSError:
            found = None
        if found is not None and "format" in found:
            self._known_state = found
        return found or {}

    def _told_elsewhere(self) -> dict[str, Any]:
        """Return what can be known of a run without its run.json."""
        try:
            config = TrainingConfig.from_file(self.config_file)
        except ConfigError:
            return {}
        model = config.initial_model
        origin = None if model is None else origin_of(Path(model))
        # What this version reads has its format.
        facts = {"format": FORMAT, "seed": config.seed, "parent": origin}
        entries = self._entries_backwards()
        last = next((e for e in entries if e.get("type") == "status"), {})
        told = {name: last.get(name) for name in ("state", "reason", "timesteps")}
        return {**facts, **(told if last else {})}

    def write_state(self, state: str, **fields: Any) -> None:
        """Replace `state` and `fields` in run.json, keeping its other fields.

        A damaged file is kept as `run.json.damaged`, and made anew from what is known.
        So is a configuration that somebody deleted, if this object has read it.

        Raises:
            OSError: it cannot be written, or cannot be read (and nothing is replaced).
        """
        self._write_state(state, fields, sync=True)

    def _write_state(self, state: str, fields: dict[str, Any], sync: bool) -> None:
        if self._known_config is not None and not self.config_file.exists():
            self._write_config(self._known_config, sync)
        try:
            data = self.state_file.read_bytes()
        except FileNotFoundError:
            data = b"{}"
        found = _to_dict(data)
        if found is None:
            self._keep_aside(data, sync)
        kept = found or {}
        if "format" not in kept:
            kept = {**(self._known_state or self._told_elsewhere()), **kept}
        merged = {**kept, "state": state, "changed_at": time.time(), **fields}
        write_atomically(self.state_file, to_json(merged, indent=2), sync)
        self._known_state = merged
        # Not before: a warning may be made an error.
        if found is None:
            self._warn(
                f"{self.state_file} was damaged; it is kept as {self.state_file.name}"
                f"{DAMAGED_SUFFIX}, and made anew from the rest"
            )

    def _keep_aside(self, damaged: bytes, sync: bool) -> None:
        aside = self.state_file.with_name(self.state_file.name + DAMAGED_SUFFIX)
        # Of several, the first is the one that had the facts.
        if not aside.exists():
            write_atomically(aside, damaged, sync)

    def journal(self) -> Iterator[dict[str, Any]]:
        """Yield what happened, in order; lines that are not whole are skipped.

        A file that is missing, torn or damaged gives one `DamagedRunWarning` (as in
        `episodes` and `metrics`); a last line that is just being written gives none.
        """
        data = self._read(self.journal_file)
        # Not `splitlines`: a text may hold other ends of lines.
        lines = data.decode("utf-8", "replace").split("\n")[:-1]
        bad = 0
        for line in lines:
            try:
                entry = json.loads(line)
                if not isinstance(entry, dict) or "type" not in entry:
                    raise ValueError("no entry of a journal")
            except ValueError:
                bad += 1
            else:
                yield entry
        self._warn_of_garbage(self.journal_file, bad)

    def episodes(self) -> pd.DataFrame:
        """Return every finished episode.

        Columns: episode, timesteps, reward, length, lines (NaN where the environment
        has none), env, seconds (since the start).
        """
        names = {"r": "reward", "l": "length", "t": "seconds"}
        whole = ["episode", "timesteps", "l", "env"]
        table = self._read_csv(self.monitor_file, EPISODE_COLUMNS, whole, ["r"])
        table = table.rename(columns=names)
        order = ["episode", "timesteps", "reward", "length", "lines", "env", "seconds"]
        return table[order]

    def metrics(self) -> pd.DataFrame:
        """Return the metrics over time: timesteps, elapsed, fps, and SB3's own keys."""
        return self._read_csv(self.progress_file, METRIC_COLUMNS, ["timesteps"], [])

    def evaluations(self) -> pd.DataFrame:
        """Return the evaluations: timesteps, elapsed, mean_lines, lower, upper, ….

        Where no game ended by itself (`finished` is 0) only `lower` is known: the mean
        is at least that. `mean_lines` and `upper` are then the lines of all games.
        """
        import pandas as pd

        rows = [
            entry
            for entry in without_superseded(self.journal())
            if entry["type"] == "evaluation"
        ]
        columns = "timesteps elapsed mean_lines lower upper games finished max_lines"
        frame = pd.DataFrame(rows, columns=columns.split())
        return frame

    def holder(self) -> int | None:
        """Return the pid of the process that writes to the directory now, if any.

        To ask needs no more than to read; of a lock that one may not even read, nobody
        is known.
        """
        import fcntl

        try:
            # Those who ask don't hinder one another.
            with self._locked(os.O_RDONLY, fcntl.LOCK_SH, LOCK_SECONDS):
                return None
        except RunBusyError as error:
            return error.pid
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            return None

    @contextlib.contextmanager
    def lock(self, patience: float = LOCK_SECONDS) -> Iterator[None]:
        """Be the only writer of this directory.

        The system unlocks it when the process ends, however that happens; so the lock
        of a dead process is nobody's. File systems without locks have none.

        Args:
            patience: seconds to wait for somebody who only asks for the holder, and has
                it for an instant.

        Raises:
            RunBusyError: another process has it; the message names its pid.
            OSError: the lock cannot be made.
        """
        import fcntl

        flags = os.O_RDWR | os.O_CREAT
        with self._locked(flags, fcntl.LOCK_EX, patience) as descriptor:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            yield

    @contextlib.contextmanager
    def _locked(self, flags: int, kind: int, patience: float) -> Iterator[int]:
        import fcntl

        descriptor = os.open(self.lock_file, flags, 0o644)
        until = time.monotonic() + patience
        try:
            while True:
                try:
                    fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
                except BlockingIOError:
                    if time.monotonic() > until:
                        raise RunBusyError(self.path, _pid_in(self.lock_file)) from None
                    time.sleep(LOCK_SECONDS / 10)
                except OSError as error:
                    if error.errno not in _NO_LOCKS:
                        raise
                    break
                else:
                    break
            yield descriptor
        finally:
            os.close(descriptor)

    def last_seq(self) -> int:
        """Return the number of the last thing that was journalled; 0: nothing yet."""
        journal = (entry["seq"] for entry in self._entries_backwards())
        episodes = (row["seq"] for row in self._episodes_backwards())
        return max(next(journal, 0), next(episodes, 0))

    def since(self, seq: int, at_most: int | None = None) -> list[dict[str, Any]]:
        """Return what was journalled after number `seq`, in order, as it was told.

        Episodes and entries of the journal are numbered together. Costs as much as
        what it returns, however long the run is.

        Args:
            seq: of the last that is known.
            at_most: return no more than so many, the first; None: all.
        """
        episodes = itertools.islice(self._episodes_after(seq), at_most)
        entries = itertools.takewhile(
            lambda entry: entry["seq"] > seq, self._entries_backwards()
        )
        found = sorted([*episodes, *entries], key=lambda one: int(one["seq"]))
        return found[:at_most]

    def record_end(
        self, state: str, reason: str | None, since: int, **fields: Any
    ) -> dict[str, Any] | None:
        """Write how the run ended, in the place of a process that could not.

        Args:
            state: `finished`, `stopped` or `failed`.
            reason: a sentence, or None.
            since: the last number journalled when that process began.
            **fields: more to be recorded.

        Returns:
            The journal's new entry; None if it has one of the end already.

        Raises:
            RunBusyError: a process still writes to the directory.
            OSError: it cannot be written.
        """
        with self.lock():
            self.write_state(state, reason=reason, **fields)
            statuses = (e for e in self._entries_backwards() if e["type"] == "status")
            last = next(statuses, {"seq": 0})
            if last["seq"] > since and last["state"] in TERMINAL:
                return None
            entry: dict[str, Any] = {
                "type": "status",
                "timesteps": None,
                "elapsed": None,
                "state": state,
                "reason": reason,
                "detail": None,
                "run_id": self.run_id,
                "seq": self.last_seq() + 1,
                "time": time.time(),
                **fields,
            }
            end_line(self.journal_file)
            with self.journal_file.open("ab", buffering=0) as file:
                file.write(to_json(entry).encode() + b"\n")
                os.fsync(file.fileno())
            return entry

    def _entries_backwards(self) -> Iterator[dict[str, Any]]:
        """Yield the journal's whole entries that have a number, the last first."""
        for line in _lines_backwards(self.journal_file):
            with contextlib.suppress(ValueError):  # half a line
                entry = json.loads(line)
                if isinstance(entry, dict) and isinstance(entry.get("seq"), int):
                    yield entry

    def _episodes_backwards(self) -> Iterator[dict[str, Any]]:
        """Yield the finished episodes as they were told, the last first."""
        return _episodes_in(_lines_backwards(self.monitor_file), self.run_id)

    def _episodes_after(self, seq: int) -> Iterator[dict[str, Any]]:
        """Yield the finished episodes after number `seq`, as told, in order."""
        episodes = _episodes_in(_lines_after(self.monitor_file, seq), self.run_id)
        return (episode for episode in episodes if episode["seq"] > seq)

    def rewind(
        self, timesteps: int, episodes: int, checkpoint: Path | None = None
    ) -> None:
        """Make the tables end at a checkpoint, so that the run can go on from there.

        What comes after it is kept in `superseded/`. The journal keeps everything: an
        entry `resume` in it says what is superseded (see `without_superseded`). Call it
        as the only writer.

        Args:
            timesteps: of the checkpoint.
            episodes: finished until then.
            checkpoint: its file, if it is one that a person named; it becomes the
                newest of the others, in the place of one of the same timesteps.

        Raises:
            OSError: it cannot be written; nothing is lost.
        """
        stamp = time.strftime("%Y-%m-%d_%H-%M-%S")
        to = self.superseded_directory / f"{stamp}_{secrets.token_hex(2)}"
        newest = self.checkpoint_file(timesteps)
        if checkpoint is not None:
            # Those after it go: killed now, the run must still have one.
            with checkpoint.open("rb") as source, atomic_file(newest) as copy:
                shutil.copyfileobj(source, copy)
        for path in self.checkpoints():
            if path > newest:
                to.mkdir(parents=True, exist_ok=True)
                path.replace(to / path.name)
        # Last: no checkpoint that is still the newest may count more than the tables.
        column = EPISODE_COLUMNS.index("episode")
        _cut(self.monitor_file, lambda row, _: int(row[column]) > episodes, to)
        _cut(
            self.progress_file,
            lambda row, header: int(row[header.index("timesteps")]) > timesteps,
            to,
        )

    def remove_leftovers(self) -> None:
        """Delete what a writer that was killed left half done."""
        for path in self.path.rglob("*.tmp.*"):
            if _TEMPORARY.fullmatch(path.name):
                path.unlink(missing_ok=True)

    # Reading what may be damaged

    def _read(self, path: Path) -> bytes:
        """Return a file's whole lines; nothing if there is none that can be read."""
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            if self._should_have(path):
                self._warn(f"{path} is missing")
            return b""
        except OSError as error:
            self._warn(f"{path} {_unreadable(error)}")
            return b""
        whole = data[: data.rfind(b"\n") + 1]
        # A living writer is in the middle of a line now and then.
        if len(whole) < len(data) and self.holder() is None:
            self._warn(f"{path} ends in half a line, which is skipped")
        return whole

    def _read_csv(
        self, path: Path, columns: tuple[str, ...], whole: list[str], real: list[str]
    ) -> pd.DataFrame:
        """Return a table's rows, as numbers; NaN where there is none.

        Args:
            path: of the table.
            columns: it has at least these.
            whole: those that hold a whole number in every row.
            real: those that hold a number, or NaN by name, in every row.
        """
        import pandas as pd

        table = self._read(path)
        while table.startswith(b"#"):
            table = table.partition(b"\n")[2]
        first, _, rows = table.partition(b"\n")
        names = first.decode("utf-8", "replace").strip().split(",")
        if not set(columns) <= set(names):  # the header is lost, or there is no file
            names, rows = list(columns), table
        # An empty field is torn where there must be a number, and NaN is not.
        empty = {name: _NAN if name in real else _EMPTY for name in names}
        # The first row says how many numbers a row has, and of which kind.
        head = f"{','.join(names)}\n{','.join('0' for _ in names)}\n".encode()
        frame: pd.DataFrame = pd.read_csv(
            io.BytesIO(head + rows),
            on_bad_lines="skip",
            encoding_errors="replace",
            quoting=csv.QUOTE_NONE,
            low_memory=False,
            keep_default_na=False,
            na_values=empty,
        )[1:]
        is_nan = frame[real].isna()
        frame = frame.apply(pd.to_numeric, errors="coerce")
        are_rows = (frame[whole].abs() <= MAX_COUNT).all(axis=1)
        are_rows &= (frame[real].notna() | is_nan).all(axis=1)
        frame = frame[are_rows].reset_index(drop=True)
        self._warn_of_garbage(path, rows.count(b"\n") - len(frame))
        return frame.astype(dict.fromkeys(whole, "int64"))

    def _should_have(self, path: Path) -> bool:
        """Return whether a file that isn't there must have been."""
        state = self.state()
        if path == self.journal_file:
            return state.get("state") in TERMINAL
        if path == self.progress_file:
            # Written at the end at the latest.
            return bool(state.get("timesteps"))
        # Episodes are numbered together with the journal's entries.
        numbers = [entry["seq"] for entry in self._entries_backwards()]
        return bool(numbers) and len(numbers) < numbers[0]

    def _warn_of_garbage(self, path: Path, lines: int) -> None:
        if lines:
            self._warn(f"{path}: {lines:,} lines cannot be read")

    def _warn(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            warnings.warn(text, DamagedRunWarning, stacklevel=2)


def write_atomically(path: Path, data: str | bytes, sync: bool = True) -> None:
    """Write a file so that a reader, or a crash, finds the old one or the new one.

    Args:
        path: of the file.
        data: the whole of it.
        sync: survive a power cut, too, which takes the disk some time.

    Raises:
        OSError: it cannot be written; the old file is unharmed.
    """
    with atomic_file(path, sync) as file:
        file.write(data.encode() if isinstance(data, str) else data)


@contextlib.contextmanager
def atomic_file(path: Path, sync: bool = True) -> Iterator[IO[bytes]]:
    """Open a file, to write and read, that takes the place of `path` when it is whole.

    Args:
        path: of the file.
        sync: survive a power cut, too.

    Raises:
        OSError: it cannot be written; the old file is unharmed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = f"{os.getpid()}-{threading.get_native_id()}"
    temporary = path.with_name(f"{path.name}.tmp.{writer}")
    try:
        with temporary.open("w+b") as file:
            yield file
            file.flush()
            if sync:
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if sync:
        sync_file(path.parent)


def check_name(name: Any) -> str:
    """Return `name` in Unicode's normal form, if a file can be called so anywhere.

    Raises:
        ValueError: it cannot; the message says what is allowed.
    """
    text = unicodedata.normalize("NFC", name) if isinstance(name, str) else ""
    # Letters, the marks that belong to them, and numbers.
    kinds = [unicodedata.category(one)[0] for one in text]
    are_fit = [
        kind in "LMN" or one in PUNCTUATION
        for kind, one in zip(kinds, text, strict=True)
    ]
    if (
        not 1 <= len(text) <= MAX_NAME
        or not all(are_fit)
        or kinds[0] not in "LN"
        or text[-1] in ". "
    ):
        raise ValueError(
            f"name: {name!r:.120} is refused; allowed: 1 to {MAX_NAME} letters, digits "
            f"and {' '.join(PUNCTUATION.split())}, with spaces between, beginning with "
            "a letter or a digit, and not ending with a dot"
        )
    return text


def without_superseded(entries: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a journal's entries without those that a resume took back."""
    kept: list[dict[str, Any]] = []
    for entry in entries:
        last = entry.get("timesteps") if entry["type"] == "resume" else None
        if last is not None:
            kept = [one for one in kept if (one.get("timesteps") or 0) <= last]
        kept.append(entry)
    return kept


def read_metadata(path: Path) -> dict[str, Any] | None:
    """Return the metadata inside a model's zip; None if there is no whole model."""
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:
                return None
            metadata = json.loads(archive.read(METADATA_NAME))
    except (OSError, ValueError, KeyError, EOFError, *DAMAGED_ZIP):
        return None
    return metadata if isinstance(metadata, dict) else None


def origin_of(model: Path) -> str | None:
    """Return the id of the run that a model's file is from, if that is known."""
    told = (read_metadata(model) or {}).get("run_id")
    if isinstance(told, str) and len(told) <= MAX_RUN_ID:
        return told
    above = list(model.absolute().parents)[:MODEL_DEPTH]
    runs = (run for run in map(RunDirectory, above) if run.state_file.exists())
    return next((run.run_id for run in runs), None)


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


def versions() -> dict[str, str | None]:
    """Return the versions of all that a run's numbers depend on."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def damage_of(path: Path) -> str | None:
    """Return what is wrong with a model's file; None if it is whole."""
    try:
        with zipfile.ZipFile(path) as archive:
            bad = archive.testzip()
            # Weights are zips themselves: cut behind one, the file passes for it.
            if MODEL_MEMBER not in archive.namelist():
                return "its end is missing"
    except (OSError, EOFError, *DAMAGED_ZIP) as error:
        return str(error)
    return None if bad is None else f"{bad} has changed"


def _to_dict(data: bytes) -> dict[str, Any] | None:
    """Return a JSON object; None if it is torn, or none."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _unreadable(error: OSError) -> str:
    return f"cannot be read: {error.strerror or error}"


def _flaw_of_table(path: Path) -> str | None:
    try:
        is_whole = _ends_whole(path)
    except OSError as error:
        return _unreadable(error)
    return None if is_whole else "ends in half a line, which readers skip"


def _is_described(model: Path) -> bool:
    """Return whether the metadata beside a model, if there are any, are of that one."""
    try:
        beside = json.loads(model.with_name(METADATA_NAME).read_text(encoding="utf-8"))
        told = beside.get("sha256")
    except FileNotFoundError:
        return True
    except (OSError, ValueError, AttributeError):
        return False
    return bool(told == hashlib.sha256(model.read_bytes()).hexdigest())


def _pid_in(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def sync_file(path: Path) -> None:
    """Make a file durable, or a directory: the names of the files in it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    finally:
        os.close(descriptor)


def _episodes_in(lines: Iterable[bytes], run_id: str) -> Iterator[dict[str, Any]]:
    """Yield the episodes of a table's lines; none of its header, nor of half a line."""
    for line in lines:
        row = line.decode("utf-8", "replace").split(",")
        if len(row) == len(EPISODE_COLUMNS):
            with contextlib.suppress(ValueError):
                yield _to_episode(row, run_id)


def _to_episode(row: list[str], run_id: str) -> dict[str, Any]:
    reward, length, elapsed, episode, env, lines, timesteps, seq = row
    return {
        "type": "episode",
        "timesteps": int(timesteps),
        "elapsed": float(elapsed),
        "episode": int(episode),
        "env": int(env),
        "reward": float(reward),
        "lines": int(lines) if lines else None,
        "length": int(length),
        "run_id": run_id,
        "seq": int(seq),
    }


def _lines_after(path: Path, seq: int) -> Iterator[bytes]:
    """Yield a table's whole lines from somewhat before those after number `seq`.

    Its rows are in the order of their numbers.
    """
    try:
        file = path.open("rb")
    except (FileNotFoundError, PermissionError):
        return
    with file:
        before, after = 0, file.seek(0, os.SEEK_END)
        while after - before > BLOCK_BYTES:
            middle = (before + after) // 2
            episodes = _episodes_in(_lines_from(file, middle), "")
            first: int | None = next((one["seq"] for one in episodes), None)
            if first is not None and first <= seq:
                before = middle
            else:
                after = middle
        yield from _lines_from(file, before)


def _lines_from(file: IO[bytes], position: int) -> Iterator[bytes]:
    """Yield the whole lines that begin after a position, or at 0."""
    file.seek(position)
    if position:
        file.readline()
    for line in file:
        if not line.endswith(b"\n"):
            return
        yield line


def _lines_backwards(path: Path) -> Iterator[bytes]:
    """Yield a file's whole lines, the last first; none if none may be read."""
    try:
        file = path.open("rb")
    except (FileNotFoundError, PermissionError):
        return
    with file:
        position = file.seek(0, os.SEEK_END)
        # What comes after the last end of a line is half a line, or nothing.
        is_whole = False
        rest = b""
        while position > 0:
            size = min(BLOCK_BYTES, position)
            position -= size
            file.seek(position)
            rest, *lines = (file.read(size) + rest).split(b"\n")
            if lines and not is_whole:
                lines.pop()
                is_whole = True
            yield from reversed(lines)
        if is_whole and rest:
            yield rest


def end_line(path: Path) -> None:
    """Let what is written next begin a line; a killed writer may have left half."""
    if path.exists() and not _ends_whole(path):
        with path.open("ab") as file:
            file.write(b"\n")


def _ends_whole(path: Path) -> bool:
    """Return whether a file ends with the end of a line, or is empty."""
    with path.open("rb") as file:
        if not file.seek(0, os.SEEK_END):
            return True
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def _cut(
    path: Path, is_after: Callable[[list[str], list[str]], bool], to: Path
) -> None:
    """Move a table's last rows, those `is_after` or torn, to the directory `to`."""
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return
    table = [line for line in lines if not line.startswith(b"#")]
    header = table[0].decode("utf-8", "replace").rstrip().split(",") if table else []
    rest = 0
    for line in reversed(table[1:]):
        row = line.decode("utf-8", "replace").rstrip("\r\n").split(",")
        is_whole = line.endswith(b"\n") and len(row) == len(header)
        with contextlib.suppress(ValueError):  # not a row either
            if is_whole and not is_after(row, header):
                break
        rest += len(line)
    if rest:
        kept = sum(map(len, lines)) - rest
        write_atomically(to / path.name, b"".join(lines)[kept:])
        os.truncate(path, kept)
