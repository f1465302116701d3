"""Training on environments that aren't ours: the whole way, and what is refused."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, Space, Text, Tuple
from stable_baselines3 import PPO

from tests.training.runs import Run
from tetris_widget.config import ConfigError, TrainingConfig
from tetris_widget.manager import TrainingManager
from tetris_widget.run_directory import RunDirectory
from tetris_widget.training.foreign import make_env, policy_for
from tetris_widget.training.policies import build_model

PEER = "tetris_gymnasium/Tetris"
SMALL: dict[str, Any] = {
    "env_id": "CartPole-v1",
    "n_envs": 2,
    "n_steps": 64,
    "batch_size": 64,
    "learning_rate": 1e-3,
    "total_timesteps": 1_024,
    "update_freq": 200,
    "view": "watch",
}


class OddEnv(gymnasium.Env[Any, Any]):
    """Shows and does what it is told; nobody gets so far as to reset it."""

    def __init__(self, seen: Space[Any], acts: Space[Any]) -> None:
        self.observation_space, self.action_space = seen, acts


TWO = Discrete(2)
ODD = {
    "Saying-v0": (Text(9), TWO),
    "Nested-v0": (Dict(a=Dict(b=TWO)), TWO),
    "Doing-v0": (TWO, Tuple((TWO, TWO))),
}
for odd_id, (seen, acts) in ODD.items():
    gymnasium.register(odd_id, OddEnv, kwargs={"seen": seen, "acts": acts})


@pytest.fixture
def config(tmp_path: Path) -> TrainingConfig:
    return TrainingConfig(**SMALL, run_dir=str(tmp_path))


class Listener:
    def __init__(self) -> None:
        self.all: list[dict[str, Any]] = []

    def __call__(self, message: dict[str, Any]) -> None:
        self.all.append(message)

    def of_type(self, kind: str) -> list[dict[str, Any]]:
        return [message for message in self.all if message["type"] == kind]


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture
def manager(listener: Listener) -> Iterator[TrainingManager]:
    made = TrainingManager(listener)
    yield made
    made.close()


def wait_for(condition: Callable[[], Any], seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def run_of(manager: TrainingManager) -> RunDirectory:
    return RunDirectory(manager.get_status()["run_dir"])


# The whole way


@pytest.mark.parametrize("env_id", ["CartPole-v1", PEER])
def test_a_run_from_start_to_finish(
    manager: TrainingManager, listener: Listener, config: TrainingConfig, env_id: str
) -> None:
    assert manager.start_training(config.replace(env_id=env_id))
    assert manager.wait(100)
    status = manager.get_status()
    assert (status["status"], status["reason"]) == ("finished", None)
    episodes = listener.of_type("episode")
    assert len(episodes) > 3
    assert {episode["lines"] for episode in episodes} == {None}
    if env_id == "CartPole-v1":
        assert all(e["reward"] == e["length"] for e in episodes)
    recorded = run_of(manager).episodes()
    assert recorded["reward"].tolist() == pytest.approx(
        [episode["reward"] for episode in episodes]
    )
    assert listener.of_type("metrics")[-1]["values"]["train/loss"] is not None
    assert not listener.of_type("evaluation")
    assert not listener.of_type("board")
    (note,) = [m for m in listener.of_type("info") if m["kind"] == "note"]
    assert note["text"].startswith(f"{env_id}: no board is shown")
    assert run_of(manager).last_model_file.exists()


def test_a_bad_id_fails_at_once_and_start_works_again(
    manager: TrainingManager, listener: Listener, config: TrainingConfig
) -> None:
    before = list(Path(config.run_dir).iterdir())
    assert not manager.start_training(config.replace(env_id="CartPoole-v1"))
    status = manager.get_status()
    assert status["status"] == "failed"
    assert "did you mean 'CartPole-v1'?" in status["reason"]
    assert manager.process is None
    assert list(Path(config.run_dir).iterdir()) == before
    # What only shows in the process: the module has no such environment.
    assert manager.start_training(config.replace(env_id="json:CartPole"))
    assert manager.wait(100)
    status = manager.get_status()
    assert status["status"] == "failed"
    assert "there is no environment 'json:CartPole'" in status["reason"]
    assert manager.start_training(config)
    assert manager.wait(100)
    assert manager.get_status()["status"] == "finished"


# Resuming


@pytest.mark.parametrize("algorithm", ["ppo", "dqn"])
def test_a_resumed_run_says_that_it_is_not_exact(
    config: TrainingConfig, algorithm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A snapshot at every boundary, however quick the run is.
    module = "tetris_widget.training.checkpointer"
    monkeypatch.setattr(f"{module}.MAX_SNAPSHOT_SECONDS", 0.0)
    config = config.replace(algorithm=algorithm, buffer_size=1_000)
    run = RunDirectory.create(config)
    first = Run(config, run)
    assert first.train(stop_at=500) == "stopped"
    second = Run(config, run, resume={"checkpoint": None})
    (resumed,) = second.messages.of_type("resume")
    assert 0 < resumed["timesteps"] <= first.session.progress["timesteps"]
    assert not resumed["is_exact"]
    warnings = [m["text"] for m in second.messages.of_type("info")]
    assert any("cannot be kept: begun anew" in text for text in warnings)
    for key, tensor in first.session._model.policy.state_dict().items():
        assert second.session._model.policy.state_dict()[key].shape == tensor.shape
    assert second.train() == "finished"
    assert second.session.progress["timesteps"] >= config.total_timesteps
    episodes = run.episodes()
    assert episodes["episode"].tolist() == list(range(1, len(episodes) + 1))


def test_plain_sb3_loads_the_model(config: TrainingConfig) -> None:
    run = RunDirectory.create(config)
    assert Run(config, run).train() == "finished"
    assert PPO.load(run.last_model_file).num_timesteps >= config.total_timesteps


# Which policy


def test_the_policy_suits_what_is_seen() -> None:
    board = Box(0, 255, (24, 18), np.uint8)
    assert policy_for(Dict({"board": board})) == "MultiInputPolicy"
    assert policy_for(Box(0, 255, (84, 84, 3), np.uint8)) == "CnnPolicy"
    assert policy_for(Box(0, 255, (3, 84, 84), np.uint8)) == "CnnPolicy"
    assert policy_for(Box(0, 255, (20, 10, 3), np.uint8)) == "MlpPolicy"
    assert policy_for(Box(-1, 1, (4,), np.float32)) == "MlpPolicy"


@pytest.mark.parametrize("algorithm", ["ppo", "a2c", "dqn"])
@pytest.mark.parametrize("env_id", ["CartPole-v1", PEER])
def test_every_algorithm_learns_there(
    config: TrainingConfig, algorithm: str, env_id: str
) -> None:
    config = config.replace(algorithm=algorithm, env_id=env_id, buffer_size=200)
    model = build_model(config, make_env(config))
    model.learn(256)
    assert model.num_timesteps >= 256


class Masked(gymnasium.Wrapper[Any, Any, Any, Any]):
    """A pole that may only be pushed to the right."""

    def action_masks(self) -> np.ndarray[Any, Any]:
        return np.array([False, True])


def test_masks_are_used_where_there_are_some(config: TrainingConfig) -> None:
    if "MaskedCartPole-v0" not in gymnasium.registry:
        gymnasium.register(
            "MaskedCartPole-v0",
            entry_point=lambda: Masked(gymnasium.make("CartPole-v1")),
        )
    config = config.replace(algorithm="maskable_ppo", env_id="MaskedCartPole-v0")
    model = build_model(config, make_env(config))
    model.learn(128)
    buffer: Any = model.rollout_buffer  # type: ignore[attr-defined]
    assert (buffer.actions == 1).all()


def test_arguments_reach_the_environment(config: TrainingConfig) -> None:
    config = config.replace(env_id="FrozenLake-v1", env_kwargs={"map_name": "8x8"})
    env = make_env(config)
    assert env.observation_space.n == 64  # type: ignore[attr-defined]
    assert env.num_envs == 2


# What is refused


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"algorithm": "maskable_ppo"}, "does not suit CartPole-v1, which has no act"),
        ({"algorithm": "dqn", "env_id": "Pendulum-v1"}, "whose actions are Box"),
        ({"env_id": "Blackjack-v1"}, "observations that no algorithm takes, Tuple.*"),
        ({"env_id": "Saying-v0"}, "takes, Text.*; allowed: Box, Discrete"),
        ({"env_id": "Nested-v0"}, "observations that no .* takes, Dict"),
        ({"env_id": "Doing-v0"}, "actions that no algorithm takes, Tuple"),
        ({"env_kwargs": {"gravity_of": 3}}, "env_kwargs: .* is refused by CartPole"),
    ],
)
def test_what_does_not_suit_is_one_sentence(
    config: TrainingConfig, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        make_env(config.replace(**changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": 10}, "rows: 10 is about our own game, not env_id='CartPole-v1'"),
        ({"policy": "mlp"}, "policy: 'mlp' is about our own game"),
        ({"observation": "board", "policy": "cnn"}, "observation: 'board' is about"),
        ({"reward": {"holes": -1}}, "reward: {'holes': -1.0} is about our own game"),
        ({"env_id": None, "env_kwargs": {"a": 1}}, "env_kwargs: {'a': 1} needs an env"),
        ({"env_kwargs": {"a": object()}}, "does not fit JSON"),
        ({"env_kwargs": {"a": float("inf")}}, "does not fit JSON"),
        ({"env_kwargs": 3}, "env_kwargs: 3 is refused; allowed: a mapping"),
    ],
)
def test_a_config_that_contradicts_itself_is_refused(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as error:
        TrainingConfig(**{**SMALL, **changes})
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_config_with_an_environment_survives_its_file() -> None:
    config = TrainingConfig(**SMALL, env_kwargs={"sutton_barto_reward": True})
    assert TrainingConfig(**config.to_dict()) == config
