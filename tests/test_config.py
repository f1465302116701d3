"""A configuration is right, or refused with field, value and remedy."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tetris_widget.config import (
    PRESETS,
    ConfigError,
    TrainingConfig,
    check_speed,
    moves_per_second,
    step_delay,
)
from tetris_widget.training.environments import build_env

SEEN = [
    *itertools.product(["placements"], ["afterstates", "heights", "board", "flat"]),
    *itertools.product(["keys", "reachable"], ["board", "flat"]),
]
REACHABLE = {"action": "reachable", "observation": "flat", "policy": "mlp"}


def test_the_default_is_valid_and_goes_through_json() -> None:
    config = TrainingConfig()
    assert TrainingConfig(**json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"row": 10}, "row: no such field; did you mean 'rows'?"),
        ({"zzzzqq": 10}, "zzzzqq: no such field; allowed: rows, columns"),
        ({"rows": 3}, "rows: 3 is refused; allowed: a whole number from 4 to 28"),
        ({"rows": -1}, "rows: -1 is refused"),
        ({"columns": 13}, "columns: 13 is refused"),
        ({"n_envs": 10**9}, "n_envs: 1000000000 is refused"),
        ({"n_envs": True}, "n_envs: True is refused"),
        ({"learning_rate": float("nan")}, "learning_rate: nan is refused"),
        ({"gamma": float("inf")}, "gamma: inf is refused"),
        ({"learning_rate": 0}, "above 0 to 1"),
        (
            {"n_envs": 64, "batch_size": 1000},
            "batch_size: 1000 does not divide .* nearest is 1024",
        ),
        (
            {"batch_size": 1},
            "batch_size: 1 does not fit algorithm='ppo', .* = 1024 from 2, .* is 2",
        ),
        (
            {"algorithm": "maskable_ppo", "n_envs": 3, "n_steps": 5, "batch_size": 1},
            "batch_size: 1 does not fit algorithm='maskable_ppo', .* nearest is 3",
        ),
        (
            {"env_id": "CartPole-v1", "batch_size": 1},
            "batch_size: 1 does not fit algorithm='ppo'",
        ),
        (
            {"n_envs": 1, "n_steps": 7, "batch_size": 2},
            "batch_size: 2 does not divide .* the nearest is 7",
        ),
        ({"policy": "cnn"}, "policy: 'cnn' does not fit .* allowed: linear, mlp"),
        (
            {"observation": "board"},
            "policy: 'linear' does not fit .* allowed: mlp, cnn, patterns",
        ),
        (
            {"observation": "board", "policy": "patterns", "algorithm": "dqn"},
            "policy: 'patterns' does not fit algorithm='dqn'; allowed with it: ppo",
        ),
        (
            {"observation": "heights"},
            "policy: 'linear' does not fit observation='heights'; allowed: tuples",
        ),
        (
            {"observation": "heights", "policy": "tuples", "algorithm": "dqn"},
            "policy: 'tuples' does not fit algorithm='dqn'; allowed with it: ppo, a2c",
        ),
        (
            {"observation": "board", "policy": "cnn", "training_rows": 9},
            "training_rows: 9 does not fit observation='board'.* allowed with it: 8",
        ),
        ({"training_rows": 3}, "training_rows: 3 is refused; allowed: .* 4"),
        ({"reward": {"hole": 1}}, "reward: 'hole' is no term; did you mean 'holes'?"),
        ({"reward": {"lines": float("nan")}}, "reward: lines: nan is refused"),
        ({"reward": {}}, "reward: no term; allowed: one or more of lines, "),
        ({"reward": "lines"}, "reward: 'lines'; allowed: a mapping"),
        ({"learning_rate_halving": 0}, "learning_rate_halving: 0 is refused"),
        ({"algorithm": "sac"}, "algorithm: 'sac' is refused; allowed: 'ppo'"),
        ({"max_pieces": 0}, "max_pieces: 0 is refused.* or None"),
        ({"algorithm": "dqn", "buffer_size": 5}, "buffer_size: 5 is smaller than n_e"),
        (
            {"algorithm": "dqn", "buffer_size": 500},
            "buffer_size: 500 is smaller than batch_size = 1024; allowed: 1024 or more",
        ),
        (
            {"algorithm": "dqn", "buffer_size": 10_000_000},
            "buffer_size: 10,000,000 observations of 2,296 .* up to 1,870,630",
        ),
        (
            {"n_envs": 16_384, "n_steps": 65_536},
            "n_steps: 65,536 in 16,384 games, .* allowed: up to 228",
        ),
        (
            {
                **REACHABLE,
                "algorithm": "maskable_ppo",
                "n_envs": 16_384,
                "n_steps": 131,
            },
            "n_steps: 131 in 16,384 games, at 4,014 bytes each, .* allowed: up to 130",
        ),
        ({"n_envs": 1, "n_steps": 1, "batch_size": 1}, "n_steps: 1"),
        ({"n_envs": 1, "n_steps": 1}, "n_steps: 1 with n_envs 1"),
        ({"evaluation": "maybe"}, "evaluation: 'maybe' is refused"),
        ({"target_lines": 0}, "target_lines: 0 is refused; allowed: .* above 0"),
        ({"target_lines": 5, "evaluation": False}, "only noticed by evaluations"),
        (
            {"target_lines": 20_000, "evaluation_max_pieces": 2_000},
            "target_lines: 20,000 is more than .* allowed: up to 16,000",
        ),
    ],
)
def test_what_cannot_be_run_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainingConfig(**values)


@pytest.mark.parametrize("algorithm", ["dqn", "a2c"])
def test_a_batch_of_one_is_enough_without_advantages(algorithm: str) -> None:
    assert TrainingConfig(algorithm=algorithm, batch_size=1).batch_size == 1


@pytest.mark.parametrize(("action", "observation"), SEEN)
def test_memory_is_counted_as_the_spaces_have_it(action: str, observation: str) -> None:
    sizes, previews, hold = [(4, 4), (20, 10), (28, 12)], [None, 0, 3], [None, False]
    if action != "placements":
        hold = [None, False, True]
    is_masked = observation != "heights"  # whose policy is not MaskablePPO's
    for (rows, columns), shown, has_hold in itertools.product(sizes, previews, hold):
        config = TrainingConfig(
            rows=rows,
            columns=columns,
            action=action,
            observation=observation,
            policy="mlp" if is_masked else "tuples",
            previews=shown,
            hold=has_hold,
            algorithm="maskable_ppo" if is_masked else "ppo",
            n_envs=1,
            n_steps=2,
            batch_size=2,
        )
        env: Any = build_env(config)
        space = env.observation_space
        expected = space.dtype.itemsize * math.prod(space.shape)
        assert config._observation_bytes == expected
        assert config._mask_bytes == (4 * env.action_space.n if is_masked else 0)
        assert config.replace(algorithm="ppo")._mask_bytes == 0


def test_what_fits_into_memory_is_taken() -> None:
    flat: dict[str, Any] = {"observation": "flat", "policy": "mlp"}
    TrainingConfig(**flat, algorithm="dqn", buffer_size=10_000_000)
    many = {**REACHABLE, "algorithm": "maskable_ppo", "n_envs": 16_384, "n_steps": 130}
    assert TrainingConfig(**many).n_steps == 130


def test_numbers_of_numpys_are_weights() -> None:
    given = {"lines": np.float32(0.5), "holes": np.int64(-2), "height": np.float16(1)}
    reward = TrainingConfig(reward=given).reward
    assert reward == {"lines": 0.5, "holes": -2.0, "height": 1.0}
    assert {type(weight) for weight in reward.values()} == {float}


@pytest.mark.parametrize(
    "weight", [np.float16("nan"), np.float64("inf"), np.bool_(True), 10**400, "1"]
)
def test_weights_that_are_no_finite_numbers_are_refused(weight: Any) -> None:
    with pytest.raises(ConfigError, match=r"reward: lines: .* is refused"):
        TrainingConfig(reward={"lines": weight})


def test_every_mistake_is_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        TrainingConfig(rows=1, columns=99)
    assert "rows" in str(caught.value)
    assert "columns" in str(caught.value)


def test_a_huge_value_is_shown_short() -> None:
    with pytest.raises(ConfigError) as caught:
        TrainingConfig(rows="x" * 100_000)
    assert len(str(caught.value)) < 300


def test_it_never_changes_and_replaces_by_validated_copies() -> None:
    config = TrainingConfig()
    with pytest.raises(Exception, match="frozen"):
        config.rows = 10  # type: ignore[misc]
    assert config.replace(rows=12).rows == 12
    with pytest.raises(ConfigError):
        config.replace(rows=1)


def test_a_file_that_is_none_says_so(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    with pytest.raises(ConfigError, match=r"config\.json"):
        TrainingConfig.from_file(path)
    path.write_text("[1]")
    with pytest.raises(ConfigError, match="expected a mapping"):
        TrainingConfig.from_file(path)
    path.write_text('{"rows": 8}')
    assert TrainingConfig.from_file(path).rows == 8


@pytest.mark.parametrize(
    ("given", "clamped"), [(0.5, 0.5), (7, 1.0), (-1e9, 0.1), (0, 0.1)]
)
def test_finite_speeds_are_clamped(given: float, clamped: float) -> None:
    assert check_speed(given) == clamped


@pytest.mark.parametrize(
    "speed", [float("nan"), float("inf"), -float("inf"), "1", None, True, 10**400]
)
def test_speeds_that_are_no_finite_numbers_are_refused(speed: Any) -> None:
    with pytest.raises(ValueError, match="speed"):
        check_speed(speed)


def test_what_a_speed_means() -> None:
    assert moves_per_second(0.1) == pytest.approx(2)
    assert moves_per_second(1.0) == pytest.approx(60)
    assert step_delay(1.0) == 0.0
    assert step_delay(0.1) == pytest.approx(0.09)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_a_configuration_that_can_be_changed(name: str) -> None:
    config = TrainingConfig.preset(name, rows=10, seed=7)
    assert (config.rows, config.seed) == (10, 7)
    for field, value in PRESETS[name].fields.items():
        assert getattr(config, field) == value
    assert TrainingConfig.preset(name, **config.to_dict()) == config


def test_the_default_is_a_preset() -> None:
    assert TrainingConfig.preset("instant") == TrainingConfig()


def test_an_unknown_preset_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match="preset: 'instand' is none; did you mean"):
        TrainingConfig.preset("instand")
    with pytest.raises(ConfigError, match="preset: 'zzz' is none; allowed: instant, "):
        TrainingConfig.preset("zzz")
    with pytest.raises(ConfigError, match="rows: 1 is refused"):
        TrainingConfig.preset("instant", rows=1)
