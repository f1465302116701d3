"""A training process has OpenCV where an environment may want it, and only there."""

from __future__ import annotations

import subprocess
import sys

LOADED = """
import sys
from tetris_widget.training import opencv
opencv.leave_out()
import tetris_widget.training.session
from stable_baselines3.common import atari_wrappers
"""
OUR_GAME = """
from tetris_widget import TrainingConfig
from tetris_widget.training.environments import build_env
from tetris_widget.training.policies import warm_up
config = TrainingConfig()
warm_up(config)
build_env(config)
assert atari_wrappers.cv2 is None
assert "cv2" not in sys.modules, "something else loads it"
"""
ANOTHER = """
import gymnasium as gym
import numpy as np
from tetris_widget import TrainingConfig
from tetris_widget.training.environments import build_env

class Pictures(gym.Env):
    observation_space = gym.spaces.Box(0, 255, (210, 160, 3), np.uint8)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        return self.observation_space.sample(), 0.0, False, False, {}

make = lambda: atari_wrappers.WarpFrame(Pictures())
gym.register("Pictures-v0", make)
env = build_env(TrainingConfig(env_id="Pictures-v0", n_envs=1, batch_size=16))
assert env.reset().shape == (1, 84, 84, 1)
"""
# It is loaded, by whoever runs this: as where a script has imported SB3 itself.
BEFORE = "from stable_baselines3.common.atari_wrappers import cv2 as theirs\n"
KEPT = "assert atari_wrappers.cv2 is theirs is not None"


def run(code: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300
    )
    assert ended.returncode == 0, ended.stderr


def test_our_game_is_trained_without_it() -> None:
    run(LOADED + OUR_GAME)


def test_another_environment_has_it() -> None:
    run(LOADED + ANOTHER)


def test_it_stays_where_it_is_loaded_already() -> None:
    run(BEFORE + LOADED + KEPT)
