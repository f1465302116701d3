"""The game as a learning problem: for gymnasium, and many at once for SB3."""

from tetris_widget.envs.single import TetrisEnv
from tetris_widget.envs.vec import TetrisVecEnv
from tetris_widget.registration import ENV_ID, KEYS_ENV_ID

__all__ = ["ENV_ID", "KEYS_ENV_ID", "TetrisEnv", "TetrisVecEnv"]
