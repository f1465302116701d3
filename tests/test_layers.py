"""Who may import whom: the rooms of the house, read from the source."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "tetris_widget"
# Each room and the rooms that it may know; a room always knows itself.
ALLOWED = {
    "config": set(),
    "ipc": set(),
    "guard": set(),
    "game": set(),
    "env_ids": {"config"},
    "registration": set(),
    "envs": {"config", "game", "registration"},
    "history": set(),
    "run_directory": {"config"},
    "training": {"config", "env_ids", "ipc", "run_directory", "game", "envs"},
    "manager": {
        "config",
        "env_ids",
        "guard",
        "ipc",
        "run_directory",
        "training.worker",
    },
    "panel": {
        "config",
        "history",
        "manager",
        "run_directory",
        "library",
        "librarian",
        # Only when a model is loaded into the kernel.
        "training.policies",
    },
    # `training` only when a model is taken apart.
    "library": {"config", "run_directory", "envs", "training"},
    # `stage` is what its process runs.
    "librarian": {"ipc", "library", "stage"},
    "stage": {"config", "library", "run_directory", "training"},
    "cli": {"config", "manager", "run_directory"},
}
FOREIGN = {
    "game": {"gymnasium", "stable_baselines3", "torch"},
    "manager": {"torch", "anywidget", "IPython", "stable_baselines3"},
    "env_ids": {"torch", "stable_baselines3"},
    "registration": {"torch", "numba", "stable_baselines3"},
    "config": {"torch", "numba", "numpy"},
    "librarian": {"torch", "anywidget", "IPython", "stable_baselines3"},
    "history": {"torch", "anywidget", "IPython"},
}


def modules() -> list[Path]:
    return [path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py"]


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_module_knows_only_what_its_room_may(path: Path) -> None:
    own = room(path)
    for name in imports(path):
        if not name.startswith("tetris_widget."):
            assert name.split(".")[0] not in FOREIGN.get(own, set())
            continue
        target = name.removeprefix("tetris_widget.")
        is_known = any(f"{target}.".startswith(f"{one}.") for one in ALLOWED[own])
        assert is_known or target.split(".")[0] == own, f"{own} imports {name}"


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_module_says_what_it_owns_and_what_it_does_not_know(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
    text = " ".join(docstring.split())
    assert "Owns" in text
    assert "doesn't know" in text
