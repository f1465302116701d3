"""The watched game: played by the current policy, apart from training.

Owns that one game. Deliberately doesn't know at which pace it is played, and draws from
no generator that the training uses.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm

from tetris_widget.config import TrainingConfig
from tetris_widget.envs import TetrisVecEnv
from tetris_widget.envs.observations import Observer
from tetris_widget.envs.placements import move_frame
from tetris_widget.game import Games, kernels
from tetris_widget.training.evaluation import greedy_actions
from tetris_widget.training.policies import linear_weights

# Not a seed of training's (seed + env) nor of evaluation's.
SEED_OFFSET = 2_000_000_011


class DisplayGame:
    """One game after another, by the greedy policy of the moment.

    Args:
        config: of the games.
        game: the pieces of which game; None: those of the config's seed.
    """

    def __init__(self, config: TrainingConfig, game: int | None = None) -> None:
        seed = SEED_OFFSET + ((config.seed or 0) if game is None else game)
        self._games = Games(1, config.rows, config.columns, config.randomizer, seed)
        self._observer = Observer(config.observation, self._games, config.previews or 0)

    def move(self, model: BaseAlgorithm) -> dict[str, Any]:
        """Make a move; return it as `move_frame` does, and whether `over`."""
        games = self._games
        weights = linear_weights(model.policy)
        if weights is None:
            observation = self._observer.observe_games(games)
            actions = greedy_actions(model.policy, observation, games.mask())
        else:
            actions = kernels.greedy_actions(
                games.columns, games.piece, games.rows, kernels.SCALE, weights
            )
        games.step(np.asarray(actions, np.int64))
        return {**move_frame(games), "over": bool(games.terminated[0])}


class GuidelineDisplayGame:
    """One game after another under guideline rules, by the greedy policy."""

    def __init__(self, config: TrainingConfig) -> None:
        self._env = TetrisVecEnv(
            1,
            rows=config.rows,
            columns=config.columns,
            randomizer=config.randomizer,
            action=config.action,
            previews=config.previews,
            hold=config.hold,
            observation=config.observation,
            seed=SEED_OFFSET + (config.seed or 0),
        )
        self._observation = self._env.reset()

    def move(self, model: BaseAlgorithm) -> dict[str, Any]:
        """Make a step; return it as `Guideline.frame` does, and whether `over`."""
        masks = self._env.action_masks()
        actions = greedy_actions(model.policy, self._observation, masks)
        self._observation, _, dones, infos = self._env.step(actions)
        return {**infos[0]["frame"], "over": bool(dones[0])}


def watched_game(config: TrainingConfig) -> DisplayGame | GuidelineDisplayGame | None:
    """Return the game to be watched of a run; None of environments not ours."""
    if config.env_id is not None:
        return None
    return DisplayGame(config) if config.is_benchmark else GuidelineDisplayGame(config)
