"""Environments that aren't ours, for training: made by id, as SB3 likes them.

Owns their VecEnv, and which of SB3's policies suits what they show. Deliberately
doesn't know Tetris.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
from gymnasium import spaces
from sb3_contrib.common.maskable.utils import is_masking_supported
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from tetris_widget.config import ConfigError, TrainingConfig
from tetris_widget.env_ids import load_env_id
from tetris_widget.training import opencv

# What SB3's policies take.
SPACES = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)
# The least that SB3's convolutional network can take.
MIN_IMAGE_SIDE = 36


def make_env(config: TrainingConfig) -> VecEnv:
    """Return `n_envs` of the environments that `env_id` names, each with a Monitor.

    Raises:
        ConfigError: there is none of that id, it refuses `env_kwargs`, no algorithm
            takes what it shows or does, or this one doesn't.
    """
    assert config.env_id is not None
    opencv.bring_back()
    load_env_id(config.env_id)
    env_id = config.env_id

    def build(makers: list[Callable[[], gymnasium.Env[Any, Any]]]) -> VecEnv:
        first, *others = makers
        env = first()
        # Before SB3 looks, which does not say well what it cannot take.
        _check_spaces(env_id, env)
        return DummyVecEnv([lambda: env, *others])

    try:
        env = make_vec_env(
            env_id,
            config.n_envs,
            config.seed,
            env_kwargs=config.env_kwargs,
            vec_env_cls=build,  # type: ignore[arg-type]
        )
    except ConfigError:
        raise
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"env_kwargs: {config.env_kwargs} is refused by {config.env_id}: {error}"
        ) from error
    problem = _problem(config, env)
    if problem is not None:
        env.close()
        raise ConfigError(
            f"algorithm: {config.algorithm!r} does not suit {config.env_id}, {problem}"
        )
    return env


def policy_for(space: spaces.Space[Any]) -> str:
    """Return the name of SB3's policy for observations of this space."""
    if isinstance(space, spaces.Dict):
        return "MultiInputPolicy"
    if is_image_space(space) and sorted(space.shape or ())[-2] >= MIN_IMAGE_SIDE:
        return "CnnPolicy"
    return "MlpPolicy"


def _check_spaces(env_id: str, env: gymnasium.Env[Any, Any]) -> None:
    """Raise ConfigError unless SB3's policies take what it shows and does."""
    seen, acts = env.observation_space, env.action_space
    parts = list(seen.values()) if isinstance(seen, spaces.Dict) else [seen]
    for name, space in (*(("observations", part) for part in parts), ("actions", acts)):
        if not isinstance(space, SPACES):
            kinds = ", ".join(kind.__name__ for kind in SPACES)
            raise ConfigError(
                f"env_id: {env_id!r} has {name} that no algorithm takes, "
                f"{space!s:.100}; allowed: {kinds}"
            )


def _problem(config: TrainingConfig, env: VecEnv) -> str | None:
    if config.algorithm == "dqn" and not isinstance(env.action_space, spaces.Discrete):
        return f"whose actions are {env.action_space}; allowed: ppo, a2c"
    if config.algorithm == "maskable_ppo" and not is_masking_supported(env):
        return "which has no action_masks(); allowed: ppo, a2c, dqn"
    return None
