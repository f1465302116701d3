"""The ids: known to Gymnasium as soon as the package is imported."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "imports", ["import tetris_widget, gymnasium", "import gymnasium, tetris_widget"]
)
def test_importing_the_package_is_enough_and_light(imports: str) -> None:
    code = (
        f"import sys; {imports}; "
        "ids = ['tetris_widget/Tetris-v0', 'tetris_widget/TetrisKeys-v0']; "
        "assert all(gymnasium.spec(one).entry_point for one in ids); "
        "bad = {'torch', 'numba', 'stable_baselines3', 'pandas'} & set(sys.modules); "
        "sys.exit(str(bad) if bad else 0)"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)


def test_an_env_is_made_by_its_id_alone() -> None:
    code = (
        "import gymnasium, tetris_widget; "
        "one = gymnasium.make('tetris_widget/Tetris-v0', rows=10, observation='board');"
        "assert one.reset(seed=0)[0].shape == (8, 10, 10); "
        "keys = gymnasium.make('tetris_widget/TetrisKeys-v0'); "
        "assert keys.action_space.n == 8"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
