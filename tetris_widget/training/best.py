"""Saves models so that a crash leaves the old one or the new one, never neither.

Owns the form of a model's file: SB3's own zip, which plain SB3 loads, with the metadata
inside. Deliberately doesn't know when a model is worth saving.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any
from weakref import WeakKeyDictionary

import torch
from gymnasium.spaces import Space
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.save_util import data_to_json, save_to_zip_file

from tetris_widget.run_directory import METADATA_NAME, to_json, write_atomically

# As in SB3's save_util.
DATA_NAME = "data"
VARIABLES_NAME = "pytorch_variables.pth"
# What `load` makes anew, or what belongs to the run rather than to the model.
NOT_THE_MODELS = ("_last_obs", "_last_episode_starts", "_last_original_obs")

# Per model: the attributes that never change, and how they are written.
_KEPT: WeakKeyDictionary[BaseAlgorithm, dict[str, tuple[Any, Any]]] = (
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
    data = model_zip(model, metadata, parameters)
    write_atomically(path, data)
    beside = {**metadata, "sha256": hashlib.sha256(data).hexdigest()}
    write_atomically(path.parent / METADATA_NAME, to_json(beside, indent=2))


def model_zip(
    model: BaseAlgorithm,
    metadata: Mapping[str, Any],
    parameters: Mapping[str, Any] | None = None,
) -> bytes:
    """Return the file that `save_model` writes."""
    buffer = io.BytesIO()
    write_sb3(buffer, model, parameters or model.get_parameters(), {})
    with zipfile.ZipFile(buffer, "a") as archive:
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


def write_sb3(
    file: IO[bytes],
    model: BaseAlgorithm,
    parameters: Mapping[str, Any],
    attributes: Mapping[str, Any],
) -> None:
    """Write what `model.save` does, with other parameters and attributes.

    Args:
        file: to be written, and read, from its beginning.
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
    buffer: Any = file
    save_to_zip_file(
        buffer,
        params=dict(parameters),
        pytorch_variables={name: getattr(model, name) for name in variables},
    )
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(DATA_NAME, _to_json(model, {**data, **attributes}))


def _to_json(model: BaseAlgorithm, data: Mapping[str, Any]) -> str:
    """Return what SB3's `data_to_json` does, which spells spaces out at length.

    That takes longer than all the rest of saving; what never changes is kept.
    """
    kept = _KEPT.setdefault(model, {})
    entries = {n: kept[n][1] for n, v in data.items() if n in kept and kept[n][0] is v}
    rest = {name: value for name, value in data.items() if name not in entries}
    made = json.loads(data_to_json(rest))
    for name, value in rest.items():
        if isinstance(value, (Space, type)):
            kept[name] = (value, made[name])
    return json.dumps({**entries, **made}, indent=4)


def _load_weights(archive: zipfile.ZipFile, name: str) -> Any:
    with archive.open(name) as file:
        try:
            return torch.load(file, "cpu", weights_only=True)
        except Exception as error:  # what is no pickle can raise nearly anything
            raise ValueError(
                f"{name} is damaged, or holds more than weights"
            ) from error
