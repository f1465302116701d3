"""SB3's MLP policy, compiled: the same games as its own `predict` plays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tetris_widget.config import TrainingConfig
from tetris_widget.training import table as module
from tetris_widget.training.environments import tetris_env
from tetris_widget.training.evaluation import Player
from tetris_widget.training.policies import build_model, dense_weights
from tetris_widget.training.table import Table

pytestmark = pytest.mark.timeout(60)

N = 16
KINDS: list[dict[str, Any]] = [
    {"action": "keys", "observation": "flat"},
    {"action": "keys", "observation": "flat", "hold": False, "previews": 2},
    {"action": "reachable", "observation": "flat", "previews": 0},
]


def make(kind: dict[str, Any], **changes: Any) -> tuple[TrainingConfig, Any]:
    options = {"rows": 8, "columns": 6, "policy": "mlp", "algorithm": "maskable_ppo"}
    config = TrainingConfig(**{**options, **kind, **changes})
    small = config.replace(n_envs=2, n_steps=8, batch_size=16)
    model: Any = build_model(small, tetris_env(config, 2, seed=0))
    # As different as after some learning: untrained, all actions are about as good.
    model.policy.action_net.weight.data.mul_(100.0)
    return config, model


@pytest.mark.parametrize("kind", KINDS)
def test_it_plays_the_games_that_predict_plays(kind: dict[str, Any]) -> None:
    config, model = make(kind)
    table, env = Table(config, N, 3), tetris_env(config, N, 3)
    player = Player(model)
    assert player._play_guideline is not None
    observations = env.reset()
    is_same = np.ones(N, np.bool_)
    moves = 0
    while is_same.any():
        moves += player.move(table, decisions=1)
        masks = env.action_masks()
        actions, _ = model.predict(observations, action_masks=masks, deterministic=True)
        observations, _, dones, _ = env.step(actions)
        assert np.array_equal(table.over[is_same], dones[is_same])
        is_same &= ~dones  # the env begins such a game anew
        for name in ("field", "piece", "facing", "x", "y", "lines", "pieces"):
            mine, its = table.games.games[name], env.games.games[name]
            assert np.array_equal(mine[is_same], its[is_same]), name
    assert moves > 4 * N
    assert player.move(table) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_many_moves_at_once_are_the_same_games(kind: dict[str, Any]) -> None:
    config, model = make(kind)
    one, many = Table(config, N, 3), Table(config, N, 3)
    player = Player(model)
    made = 0
    while moves := player.move(one, decisions=1, max_pieces=9):
        made += moves
    assert player.move(many, decisions=100_000, max_pieces=9) == made
    assert np.array_equal(many.games.games, one.games.games)
    assert np.array_equal(many.over, one.over)
    assert (many.games.pieces <= 9).all()
    assert (many.over | (many.games.pieces == 9)).all()


def test_a_policy_that_keeps_a_piece_from_locking_loses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MAX_KEYS_PER_PIECE", 10)
    config, model = make(KINDS[0])
    biases = model.policy.action_net.bias.data
    biases[0] = 1_000.0  # always waits
    table, player = Table(config, N, 3), Player(model)
    assert player.move(table, decisions=9 * N) == 9 * N
    assert not table.over.any()
    player.move(table)
    assert table.over.all()
    assert not table.games.pieces.any()


def test_only_its_own_kind_of_policy_is_compiled() -> None:
    others: list[dict[str, Any]] = [
        {"algorithm": "dqn"},
        {"observation": "board"},
        {"observation": "board", "policy": "cnn"},
    ]
    for changes in others:
        config = TrainingConfig(**{**KINDS[0], "policy": "mlp", **changes})
        small = config.replace(n_envs=2, n_steps=8, batch_size=16)
        model = build_model(small, tetris_env(config, 2, seed=0))
        assert dense_weights(model.policy) is None
