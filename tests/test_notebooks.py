"""The notebooks run from top to bottom."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
# Seconds become minutes where the full default run is not the point.
SHORT = (
    "import tetris_widget.config as c; "
    "c.TrainingConfig.model_fields['total_timesteps'].default = 60_000; "
    "c.TrainingConfig.model_rebuild(force=True)"
)


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    "name", sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
)
def test_it_runs(name: str, tmp_path: Path) -> None:
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    notebook.cells = [
        cell
        for cell in notebook.cells
        if "install" not in cell.metadata.get("tags", [])
    ]
    notebook.cells.insert(0, nbformat.v4.new_code_cell(SHORT))
    client = NotebookClient(
        notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()


def test_they_are_committed_without_outputs() -> None:
    for path in NOTEBOOKS.glob("*.ipynb"):
        for cell in nbformat.read(path, as_version=4).cells:
            assert not cell.get("outputs")
            assert cell.get("execution_count") is None
