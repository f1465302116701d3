"""All that a run needs to go on as if it had never stopped, bit for bit.

Owns what belongs to it, and the form of its file: a zip that plain SB3 loads as the
model, with the rest beside it as JSON and NumPy arrays. A file is written whole or not
at all, and the zip's checksums tell whether it still is. Reading one unpickles nothing
(torch reads weights only): the one pickle in it, SB3's `data`, is there for others.
Deliberately doesn't know when checkpoints are taken.
"""

from __future__ import annotations

import errno
import json
import platform
import random
import zipfile
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm

from tetris_widget.game.state import Field, State, check, split
from tetris_widget.run_directory import DAMAGED_ZIP, atomic_file, versions
from tetris_widget.training.best import copy_parameters, read_parameters, write_sb3

FORMAT = 1
VALUES_NAME = "checkpoint.json"
ARRAYS_PREFIX = "arrays/"
# Its checksum is taken, and it is written, while it is in the processor's cache.
CHUNK_BYTES = 2**18
# What SB3's algorithms count by, beside their parameters; each has some of them.
COUNTERS = (
    "num_timesteps",
    "_total_timesteps",
    "_current_progress_remaining",
    "_n_updates",
    "_episode_num",
    "_n_calls",
    "exploration_rate",
)
STATISTICS = ("ep_info_buffer", "ep_success_buffer")
BUFFER_ARRAYS = ("observations", "actions", "rewards", "dones", "timeouts")

Values = dict[str, Any]


class CheckpointError(ValueError):
    """A file that is no checkpoint that can be gone on from."""


@dataclass(frozen=True)
class Snapshot:
    """A run between two rollouts; nothing in it changes when the run goes on.

    Attributes:
        parameters: of the model and its optimizer, as `get_parameters` gives them.
        values: what fits JSON: counters, generators, versions.
        arrays: the environments, the last observations, the replay buffer, generators.
    """

    parameters: Values
    values: Values
    arrays: State

    @property
    def timesteps(self) -> int:
        """Timesteps of the run so far."""
        return int(self.values["model"]["num_timesteps"])

    @property
    def differences(self) -> list[str]:
        """What is not as it was, so that results may differ in their last bits."""
        has_envs = self.values.get("has_envs", True)
        return [
            *(
                []
                if has_envs
                else ["environments of others cannot be kept: begun anew"]
            ),
            *self._other_surroundings(),
        ]

    def _other_surroundings(self) -> list[str]:
        return [
            f"{name} was {was}, is {now}"
            for name, now in _surroundings().items()
            if (was := self.values["surroundings"].get(name)) != now
        ]


def take_snapshot(model: BaseAlgorithm, reports: Values, extra: Values) -> Snapshot:
    """Return the run as it is, between two rollouts.

    Args:
        model: nothing of it is changed, no number drawn. Of environments that have no
            `get_state` (others than ours), nor of what was collected from them, is
            anything kept: episodes begin anew.
        reports: the state of the run's `WebMetricsCallback`.
        extra: other plain values to be kept.
    """
    counts = {
        key: value
        for key, value in reports.items()
        if not isinstance(value, (np.ndarray, dict))
    }
    numpy_state: Any = np.random.get_state(legacy=False)
    values = {
        "format": FORMAT,
        "algorithm": type(model).__name__,
        "model": {n: getattr(model, n) for n in COUNTERS if hasattr(model, n)},
        "statistics": {name: list(getattr(model, name) or ()) for name in STATISTICS},
        "reports": counts,
        "extra": extra,
        "python_generator": random.getstate(),
        "numpy_generator": {
            **numpy_state,
            "state": {"pos": numpy_state["state"]["pos"]},
        },
        "action_generator": model.action_space.np_random.bit_generator.state,
        "surroundings": _surroundings(),
        "has_envs": _keeps_envs(model),
    }
    arrays = {
        "numpy_generator": numpy_state["state"]["key"].copy(),
        "torch_generator": torch.get_rng_state().numpy().copy(),
        "returns": reports["returns"],
        "lengths": reports["lengths"],
        **{f"recording/{name}": a for name, a in reports["recording"].items()},
    }
    if _keeps_envs(model):
        arrays |= _take_envs(model, values)
    else:
        for name in ("returns", "lengths"):
            arrays[name] = np.zeros_like(arrays[name])
    return Snapshot(copy_parameters(model.get_parameters()), values, arrays)


