"""The learners: every pair that a configuration allows builds, learns, saves, loads."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tetris_widget.config import PRESETS, TrainingConfig
from tetris_widget.envs import TetrisVecEnv
from tetris_widget.training.best import copy_parameters, save_model
from tetris_widget.training.display import DisplayGame
from tetris_widget.training.environments import build_env, tetris_env
from tetris_widget.training.evaluation import Evaluation, Evaluator
from tetris_widget.training.policies import (
    MaskedCategorical,
    build_model,
    linear_weights,
    load_model,
    warm_up,
)

pytestmark = pytest.mark.timeout(120)

PAIRS = [("afterstates", "linear"), ("afterstates", "mlp"), ("board", "mlp")]
ALL = [
    (algorithm, *pair)
    for algorithm in ("ppo", "maskable_ppo", "dqn", "a2c")
    for pair in [*PAIRS, ("board", "cnn")]
]
ALL += [
    (algorithm, *pair)
    for algorithm in ("ppo", "a2c")
    for pair in [("board", "patterns"), ("heights", "tuples")]
]


def make(**options: Any) -> tuple[TrainingConfig, Any, TetrisVecEnv]:
    small = {"rows": 8, "columns": 5, "n_envs": 4, "n_steps": 8, "batch_size": 32}
    config = TrainingConfig(**{**small, **options})
    env = tetris_env(config, config.n_envs, config.seed)
    return config, build_model(config, env), env


def evaluate(config: TrainingConfig, model: Any) -> Evaluation:
    evaluator = Evaluator(config)
    evaluator.begin(model)
    while (result := evaluator.advance(1.0)) is None:
        pass
    return result


@pytest.mark.parametrize(("algorithm", "observation", "policy"), ALL)
def test_it_learns_evaluates_plays_saves_and_loads(
    algorithm: str, observation: str, policy: str, tmp_path: Path
) -> None:
    config, model, env = make(
        algorithm=algorithm,
        observation=observation,
        policy=policy,
        evaluation_games=3,
        evaluation_max_pieces=20,
    )
    before = [parameter.clone() for parameter in model.policy.parameters()]
    model.learn(1_200 if algorithm == "dqn" else 128)
    after = list(model.policy.parameters())
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert evaluate(config, model).games == 3
    assert DisplayGame(config).move(model)["pieces"] == 1
    save_model(model, tmp_path / "model.zip", {})
    loaded = load_model(tmp_path / "model.zip", config)
    observations = env.reset()
    options: dict[str, Any] = {"deterministic": True}
    if algorithm == "maskable_ppo":
        options["action_masks"] = env.action_masks()
    expected = model.predict(observations, **options)[0]
    assert np.array_equal(loaded.predict(observations, **options)[0], expected)
    loaded.learn(1_200 if algorithm == "dqn" else 128)


@pytest.mark.parametrize("algorithm", ["ppo", "maskable_ppo", "dqn", "a2c"])
def test_a_saved_model_goes_on_with_torchs_own_optimizer(
    algorithm: str, tmp_path: Path
) -> None:
    _, model, _ = make(algorithm=algorithm, observation="board", policy="mlp")
    model.learn(1_200 if algorithm == "dqn" else 128)
    save_model(model, tmp_path / "model.zip", {})
    loaded: Any = type(model).load(tmp_path / "model.zip", device="cpu")
    optimizer, stock = model.policy.optimizer, loaded.policy.optimizer
    assert type(stock) is torch.optim.Adam
    assert optimizer.defaults == stock.defaults
    assert optimizer.state_dict()["param_groups"] == stock.state_dict()["param_groups"]


@pytest.mark.parametrize("algorithm", ["ppo", "maskable_ppo", "dqn", "a2c"])
def test_afterstate_policies_only_choose_legal_placements(algorithm: str) -> None:
    _, model, env = make(algorithm=algorithm)
    observations = env.reset()
    for _ in range(100):
        actions, _ = model.predict(observations)
        assert env.action_masks()[np.arange(4), actions].all()
        observations, _, _, _ = env.step(actions)


@pytest.mark.parametrize("algorithm", ["ppo", "maskable_ppo", "dqn"])
def test_buffers_take_the_memory_that_is_counted(algorithm: str) -> None:
    config, model, _ = make(
        action="keys",
        observation="flat",
        policy="mlp",
        algorithm=algorithm,
        buffer_size=128,
    )
    if algorithm == "dqn":
        buffer = model.replay_buffer
        taken, steps = buffer.observations.nbytes + buffer.next_observations.nbytes, 256
    else:
        buffer = model.rollout_buffer
        buffer.reset()
        masks = getattr(buffer, "action_masks", np.zeros(0))
        taken, steps = buffer.observations.nbytes + masks.nbytes, 32
    assert taken == steps * (config._observation_bytes + config._mask_bytes)


def test_the_smallest_runs_are_warmed_up() -> None:
    small: dict[str, Any] = {"rows": 8, "columns": 5, "n_envs": 1, "batch_size": 4}
    warm_up(TrainingConfig(algorithm="dqn", buffer_size=4, **small))


def test_the_linear_weights_play_what_the_policy_plays() -> None:
    _, model, env = make()
    weights = linear_weights(model.policy)
    assert weights is not None
    observations = env.reset()
    scores = observations[:, :-1, :-1] @ weights
    scores[observations[:, :-1, -1] == 0] = -np.inf
    actions, _ = model.predict(observations, deterministic=True)
    assert np.array_equal(scores.argmax(1), actions)


def test_the_same_seed_learns_the_same() -> None:
    results = []
    for _ in range(2):
        _, model, _ = make(seed=3)
        model.learn(256)
        results.append(linear_weights(model.policy))
    assert np.array_equal(results[0], results[1])


@pytest.mark.parametrize("algorithm", ["ppo", "maskable_ppo", "dqn", "a2c"])
def test_learning_leaves_nothing_among_temporary_files(
    algorithm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    _, model, _ = make(algorithm=algorithm)
    model.learn(128)
    assert not list(tmp_path.iterdir())


def test_evaluation_and_display_leave_the_training_alone() -> None:
    config, model, _ = make(evaluation_games=5, evaluation_max_pieces=50)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    for observation, policy in [*PAIRS, ("heights", "tuples")]:
        seen: Any = {"observation": observation, "policy": policy}
        other, network, _ = make(**seen, evaluation_games=2)
        before = torch.get_rng_state(), np.random.get_state()[1].copy()
        evaluate(other, network)
        DisplayGame(other).move(network)
        assert torch.equal(torch.get_rng_state(), before[0])
        assert np.array_equal(np.random.get_state()[1], before[1])
    evaluate(config, model)


def test_sampling_follows_the_probabilities() -> None:
    torch.manual_seed(0)
    probabilities = torch.tensor([0.5, 0.3, 0.2, 0.0])
    logits = torch.cat([probabilities[:3].log(), torch.tensor([-1e8])])
    drawn = MaskedCategorical(logits.repeat(50_000, 1)).sample()
    shares = torch.bincount(drawn, minlength=4) / len(drawn)
    assert torch.allclose(shares, probabilities, atol=0.01)
    distribution = MaskedCategorical(logits[None])
    expected = torch.distributions.Categorical(probs=probabilities[:3])
    assert distribution.entropy()[0] == pytest.approx(float(expected.entropy()))
    assert distribution.log_prob(torch.tensor([1]))[0] == pytest.approx(np.log(0.3))


def test_the_default_learns_a_hundred_lines_per_game_within_seconds() -> None:
    config = TrainingConfig()
    model = build_model(config, TetrisVecEnv(config.n_envs, seed=config.seed))
    # About three seconds on one core; half a minute is promised.
    model.learn(150_000)
    assert evaluate(config, model).mean_lines >= 100


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_learns_and_plays(name: str) -> None:
    config = TrainingConfig.preset(name, rows=8, columns=6, evaluation_games=4)
    model = build_model(config, build_env(config))
    before = copy_parameters(model.get_parameters())["policy"]
    model.learn(2_048)
    after = model.get_parameters()["policy"]
    assert any(not torch.equal(before[key], after[key]) for key in before)
    assert evaluate(config, model).pieces > 0
