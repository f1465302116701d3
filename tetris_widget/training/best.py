"""Saves models so that a crash leaves the old one or the new one, never neither.

Owns the atomic write and the metadata that travels inside the zip. Deliberately doesn't
know when a model is worth saving.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm

from tetris_widget.run_directory import to_json, write_atomically

METADATA_NAME = "metadata.json"


def save_model(model: BaseAlgorithm, path: Path, metadata: dict[str, Any]) -> None:
    """Write `model` to `path`, and `metadata` into the zip and beside it.

    SB3's own `save` truncates the file first, so that a kill loses both models. The
    copy of the metadata in the zip (which SB3's `load` ignores) is the truth; the file
    beside it names the zip it belongs to by `sha256`.

    Raises:
        OSError: it cannot be written; what was there before is unharmed.
    """
    buffer = io.BytesIO()
    model.save(buffer)
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr(METADATA_NAME, to_json(metadata, indent=2))
    data = buffer.getvalue()
    write_atomically(path, data)
    beside = {**metadata, "sha256": hashlib.sha256(data).hexdigest()}
    write_atomically(path.parent / METADATA_NAME, to_json(beside, indent=2))
