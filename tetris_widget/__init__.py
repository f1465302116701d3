"""Watch and steer a reinforcement-learning run live from a notebook.

The public names, loaded when they are first used: importing this package loads neither
torch nor numba. It registers the environments, so that `gymnasium.make` finds them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from tetris_widget import registration as registration

if TYPE_CHECKING:
    from tetris_widget.config import ConfigError, TrainingConfig
    from tetris_widget.envs import TetrisEnv, TetrisVecEnv
    from tetris_widget.library import ModelLibrary
    from tetris_widget.manager import TrainingManager
    from tetris_widget.panel import TrainingPanel
    from tetris_widget.run_directory import RunDirectory
    from tetris_widget.training.callback import WebMetricsCallback
    from tetris_widget.training.policies import BoardExtractor

__version__ = "0.1.0"
__all__ = [
    "BoardExtractor",
    "ConfigError",
    "ModelLibrary",
    "RunDirectory",
    "TetrisEnv",
    "TetrisVecEnv",
    "TrainingConfig",
    "TrainingManager",
    "TrainingPanel",
    "WebMetricsCallback",
]

_MODULES = {
    "BoardExtractor": "training.policies",
    "ConfigError": "config",
    "ModelLibrary": "library",
    "RunDirectory": "run_directory",
    "TetrisEnv": "envs",
    "TetrisVecEnv": "envs",
    "TrainingConfig": "config",
    "TrainingManager": "manager",
    "TrainingPanel": "panel",
    "WebMetricsCallback": "training.callback",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
