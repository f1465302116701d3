"""Saves models so that a crash leaves the old one or the new one, never neither.

Owns the form of a model's file: SB3's own zip, which plain SB3 loads, with the metadata
inside. Deliberately doesn't know when a model is worth saving.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import stable_baselines3
import torch
from gymnasium.spaces import Space
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.save_util import data_to_json
from stable_baselines3.common.utils import get_system_info

from tetris_widget.run_directory import (
    DAMAGED_ZIP,
    METADATA_NAME,
    to_json,
    write_atomically,
)

# As in SB3's save_util.
DATA_NAME = "data"
VARIABLES_NAME = "pytorch_variables.pth"
# What `load` makes anew, or what belongs to the run rather than to the model.
NOT_THE_MODELS = ("_last_obs", "_last_episode_starts", "_last_original_obs")

# Per model: the attributes that never change, and their JSON.
_KEPT: WeakKeyDictionary[BaseAlgorithm, dict[str, tuple[Any, str]]] = (
    WeakKeyDictionary()
)


def save_model(
    model: BaseAlgorithm,
    path: Path,
    metadata: dict[str, Any],
    parameters: Mapping[str, Any] | None = None,
) -> None:
    """Write `model` to `path`, and `metadata` into the zip and beside it.

    SB3's own `save` truncates the file first, so that a kill loses both models. The
    copy of the metadata in the zip (which SB3's `load` ignores) is the truth; the file
    beside it names the zip it belongs to by `sha256`.

    Args:
        model: to be saved.
        path: of the zip.
        metadata: plain values.
        parameters: in place of the model's own, as its `get_parameters` gives them.

    Raises:
        OSError: it cannot be written; what was there before is unharmed.
    """
    write_model(model_zip(model, metadata, parameters), path, metadata)


def write_model(data: bytes, path: Path, metadata: Mapping[str, Any]) -> None:
    """Write what `model_zip` has made to `path`, and `metadata` beside it.

    Raises:
        OSError: it cannot be written; what was there before is unharmed.
    """
    write_atomically(path, data)
    beside = {**metadata, "sha256": hashlib.sha256(data).hexdigest()}
    write_atomically(path.parent / METADATA_NAME, to_json(beside, indent=2))


def model_zip(
    model: BaseAlgorithm,
    metadata: Mapping[str, Any],
    parameters: Mapping[str, Any] | None = None,
) -> bytes:
    """Return the file of a model as it is now; see `save_model`."""
    buffer = io.BytesIO()
    # Parameters may be older than the model.
    then = {"num_timesteps": metadata.get("timesteps", model.num_timesteps)}
    with zipfile.ZipFile(buffer, "w") as archive:
        write_sb3(archive, model, parameters or model.get_parameters(), then)
        archive.writestr(METADATA_NAME, to_json(metadata, indent=2))
    return buffer.getvalue()


def read_parameters(archive: zipfile.ZipFile) -> dict[str, Any]:
    """Return a model's parameters as `get_parameters` gives them; unpickle nothing.

    Raises:
        ValueError: there are none, or the file holds more than weights.
    """
    parameters = {}
    for name in archive.namelist():
        if name.endswith(".pth") and name != VARIABLES_NAME:
            parameters[name.removesuffix(".pth")] = _load_weights(archive, name)
    if not parameters:
        raise ValueError(f"{archive.filename} holds no weights")
    return parameters


def take_parameters(model: BaseAlgorithm, path: Path) -> None:
    """Give a model the parameters of the one in a file; unpickle nothing.

    Raises:
        ValueError: the file cannot be read, is damaged, holds more than weights, or is
            of a model of another shape.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if (bad := archive.testzip()) is not None:
                raise ValueError(f"{bad} has changed")
            parameters = read_parameters(archive)
        model.set_parameters(parameters, exact_match=True, device="cpu")
    except (
        *(OSError, ValueError, LookupError, TypeError, AttributeError, EOFError),
        *DAMAGED_ZIP,
    ) as error:
        raise ValueError(f"{path} is damaged, or no model: {error}") from error


def copy_parameters(parameters: Any) -> Any:
    """Return what `get_parameters` gives, with every tensor copied."""
    if isinstance(parameters, torch.Tensor):
        return parameters.detach().clone()
    if isinstance(parameters, Mapping):
        return {key: copy_parameters(value) for key, value in parameters.items()}
    if isinstance(parameters, (list, tuple)):
        return type(parameters)(copy_parameters(value) for value in parameters)
    return parameters


def write_sb3(
    archive: zipfile.ZipFile,
    model: BaseAlgorithm,
    parameters: Mapping[str, Any],
    attributes: Mapping[str, Any],
) -> None:
    """Write what `model.save` does, with other parameters and attributes.

    SB3's own `save_to_zip_file` looks for a package that isn't there each time, which
    takes longer than the rest.

    Args:
        archive: to be written.
        model: to be saved.
        parameters: as its `get_parameters` gives them.
        attributes: take the place of the model's own.
    """
    kinds, variables = model._get_torch_save_params()
    excluded = {
        *model._excluded_save_params(),
        *NOT_THE_MODELS,
        *(name.split(".")[0] for name in (*kinds, *variables)),
    }
    data = {name: v for name, v in vars(model).items() if name not in excluded}
    archive.writestr(DATA_NAME, _to_json(model, {**data, **attributes}))
    tensors = {name: getattr(model, name) for name in variables}
    for name, value in {VARIABLES_NAME: tensors, **_files(parameters)}.items():
        with archive.open(name, "w", force_zip64=True) as file:
            torch.save(value, file)
    archive.writestr("_stable_baselines3_version", stable_baselines3.__version__)
    archive.writestr("system_info.txt", _system_info())


def _files(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{name}.pth": value for name, value in parameters.items()}


@functools.cache
def _system_info() -> str:
    return get_system_info(print_info=False)[1]


def _to_json(model: BaseAlgorithm, data: Mapping[str, Any]) -> str:
    """Return what SB3's `data_to_json` does, which spells spaces out at length.

    That takes longer than all the rest of saving; what never changes is kept.
    """
    kept = _KEPT.setdefault(model, {})
    entries = {n: kept[n][1] for n, v in data.items() if n in kept and kept[n][0] is v}
    rest = {name: value for name, value in data.items() if name not in entries}
    for name, made in json.loads(data_to_json(rest)).items():
        entries[name] = json.dumps(made)
        if isinstance(rest[name], (Space, type)):
            kept[name] = (rest[name], entries[name])
    lines = (f"{json.dumps(name)}: {text}" for name, text in entries.items())
    return "{\n" + ",\n".join(lines) + "\n}"


def _load_weights(archive: zipfile.ZipFile, name: str) -> Any:
    with archive.open(name) as file:
        try:
            return torch.load(file, "cpu", weights_only=True)
        except Exception as error:  # what is no pickle can raise nearly anything
            raise ValueError(
                f"{name} is damaged, or holds more than weights"
            ) from error
