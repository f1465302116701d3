"""Beside the learning: the best model by evaluation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from stable_baselines3 import PPO

from tests.training.runs import SMALL, Run, new_run, resumed
from tests.training.test_checkpoint import assert_equal_parameters
from tetris_widget.config import TrainingConfig
from tetris_widget.run_directory import read_metadata
from tetris_widget.training.best import save_model
from tetris_widget.training.checkpoint import copy_parameters
from tetris_widget.training.evaluation import CONTEST_OFFSET, Evaluator

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    # Whole evaluations in a slice, one after the other.
    module = "tetris_widget.training.session"
    monkeypatch.setattr(f"{module}.EVALUATION_SPACING_SECONDS", 0.0)
    monkeypatch.setattr(f"{module}.EVALUATION_SLICE_SECONDS", 60.0)
    monkeypatch.setattr(f"{module}.ADVANCE_SECONDS", 1e9)
    options: dict[str, Any] = {"seed": 5, "total_timesteps": 3_000, "n_steps": 64}
    return new_run(TrainingConfig(**{**SMALL, **options}, run_dir=str(tmp_path)))


def contest(run: Run, path: Path) -> Any:
    """Play the games of every contest with a saved model."""
    model = run.session._model
    kept = copy_parameters(model.get_parameters())
    model.set_parameters(PPO.load(path, device="cpu").get_parameters())
    evaluator = Evaluator(run.session._config)
    evaluator.begin(model)
    evaluator.begin_contest()
    result = evaluator.advance(60)
    model.set_parameters(kept)
    return result


def test_the_best_evaluated_model_is_what_its_metadata_say(run: Run) -> None:
    run.train()
    path = run.run.best_evaluated_model_file
    inside = read_metadata(path)
    assert inside is not None
    beside = json.loads((path.parent / "metadata.json").read_text())
    assert inside == {k: v for k, v in beside.items() if k != "sha256"}
    assert inside["lower"] <= inside["mean_lines"] <= inside["upper"]
    assert inside["seed"] == 5 + CONTEST_OFFSET
    assert 0 < inside["timesteps"] <= 3_072
    told = [m for m in run.messages.of_type("info") if m["kind"] == "best_eval"]
    assert told[-1]["mean_lines"] == inside["mean_lines"]
    means = [message["mean_lines"] for message in told]
    assert means == sorted(set(means))
    again = contest(run, path)
    assert again.mean_lines == inside["mean_lines"]
    assert again.games == inside["games"] == SMALL["evaluation_games"]


def test_the_policy_of_the_evaluation_is_saved_not_the_one_of_now(run: Run) -> None:
    evaluation = run.session._evaluation
    model = run.session._model
    evaluated = copy_parameters(model.get_parameters())
    evaluation.tick()
    evaluation._best = -1.0  # whatever it did, it is a candidate
    evaluation._is_contest = True
    for parameter in model.policy.parameters():
        parameter.data.add_(1.0)
    evaluation.tick()
    saved = PPO.load(run.run.best_evaluated_model_file, device="cpu")
    assert_equal_parameters(saved.get_parameters(), evaluated)


def test_it_never_falls_under_the_best_that_is_there(run: Run) -> None:
    path = run.run.best_evaluated_model_file
    save_model(run.session._model, path, {"mean_lines": 1e9})
    before = path.read_bytes()
    resumed_run = Run(run.session._config, run.run)
    resumed_run.train()
    assert path.read_bytes() == before


def test_a_run_ends_when_it_has_reached_its_goal(tmp_path: Path) -> None:
    options = {**SMALL, "target_lines": 0.5, "total_timesteps": 1_000_000}
    run = new_run(TrainingConfig(**options, run_dir=str(tmp_path)))
    assert run.train() == "finished"
    assert run.session.goal == "reached 0.5 lines per game"
    assert run.session.progress["timesteps"] < 1_000_000
    # Whoever reached it is crowned first, if that is the best.
    told = run.messages.of_type("evaluation")[-1]
    assert told["mean_lines"] >= 0.5
    crowned = read_metadata(run.run.best_evaluated_model_file)
    assert crowned is not None
    assert crowned["timesteps"] == told["timesteps"]
    # Without the goal it goes on.
    more = run.session.progress["timesteps"] + 1_000
    again = resumed(run.run.path, target_lines=None, total_timesteps=more)
    assert again.train() == "finished"
    assert again.session.goal is None


def test_the_model_of_now_is_saved_when_asked_for(run: Run) -> None:
    run.commands.put({"command": "save_model"})
    run.train()
    saved = read_metadata(run.run.current_model_file)
    assert saved is not None
    assert saved["timesteps"] < run.session.progress["timesteps"]
    assert [m for m in run.messages.of_type("info") if m["kind"] == "model"]


def test_a_run_begins_with_the_model_of_another(run: Run, tmp_path: Path) -> None:
    run.train()
    changes = {"initial_model": str(run.run.last_model_file), "total_timesteps": 1}
    second = new_run(run.session._config.replace(**changes))
    assert_equal_parameters(
        second.session._model.get_parameters(), run.session._model.get_parameters()
    )
    assert second.session.progress["timesteps"] == 0
    other = run.session._config.replace(**changes, policy="mlp")
    with pytest.raises(ValueError, match=r"last\.zip is damaged, or no model"):
        new_run(other)
    with pytest.raises(ValueError, match=r"gone\.zip"):
        new_run(other.replace(initial_model=str(tmp_path / "gone.zip")))


def test_what_plays_for_the_crown_is_no_evaluation(run: Run) -> None:
    evaluation = run.session._evaluation
    first = evaluation.get_state()["seed"]
    run.train()
    begun = (evaluation.get_state()["seed"] - first) // SMALL["evaluation_games"]
    assert [m for m in run.messages.of_type("info") if m["kind"] == "best_eval"]
    assert begun - 1 <= len(run.messages.of_type("evaluation")) <= begun


def test_evaluations_go_on_with_new_games_after_a_resume(run: Run) -> None:
    run.train()
    seed = run.session._evaluation.get_state()["seed"]
    assert seed > 5
    again = resumed(run.run.path)
    assert again.session._evaluation.get_state()["seed"] == seed
