"""The watched game: played by the current policy, apart from training.

Owns that one game. Deliberately doesn't know at which pace it is played, and draws from
no generator that the training uses.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm

from tetris_widget.config import TrainingConfig
from tetris_widget.envs.observations import Observer
from tetris_widget.envs.placements import move_frame
from tetris_widget.game import FEATURE_SCALE, Games, kernels
from tetris_widget.training.environments import tetris_env
from tetris_widget.training.evaluation import greedy_actions
from tetris_widget.training.policies import linear_weights
from tetris_widget.training.table import MAX_KEYS_PER_PIECE

# Not a seed of training's (seed + env) nor of evaluation's.
SEED_OFFSET = 2_000_000_011


class DisplayGame:
    """One game after another, by the greedy policy of the moment.

    Args:
        config: of the games.
        game: the pieces of which game; None: those of the config's seed.
    """

    def __init__(self, config: TrainingConfig, game: int | None = None) -> None:
        seed = _seed(config, game)
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
            factors = kernels.factors_of(weights * FEATURE_SCALE)
            actions = kernels.greedy_actions(
                games.columns, games.piece, games.rows, factors
            )
        games.step(np.asarray(actions, np.int64))
        return {**move_frame(games), "over": bool(games.terminated[0])}


class GuidelineDisplayGame:
    """One game after another under guideline rules, by the greedy policy.

    Args:
        config: of the games.
        game: the pieces of which game; None: those of the config's seed.
    """

    def __init__(self, config: TrainingConfig, game: int | None = None) -> None:
        self._env = tetris_env(config.replace(max_pieces=None), 1, _seed(config, game))
        self._observation = self._env.reset()
        self._waited = 0

    def move(self, model: BaseAlgorithm) -> dict[str, Any]:
        """Make a step; return it as `Guideline.frame` does, and whether `over`."""
        placed = int(self._env.games.pieces[0])
        masks = self._env.action_masks()
        actions = greedy_actions(model.policy, self._observation, masks)
        self._observation, _, dones, infos = self._env.step(actions)
        frame = infos[0]["frame"]
        self._waited = 0 if frame["pieces"] > placed else self._waited + 1
        is_stuck = self._waited >= MAX_KEYS_PER_PIECE
        if is_stuck:
            self._observation = self._env.reset()
            self._waited = 0
        return {**frame, "over": bool(dones[0]) or is_stuck}


def watched_game(
    config: TrainingConfig, game: int | None = None
) -> DisplayGame | GuidelineDisplayGame:
    """Return games of our own to be watched, under the rules of a configuration.

    Args:
        config: of the games.
        game: the pieces of which game; None: those of the config's seed.
    """
    kind = DisplayGame if config.is_benchmark else GuidelineDisplayGame
    return kind(config, game)


def _seed(config: TrainingConfig, game: int | None) -> int:
    return SEED_OFFSET + ((config.seed or 0) if game is None else game)