def _take_envs(model: BaseAlgorithm, values: Values) -> State:
    """Return the environments and what was seen of them; count it in `values`."""
    env: Any = model.env
    arrays = {f"env/{name}": array for name, array in env.get_state().items()}
    arrays["last_obs"] = np.array(model._last_obs)
    arrays["last_episode_starts"] = np.array(model._last_episode_starts)
    buffer: Any = getattr(model, "replay_buffer", None)
    if buffer is not None:
        values["buffer"] = {"pos": buffer.pos, "full": bool(buffer.full)}
        filled = buffer.buffer_size if buffer.full else buffer.pos
        # Not copies: too large. `Checkpointer` writes them before anything goes on.
        arrays |= {f"buffer/{n}": getattr(buffer, n)[:filled] for n in BUFFER_ARRAYS}
        # An observation's next one is the next row's, but for these: half the size.
        ends = _ends(buffer.dones[:filled], buffer.pos)
        arrays["buffer/ends"] = buffer.next_observations[:filled][ends]
    return arrays


def _keeps_envs(model: BaseAlgorithm) -> bool:
    return hasattr(model.env, "get_state")


def restore(model: BaseAlgorithm, snapshot: Snapshot) -> None:
    """Make a new model, and its env, what they were; generators come later.

    Args:
        model: built anew by the configuration that the run has.
        snapshot: of that run.

    Raises:
        CheckpointError: the snapshot is of another kind of run; the message says how.
    """
    try:
        _restore(model, snapshot)
    except CheckpointError:
        raise
    except (ValueError, RuntimeError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"the checkpoint doesn't fit this run: {error}"
        ) from error


def _restore(model: BaseAlgorithm, snapshot: Snapshot) -> None:
    values, kind = snapshot.values, type(model).__name__
    if values["algorithm"] != kind:
        raise CheckpointError(f"algorithm: {values['algorithm']}; allowed: {kind}")
    check(_without_prefixes(snapshot.arrays), _fields(model))
    if _keeps_envs(model):
        _restore_envs(model, snapshot)
    model.set_parameters(snapshot.parameters, exact_match=True, device="cpu")
    for name in COUNTERS:
        if name in values["model"]:
            setattr(model, name, values["model"][name])
    for name in STATISTICS:
        items = values["statistics"][name]
        setattr(model, name, deque(items, maxlen=model._stats_window_size))


def _restore_envs(model: BaseAlgorithm, snapshot: Snapshot) -> None:
    env: Any = model.env
    env.set_state(_with_prefix(snapshot.arrays, "env/"))
    _restore_buffer(getattr(model, "replay_buffer", None), snapshot)
    model._last_obs = snapshot.arrays["last_obs"].copy()
    model._last_episode_starts = snapshot.arrays["last_episode_starts"].copy()


def restore_generators(model: BaseAlgorithm, snapshot: Snapshot) -> None:
    """Put every generator where it was; the last thing before the run goes on."""
    values, arrays = snapshot.values, snapshot.arrays
    version, words, gauss = values["python_generator"]
    random.setstate((version, tuple(words), gauss))
    state = dict(values["numpy_generator"])
    state["state"] = {**state["state"], "key": arrays["numpy_generator"]}
    np.random.set_state(state)
    torch.set_rng_state(torch.from_numpy(arrays["torch_generator"].copy()))
    model.action_space.np_random.bit_generator.state = values["action_generator"]


def reports_of(snapshot: Snapshot) -> Values:
    """Return the state of the run's `WebMetricsCallback`."""
    arrays = {name: snapshot.arrays[name] for name in ("returns", "lengths")}
    recording = _with_prefix(snapshot.arrays, "recording/")
    return {**snapshot.values["reports"], **arrays, "recording": recording}


def write_checkpoint(path: Path, model: BaseAlgorithm, snapshot: Snapshot) -> None:
    """Write `snapshot` to `path`, whole or not at all.

    Args:
        path: of the file.
        model: that the snapshot was taken from; it may have gone on since.
        snapshot: to be written.

    Raises:
        OSError: it cannot be written; what was there before is unharmed.
    """
    counters = snapshot.values["model"]
    # A zip's checksums guard its members, but not how many there are.
    values = {**snapshot.values, "arrays": sorted(snapshot.arrays)}
    with atomic_file(path) as file, zipfile.ZipFile(file, "w") as archive:
        write_sb3(archive, model, snapshot.parameters, counters)
        archive.writestr(VALUES_NAME, json.dumps(values, default=_plain))
        for name, array in snapshot.arrays.items():
            member = f"{ARRAYS_PREFIX}{name}.npy"
            with archive.open(member, "w", force_zip64=True) as out:
                _write_array(out, array)


