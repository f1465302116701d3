"""The game as a learning problem: for gymnasium, and many at once for SB3."""

import gymnasium

from tetris_widget.envs.single import TetrisEnv
from tetris_widget.envs.vec import TetrisVecEnv

ENV_ID = "tetris_widget/Tetris-v0"

if ENV_ID not in gymnasium.registry:
    gymnasium.register(ENV_ID, entry_point="tetris_widget.envs.single:TetrisEnv")

__all__ = ["ENV_ID", "TetrisEnv", "TetrisVecEnv"]
