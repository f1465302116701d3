"""The ids of our environments, as Gymnasium knows them.

Owns the ids and what they stand for; importing it registers them, and loads neither
torch nor numba. Gymnasium 1.0 gave up finding packages by itself, so that this happens
when `tetris_widget` is imported. Deliberately doesn't know the environments: Gymnasium
imports them when one is made.
"""

from __future__ import annotations

import gymnasium

ENV_ID = "tetris_widget/Tetris-v0"
KEYS_ENV_ID = "tetris_widget/TetrisKeys-v0"
_ENTRY_POINT = "tetris_widget.envs.single:TetrisEnv"

gymnasium.register(ENV_ID, entry_point=_ENTRY_POINT)
gymnasium.register(KEYS_ENV_ID, entry_point=_ENTRY_POINT, kwargs={"action": "keys"})
