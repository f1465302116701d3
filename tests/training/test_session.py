"""Beside the learning: the best model by evaluation."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from stable_baselines3 import PPO

from tests.training.runs import SMALL, Run, new_run, resumed
from tests.training.test_checkpoint import assert_equal_parameters
from tetris_widget.config import TrainingConfig
from tetris_widget.run_directory import read_metadata
from tetris_widget.training import session
from tetris_widget.training.best import copy_parameters, save_model
from tetris_widget.training.contest import CONFIRMING_GAMES, ContestThread
from tetris_widget.training.evaluation import Player, summarise
from tetris_widget.training.policies import warm_up
from tetris_widget.training.table import Table

pytestmark = pytest.mark.timeout(60)
SHORT = {**SMALL, "total_timesteps": 3_000}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    # Whole evaluations in a slice, one after the other; the contest between them.
    monkeypatch.setattr(session, "EVALUATION_SPACING_SECONDS", 0.0)
    monkeypatch.setattr(session, "EVALUATION_SLICE_SECONDS", 0.2)
    monkeypatch.setattr(session, "ADVANCE_SECONDS", 1e9)
    monkeypatch.setattr(session, "OFFER_SPACING_SECONDS", 0.0)
    monkeypatch.setattr(session, "has_second_core", lambda: False)
    monkeypatch.setattr("tetris_widget.training.callback.BACKGROUND_SECONDS", 0.0)
    options: dict[str, Any] = {"seed": 5, "total_timesteps": 3_000, "n_steps": 64}
    return new_run(TrainingConfig(**{**SMALL, **options}, run_dir=str(tmp_path)))


def replay(run: Run, path: Path, metadata: dict[str, Any]) -> Any:
    """Play, with a saved model, the games that confirmed it."""
    model = run.session._model
    parameters = PPO.load(path, device="cpu").get_parameters()
    table = Table(run.session._config, metadata["games"], metadata["seed"])
    player = Player(model, parameters)
    while player.move(table):
        pass
    return summarise(table)


def test_the_best_model_is_what_its_metadata_say(run: Run) -> None:
    run.train(stop_at=1_500)
    path = run.run.best_evaluated_model_file
    inside = read_metadata(path)
    assert inside is not None
    beside = json.loads((path.parent / "metadata.json").read_text())
    assert inside == {k: v for k, v in beside.items() if k != "sha256"}
    assert inside["lower"] <= inside["mean_lines"] <= inside["upper"]
    assert inside["finished"] == CONFIRMING_GAMES
    assert 0 < inside["timesteps"] <= 1_600
    told = [m for m in run.messages.of_type("info") if m["kind"] == "best_eval"]
    assert told[-1]["mean_lines"] == inside["mean_lines"]
    assert told[-1]["games"] == inside["games"]
    again = replay(run, path, inside)
    assert again.mean_lines == inside["mean_lines"]
    assert again.games == inside["games"]


def test_a_best_model_that_the_disk_refuses_is_saved_when_it_takes_it(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "RETRY_SECONDS", 0.0)
    monkeypatch.setattr(session, "SAVE_BUDGET", float("inf"))
    monkeypatch.setattr(session, "OFFER_SPACING_SECONDS", 1e9)  # one, and no other
    asked: list[Path] = []

    def save(model: Any, path: Path, *rest: Any) -> None:
        asked.append(path)
        if len(asked) < 4:
            raise OSError(28, "No space left on device")
        save_model(model, path, *rest)

    monkeypatch.setattr(session, "save_model", save)
    contest = run.session._contest
    contest.tick(0.0)
    while len(asked) < 4:
        contest.work(0.2)
        contest.tick(0.0)
    path = run.run.best_evaluated_model_file
    assert read_metadata(path) is not None
    infos = run.messages.of_type("info")
    assert [m["text"].split(":")[0] for m in infos if m["kind"] != "note"] == [
        "could not save the best evaluated model",
        "saving the best evaluated model works again",
        "best so far",
    ]
    contest.tick(0.0)
    assert set(asked) == {path}
    assert len(asked) == 4


def test_the_policy_that_played_is_saved_not_the_one_of_now(run: Run) -> None:
    contest = run.session._contest
    model = run.session._model
    played = copy_parameters(model.get_parameters())
    contest.tick(0.0)
    for parameter in model.policy.parameters():
        parameter.data.add_(1.0)
    while not run.run.best_evaluated_model_file.exists():
        contest.work(0.2)
        contest.tick(0.0)
    saved = PPO.load(run.run.best_evaluated_model_file, device="cpu")
    assert_equal_parameters(saved.get_parameters(), played)


def test_a_candidate_may_be_the_average_of_the_latest_policies(run: Run) -> None:
    contest = run.session._contest
    model: Any = run.session._model
    offered: list[Any] = []
    contest._contest.offer = lambda player, candidate: offered.append(candidate)  # type: ignore[method-assign]
    for timesteps in (100, 200):
        model.num_timesteps = timesteps
        model.policy.net.scorer.layers.weight.data.fill_(timesteps)
        contest.tick(float(timesteps))
    (now, _), (average, timesteps) = offered
    weights = [
        parameters["policy"]["net.scorer.layers.weight"][0, 0].item()
        for parameters in (now, average)
    ]
    assert weights[0] == 100
    assert 100 < weights[1] <= 200
    assert timesteps == 200


def test_it_never_falls_under_the_best_that_is_there(run: Run) -> None:
    path = run.run.best_evaluated_model_file
    standing = {"rows": run.session._config.rows, "lines": 10**9, "ended": 100}
    save_model(run.session._model, path, {"lower": 1e7, "standing": standing})
    before = path.read_bytes()
    resumed_run = Run(run.session._config, run.run)
    resumed_run.train(stop_at=500)
    assert path.read_bytes() == before


def test_a_run_that_ends_lets_its_last_policies_play(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Before the end only the policy that has learned nothing has its turn.
    monkeypatch.setattr(session, "OFFER_SPACING_SECONDS", 1e9)
    run = new_run(TrainingConfig(**SHORT, run_dir=str(tmp_path)))
    assert run.train() == "finished"
    saved = read_metadata(run.run.best_evaluated_model_file)
    assert saved is not None
    assert saved["timesteps"] == run.session.progress["timesteps"]


def test_a_run_is_saved_before_its_last_policies_play(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = new_run(TrainingConfig(**SHORT, run_dir=str(tmp_path)))

    def fail(_: Any) -> None:
        raise RuntimeError("no more")

    monkeypatch.setattr(run.session._contest, "settle", fail)
    with pytest.raises(RuntimeError, match="no more"):
        run.train()
    reached = run.session.progress["timesteps"]
    assert (read_metadata(run.run.last_model_file) or {})["timesteps"] == reached
    again = resumed(run.run.path)
    assert again.session.progress["timesteps"] == reached


def test_a_pause_takes_nothing_from_the_last_policies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "SETTLING_SECONDS", 0.2)
    run = new_run(TrainingConfig(**SHORT, run_dir=str(tmp_path)))
    contest = run.session._contest
    played: list[float] = []
    before = contest.work

    def work(seconds: float) -> None:
        if not played:
            run.pause.clear()
            threading.Timer(1.0, run.pause.set).start()
        played.append(seconds)
        before(seconds)

    monkeypatch.setattr(contest, "work", work)
    monkeypatch.setattr(session, "has_second_core", lambda: True)
    monkeypatch.setattr(
        type(contest._contest), "is_undecided", property(lambda _: len(played) < 4)
    )
    assert run.train() == "finished"
    states = [m["state"] for m in run.messages.of_type("status")]
    assert states[-2:] == ["paused", "running"]
    assert len(played) >= 4


def test_the_watched_game_goes_on_while_the_last_policies_play(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {**SHORT, "view": "watch", "speed": 1.0}
    run = new_run(TrainingConfig(**options, run_dir=str(tmp_path)))
    contest = run.session._contest

    def is_undecided(_: Any) -> bool:
        texts = [m["detail"] for m in run.messages.of_type("status")]
        assert "the last policies play for the best model" in texts
        shown.append(len(run.messages.of_type("board")))
        return shown[-1] < shown[0] + 5

    shown: list[int] = []
    monkeypatch.setattr(type(contest._contest), "is_undecided", property(is_undecided))
    assert run.train() == "finished"
    assert shown[-1] >= shown[0] + 5


def test_games_to_learn_from_are_lower_than_those_that_are_evaluated(
    tmp_path: Path,
) -> None:
    config = TrainingConfig(**{**SHORT, "training_rows": 6}, run_dir=str(tmp_path))
    run = new_run(config)
    env: Any = run.session._env
    assert (env.games.rows, config.rows) == (6, 8)
    run.train()
    (note,) = [m for m in run.messages.of_type("info") if m["kind"] == "note"]
    assert "learns from games of 6 rows" in note["text"]
    saved = read_metadata(run.run.best_evaluated_model_file)
    assert saved is not None
    again = replay(run, run.run.best_evaluated_model_file, saved)
    assert again.mean_lines == saved["mean_lines"]


def test_a_run_ends_when_it_has_reached_its_goal(tmp_path: Path) -> None:
    options = {**SMALL, "target_lines": 0.5, "total_timesteps": 1_000_000}
    run = new_run(TrainingConfig(**options, run_dir=str(tmp_path)))
    assert run.train() == "finished"
    assert run.session.goal == "reached 0.5 lines per game"
    assert run.session.progress["timesteps"] < 1_000_000
    # Whoever reached it plays for the crown first.
    told = run.messages.of_type("evaluation")[-1]
    assert told["mean_lines"] >= 0.5
    assert run.run.best_evaluated_model_file.exists()
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


def test_a_contest_on_a_core_of_its_own_ends_with_the_run(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "has_second_core", lambda: True)
    begun: list[Any] = []

    def begin(contest: Any) -> Any:
        begun.append(ContestThread(contest))
        return begun[-1]

    monkeypatch.setattr(session, "ContestThread", begin)
    before = threading.active_count()
    run.train()
    assert len(begun) == 1
    assert threading.active_count() == before


def test_evaluations_go_on_with_new_games_after_a_resume(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "ADVANCE_SECONDS", 0.5)
    run.train()
    seed = run.session._evaluation.get_state()["seed"]
    assert seed > 5
    again = resumed(run.run.path)
    assert again.session._evaluation.get_state()["seed"] == seed


# Live weights


def test_the_reward_changes_while_it_runs_and_stays_so(run: Run) -> None:
    weights = {"lines": 2.0, "holes": -0.5}
    run.commands.put({"command": "set_reward", "reward": weights})
    run.train(stop_at=500)
    assert run.session._env.get_attr("reward") == [weights] * 4
    told = [m["text"] for m in run.messages.of_type("info") if m["kind"] == "note"]
    assert told[0] == "Reward: lines × 2, holes × -0.5"
    again = resumed(run.run.path)
    assert again.session._env.get_attr("reward")[0] == weights


@pytest.mark.parametrize("algorithm", ["ppo", "dqn"])
def test_a_reward_that_is_set_in_a_pause_is_there_after_stop_and_resume(
    algorithm: str, run: Run
) -> None:
    small = {"algorithm": algorithm, "buffer_size": 999, "total_timesteps": 10**9}
    run = new_run(run.session._config.replace(**small))
    weights = {"lines": 2.0, "holes": -0.5}

    def pause_set_and_stop() -> None:
        is_paused = run.messages.of_type("status")[-1]["state"] == "paused"
        if run.session._env.get_attr("reward")[0] == weights:
            run.stop.set()
        elif is_paused:
            run.commands.put({"command": "set_reward", "reward": weights})
        elif run.callback.num_timesteps >= 1_000:
            run.pause.clear()

    run.commands.look = pause_set_and_stop
    assert run.train() == "stopped"
    kept = run.session._checkpointer.saved_timesteps
    notes = [m["text"] for m in run.messages.of_type("info") if m["kind"] == "note"]
    assert kept is not None
    # A replay buffer's checkpoint is of the very moment.
    assert (kept < run.callback.num_timesteps) == (algorithm == "ppo")
    if algorithm == "ppo":
        assert "happen again, with the new reward, when the run is" in notes[-1]
    again = resumed(run.run.path)
    assert again.session._resumed is not None
    assert again.session._resumed.timesteps == kept
    assert again.session._env.get_attr("reward")[0] == weights


def test_every_command_is_in_the_journal_with_when_it_was_carried_out(
    run: Run,
) -> None:
    run.commands.put({"command": "set_speed", "speed": 0.5})
    run.commands.put({"command": "set_view", "view": "headless"})
    run.commands.put({"command": "set_view", "view": "upside down"})
    run.train(stop_at=300)
    found = [
        (entry["command"], entry["values"], entry["timesteps"])
        for entry in run.run.journal()
        if entry["type"] == "command"
    ]
    (_, _, began), _ = found
    assert found == [
        ("set_speed", {"speed": 0.5}, began),
        ("set_view", {"view": "headless"}, began),
    ]
    assert began <= 300


def test_a_wrong_reward_is_refused_and_the_run_goes_on(run: Run) -> None:
    before = run.session._env.get_attr("reward")
    for reward in ({"hole": 1}, {"lines": float("nan")}, None):
        run.commands.put({"command": "set_reward", "reward": reward})
    run.train(stop_at=300)
    errors = [m["text"] for m in run.messages.of_type("error")]
    assert len(errors) == 3
    assert "did you mean 'holes'?" in errors[0]
    assert run.session._env.get_attr("reward") == before


@pytest.mark.parametrize(
    ("saved", "spent"),
    [
        ({"spent": 100.0, "budget": 0.05}, 100.0),
        ({"spent": 0.0, "budget": 0.0}, 180.0),  # there was no evaluation
        ({"spent": 1_800.0, "budget": 0.5}, 180.0),
    ],
)
def test_evaluation_keeps_to_the_budget_that_a_run_is_resumed_with(
    run: Run, saved: dict[str, float], spent: float
) -> None:
    evaluation = run.session._evaluation
    evaluation.set_state({**evaluation.get_state(), **saved}, elapsed=3_600.0)
    assert evaluation.get_state()["spent"] == pytest.approx(spent)


def test_evaluation_keeps_to_its_share_of_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without a budget it would never rest.
    monkeypatch.setattr(session, "EVALUATION_SPACING_SECONDS", 0.0)
    options = {**SMALL, "total_timesteps": 10**9, "evaluation_games": 1_000}
    config = TrainingConfig(**options, run_dir=str(tmp_path))
    warm_up(config)  # compiling is not what it may do
    run = new_run(config)

    def stop() -> None:
        if run.callback.elapsed > 4.0:
            run.stop.set()

    run.callback.background.append(stop)
    run.train()
    spent = run.session._evaluation.get_state()["spent"]
    # One slice may be long on a busy machine.
    assert 0.01 < spent < 0.25 + 0.05 * run.callback.elapsed


def test_a_contest_gives_way_to_the_training(tmp_path: Path) -> None:
    nice: list[int] = []

    class Contest:
        def work(self, seconds: float) -> bool:
            me = threading.get_native_id()
            nice.append(os.getpriority(os.PRIO_PROCESS, me))
            return False

        def abandon(self) -> None:
            pass

    thread = ContestThread(Contest())  # type: ignore[arg-type]
    deadline = time.monotonic() + 20
    while not nice:
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.005)
    thread.close()
    assert nice[0] == 19
