"""The environments that a configuration describes.

Owns which of a configuration's fields an environment is made of. Deliberately doesn't
know learners.
"""

from __future__ import annotations

from stable_baselines3.common.vec_env import VecEnv

from tetris_widget.config import TrainingConfig
from tetris_widget.envs import TetrisVecEnv
from tetris_widget.training import foreign


def build_env(config: TrainingConfig) -> VecEnv:
    """Return the environments that a run trains on.

    Raises:
        ConfigError: there is none of the id `env_id`, or it cannot be trained on so.
    """
    if config.env_id is not None:
        return foreign.make_env(config)
    return tetris_env(config.in_training(), config.n_envs, config.seed)


def tetris_env(config: TrainingConfig, n: int, seed: int | None) -> TetrisVecEnv:
    """Return `n` games of a configuration of our own game."""
    return TetrisVecEnv(
        n,
        rows=config.rows,
        columns=config.columns,
        randomizer=config.randomizer,
        action=config.action,
        previews=config.previews,
        hold=config.hold,
        observation=config.observation,
        reward=config.reward,
        gamma=config.gamma,
        max_pieces=config.max_pieces,
        seed=seed,
    )