def _write_array(out: IO[bytes], array: NDArray[Any]) -> None:
    """Write what `np.save` does, without a copy: a replay buffer has 230 MB."""
    array = np.asarray(array, order="C")
    header = np.lib.format.header_data_from_array_1_0(array)
    np.lib.format.write_array_header_1_0(out, header)
    content = array.reshape(-1).view(np.uint8).data
    for start in range(0, len(content), CHUNK_BYTES):
        out.write(content[start : start + CHUNK_BYTES])


def read_checkpoint(path: Path) -> Snapshot:
    """Read a checkpoint, unpickling nothing.

    Raises:
        CheckpointError: it is damaged, not a checkpoint, or of a newer version.
        OSError: it cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            bad = archive.testzip()
            if bad is not None:
                raise CheckpointError(f"{path} is damaged: {bad} has changed")
            return _read(archive)
    except CheckpointError:
        raise
    except (KeyError, ValueError, EOFError, OSError, *DAMAGED_ZIP) as error:
        # A damaged directory of the zip points to before its beginning.
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise
        raise CheckpointError(
            f"{path} is damaged, or no checkpoint: {error}"
        ) from error


def _read(archive: zipfile.ZipFile) -> Snapshot:
    values = json.loads(archive.read(VALUES_NAME))
    if values["format"] > FORMAT:
        raise CheckpointError(
            f"{archive.filename} is of version {values['format']}; allowed: up to "
            f"{FORMAT}; a newer tetris-widget reads it"
        )
    arrays = {}
    for name in values.pop("arrays"):
        with archive.open(f"{ARRAYS_PREFIX}{name}.npy") as member:
            arrays[name] = np.lib.format.read_array(member, allow_pickle=False)
    return Snapshot(read_parameters(archive), values, arrays)


def _fields(model: BaseAlgorithm) -> dict[str, Field]:
    """What the arrays of the model itself must look like."""
    assert model.env is not None
    n_envs, space = model.env.num_envs, model.observation_space
    seen = {}
    if _keeps_envs(model):
        shape = (n_envs, *(space.shape or ()))
        seen["last_obs"] = Field(np.zeros(shape, space.dtype))
        seen["last_episode_starts"] = Field(np.zeros(n_envs, np.bool_))
    generator: Any = np.random.get_state(legacy=False)
    return {
        **seen,
        "numpy_generator": Field(generator["state"]["key"]),
        "torch_generator": Field(torch.get_rng_state().numpy()),
        "returns": Field(np.zeros(n_envs)),
        "lengths": Field(np.zeros(n_envs, np.int64)),
    }


def _restore_buffer(buffer: Any, snapshot: Snapshot) -> None:
    if buffer is None:
        return
    saved, arrays = snapshot.values["buffer"], _with_prefix(snapshot.arrays, "buffer/")
    filled = buffer.buffer_size if saved["full"] else int(saved["pos"])
    fields = {name: Field(getattr(buffer, name)[:filled]) for name in BUFFER_ARRAYS}
    own, rest = split(arrays, fields)
    ends = _ends(own["dones"], int(saved["pos"]))
    following = buffer.next_observations[:filled]
    rest = check(rest, {"ends": Field(following[ends])})
    for name, array in own.items():
        getattr(buffer, name)[:filled] = array
    following[:] = np.roll(own["observations"], -1, axis=0)
    following[ends] = rest["ends"]
    buffer.pos, buffer.full = int(saved["pos"]), bool(saved["full"])


def _ends(dones: NDArray[Any], position: int) -> NDArray[np.bool_]:
    """Return after which observations of a replay buffer a game, or the buffer, ends.

    Args:
        dones: (rows, n_envs), 1 where a game ends.
        position: of the row that is written next.
    """
    ends: NDArray[np.bool_] = dones != 0
    if len(ends):
        ends[position - 1] = True
    return ends


def _with_prefix(arrays: Mapping[str, Any], prefix: str) -> State:
    return {
        name.removeprefix(prefix): array
        for name, array in arrays.items()
        if name.startswith(prefix)
    }


def _without_prefixes(arrays: Mapping[str, Any]) -> State:
    return {name: array for name, array in arrays.items() if "/" not in name}


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} does not fit JSON")


def _surroundings() -> dict[str, Any]:
    return {**_MACHINE, "torch threads": torch.get_num_threads()}


# What the last bits of a sum can depend on, beside the number of threads.
_MACHINE = {
    **versions(),
    "machine": platform.machine(),
    "CPU": torch.backends.cpu.get_cpu_capability(),
}
