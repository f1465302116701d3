"""Runs with keys, reachable placements and pieces shown ahead: trained and watched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.training.runs import new_run, resumed
from tetris_widget.config import ConfigError, TrainingConfig
from tetris_widget.training.display import watched_game
from tetris_widget.training.policies import build_model
from tetris_widget.training.session import _make_env

SMALL: dict[str, Any] = {
    "rows": 5,
    "columns": 4,
    "n_envs": 2,
    "n_steps": 8,
    "batch_size": 16,
    "n_epochs": 1,
    "total_timesteps": 64,
}
KINDS: list[dict[str, Any]] = [
    {"action": "keys", "observation": "flat", "policy": "mlp"},
    {"action": "keys", "observation": "board", "policy": "cnn", "hold": False},
    {
        "action": "reachable",
        "observation": "flat",
        "policy": "mlp",
        "algorithm": "maskable_ppo",
        "previews": 1,
    },
    {"observation": "flat", "policy": "mlp", "previews": 2},
    {"observation": "board", "policy": "cnn", "previews": 1},
]


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_of_every_kind_trains_and_is_watched(kind: dict[str, Any]) -> None:
    config = TrainingConfig(**SMALL, **kind)
    model = build_model(config, _make_env(config))
    model.learn(config.total_timesteps)
    game = watched_game(config)
    assert game is not None
    frames = [game.move(model) for _ in range(30)]
    assert {"cells", "piece", "row", "column", "next", "over"} <= frames[0].keys()
    assert all(frame["cells"].shape == (5, 4) for frame in frames)


@pytest.mark.parametrize("kind", KINDS[:1])
def test_a_session_says_that_keys_are_not_evaluated(
    kind: dict[str, Any], tmp_path: Path
) -> None:
    run = new_run(TrainingConfig(**{**SMALL, **kind}, run_dir=str(tmp_path)))
    assert run.train() == "finished"
    texts = [m["text"] for m in run.messages.of_type("info")]
    assert "keys: no game is evaluated, as under benchmark rules" in texts
    assert not run.messages.of_type("evaluation")


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_of_every_kind_is_resumed(kind: dict[str, Any], tmp_path: Path) -> None:
    config = TrainingConfig(**{**SMALL, **kind}, run_dir=str(tmp_path))
    run = new_run(config.replace(total_timesteps=1_000))
    assert run.train(stop_at=320) == "stopped"
    again = resumed(run.run.path, total_timesteps=400)
    assert again.train() == "finished"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"action": "keys"}, "action: 'keys' does not fit observation='afterstates'"),
        ({"hold": True}, "hold: True does not fit action='placements'"),
        ({"previews": 7}, "previews: 7 is refused; allowed: a whole number from 0 to"),
        (
            {"observation": "flat", "policy": "cnn"},
            "policy: 'cnn' does not fit observation='flat'; allowed: mlp",
        ),
        (
            {"observation": "board", "policy": "patterns", "previews": 1},
            "previews: 1 does not fit policy='patterns'",
        ),
        (
            {**KINDS[0], "target_lines": 10},
            "target_lines: 10 is only noticed by evaluations",
        ),
        ({"env_id": "CartPole-v1", "action": "keys"}, "action: 'keys' is about our"),
    ],
)
def test_fields_that_do_not_fit_are_refused(
    fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainingConfig(**fields)
