"""The game as a learning problem: for gymnasium, and many at once for SB3."""

import gymnasium

from tetris_widget.envs.single import TetrisEnv
from tetris_widget.envs.vec import TetrisVecEnv

ENV_ID = "tetris_widget/Tetris-v0"
KEYS_ENV_ID = "tetris_widget/TetrisKeys-v0"
_ENTRY_POINT = "tetris_widget.envs.single:TetrisEnv"

if ENV_ID not in gymnasium.registry:
    gymnasium.register(ENV_ID, entry_point=_ENTRY_POINT)
if KEYS_ENV_ID not in gymnasium.registry:
    gymnasium.register(KEYS_ENV_ID, entry_point=_ENTRY_POINT, kwargs={"action": "keys"})

__all__ = ["ENV_ID", "KEYS_ENV_ID", "TetrisEnv", "TetrisVecEnv"]
