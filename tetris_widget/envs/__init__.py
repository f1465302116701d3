"""The game as a learning problem: for gymnasium, and many at once for SB3."""

import gymnasium

from tetris_widget.envs.keys import TetrisKeysEnv, TetrisKeysVecEnv
from tetris_widget.envs.single import TetrisEnv
from tetris_widget.envs.vec import TetrisVecEnv

ENV_ID = "tetris_widget/Tetris-v0"
KEYS_ENV_ID = "tetris_widget/TetrisKeys-v0"

if ENV_ID not in gymnasium.registry:
    gymnasium.register(ENV_ID, entry_point="tetris_widget.envs.single:TetrisEnv")
if KEYS_ENV_ID not in gymnasium.registry:
    gymnasium.register(KEYS_ENV_ID, entry_point="tetris_widget.envs.keys:TetrisKeysEnv")

__all__ = [
    "ENV_ID",
    "KEYS_ENV_ID",
    "TetrisEnv",
    "TetrisKeysEnv",
    "TetrisKeysVecEnv",
    "TetrisVecEnv",
]
