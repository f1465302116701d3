"""Runs with keys, reachable placements and pieces shown ahead: trained and watched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.training.runs import Run, new_run, resumed
from tests.training.test_checkpoint import assert_equal_parameters
from tetris_widget.config import ConfigError, TrainingConfig
from tetris_widget.run_directory import read_metadata
from tetris_widget.training import display, session
from tetris_widget.training.display import watched_game
from tetris_widget.training.environments import build_env
from tetris_widget.training.policies import build_model

pytestmark = pytest.mark.timeout(60)

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
GUIDELINE = KINDS[:3]


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let evaluations and the contest have as much time as they take."""
    monkeypatch.setattr(session, "EVALUATION_SPACING_SECONDS", 0.0)
    monkeypatch.setattr(session, "EVALUATION_SLICE_SECONDS", 0.2)
    monkeypatch.setattr(session, "ADVANCE_SECONDS", 1e9)
    monkeypatch.setattr(session, "OFFER_SPACING_SECONDS", 0.0)
    monkeypatch.setattr(session, "has_second_core", lambda: False)
    monkeypatch.setattr("tetris_widget.training.callback.BACKGROUND_SECONDS", 0.0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_of_every_kind_trains_and_is_watched(kind: dict[str, Any]) -> None:
    config = TrainingConfig(**SMALL, **kind)
    model = build_model(config, build_env(config))
    model.learn(config.total_timesteps)
    game = watched_game(config)
    frames = [game.move(model) for _ in range(30)]
    assert {"cells", "piece", "row", "column", "next", "over"} <= frames[0].keys()
    assert all(frame["cells"].shape == (5, 4) for frame in frames)


@pytest.mark.parametrize("kind", GUIDELINE)
def test_two_watched_games_have_the_same_pieces(kind: dict[str, Any]) -> None:
    def pieces(number: int, **changes: Any) -> list[int]:
        own = {"rows": 20, "columns": 10, "hold": False}
        config = TrainingConfig(**{**SMALL, **kind, **own, **changes})
        game = watched_game(config, number)
        model = build_model(config, build_env(config))
        frames: list[dict[str, Any]] = []
        while len({frame["pieces"] for frame in frames}) < 4:
            frames.append(game.move(model))
        firsts = {frame["pieces"]: frame["piece"] for frame in reversed(frames)}
        return [firsts[placed] for placed in sorted(firsts)]

    first = pieces(1)
    assert pieces(1, seed=7) == first
    others = [pieces(number) for number in range(2, 8)]
    assert any(other != first for other in others)


def test_a_watched_game_whose_piece_never_locks_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(display, "MAX_KEYS_PER_PIECE", 10)
    config = TrainingConfig(**{**SMALL, **KINDS[0], "rows": 20})
    model: Any = build_model(config, build_env(config))
    model.policy.action_net.bias.data[0] = 1_000.0  # always waits
    game = watched_game(config)
    ends = [game.move(model)["over"] for _ in range(20)]
    assert ends == 2 * ([False] * 9 + [True])


@pytest.mark.parametrize("kind", GUIDELINE)
@pytest.mark.usefixtures("at_once")
def test_the_best_model_under_guideline_rules_is_found_and_kept(
    kind: dict[str, Any], tmp_path: Path
) -> None:
    options = {**SMALL, **kind, "evaluation_games": 3, "evaluation_max_pieces": 20}
    run = new_run(TrainingConfig(**options, run_dir=str(tmp_path)))
    assert run.train() == "finished"
    evaluations = run.messages.of_type("evaluation")
    assert evaluations
    for told in evaluations:
        assert told["games"] == 3
        assert 0 < told["pieces"] <= 60
        assert told["lower"] <= told["mean_lines"] <= told["upper"]
    saved = read_metadata(run.run.best_evaluated_model_file)
    assert saved is not None
    assert saved["finished"] >= 100
    assert saved["pieces"] > saved["games"]


@pytest.mark.usefixtures("at_once")
def test_a_run_with_keys_ends_at_its_goal(tmp_path: Path) -> None:
    options = {**SMALL, **KINDS[0], "total_timesteps": 1_000_000, "learning_rate": 1e-3}
    config = TrainingConfig(**options, target_lines=0.01, run_dir=str(tmp_path))
    run = new_run(config)
    assert run.train() == "finished"
    assert run.session.goal == "reached 0.01 lines per game"


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_of_every_kind_is_resumed_bit_for_bit(
    kind: dict[str, Any], tmp_path: Path
) -> None:
    def begin(name: str) -> Run:
        options = {**SMALL, **kind, "total_timesteps": 400, "evaluation_max_pieces": 9}
        return new_run(TrainingConfig(**options, run_dir=str(tmp_path / name)))

    straight = begin("straight")
    assert straight.train() == "finished"
    stopped = begin("stopped")
    assert stopped.train(stop_at=310) == "stopped"
    again = resumed(stopped.run.path)
    assert again.train() == "finished"
    assert_equal_parameters(
        again.session._model.get_parameters(), straight.session._model.get_parameters()
    )


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
        ({"env_id": "CartPole-v1", "action": "keys"}, "action: 'keys' is about our"),
    ],
)
def test_fields_that_do_not_fit_are_refused(
    fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainingConfig(**fields)
