"""The options that both actions share: others' checkers, and what does not fit."""

from __future__ import annotations

import itertools
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env as gymnasium_check
from sb3_contrib import MaskablePPO
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.env_checker import check_env as sb3_check

from tetris_widget import BoardExtractor
from tetris_widget.envs import ENV_ID, KEYS_ENV_ID, TetrisEnv, TetrisVecEnv

REWARD = {"lines": 1.0, "score": 0.01, "holes": -0.1, "game_over": -1.0}
PLACEMENTS = ("afterstates", "heights", "both", "board", "flat", "dict")
GUIDELINE = ("board", "flat", "dict")
COMBINATIONS = [
    *itertools.product(["placements"], PLACEMENTS, [0, 2], [False]),
    *itertools.product(["keys", "reachable"], GUIDELINE, [0, 6], [False, True]),
]


@pytest.mark.parametrize("randomizer", ["bag", "uniform"])
@pytest.mark.parametrize(("action", "observation", "previews", "hold"), COMBINATIONS)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_checkers_of_gymnasium_and_sb3_pass(
    action: str, observation: str, previews: int, hold: bool, randomizer: str
) -> None:
    made = gymnasium.make(
        ENV_ID,
        rows=6,
        columns=5,
        action=action,
        observation=observation,
        previews=previews,
        hold=hold,
        randomizer=randomizer,
        reward=REWARD,
        max_pieces=9,
        render_mode="rgb_array",
    )
    gymnasium_check(made.unwrapped)
    sb3_check(made.unwrapped)


@pytest.mark.parametrize(("action", "observation", "previews", "hold"), COMBINATIONS)
def test_many_games_are_those_of_single_ones_under_every_option(
    action: str, observation: str, previews: int, hold: bool
) -> None:
    options: dict[str, Any] = {
        "rows": 5,
        "columns": 4,
        "action": action,
        "observation": observation,
        "previews": previews,
        "hold": hold,
        "reward": REWARD,
        "max_pieces": 8,
    }
    vec = TetrisVecEnv(2, seed=5, **options)
    singles = [TetrisEnv(**options) for _ in range(2)]
    seen = vec.reset()
    expected = [env.reset(seed=5 + i)[0] for i, env in enumerate(singles)]
    rng = np.random.default_rng(0)
    ends = 0
    for _ in range(60):
        np.testing.assert_equal(seen, _stacked(expected))
        actions = rng.integers(0, vec.action_space.n, 2)
        seen, rewards, dones, infos = vec.step(actions)
        for i, env in enumerate(singles):
            expected[i], reward, terminated, truncated, info = env.step(actions[i])
            assert rewards[i] == pytest.approx(reward)
            assert infos[i]["reward_terms"] == pytest.approx(info["reward_terms"])
            assert dones[i] == (terminated or truncated)
            if dones[i]:
                ends += 1
                np.testing.assert_equal(infos[i]["terminal_observation"], expected[i])
                expected[i] = env.reset()[0]
    assert ends or action == "keys"


def _stacked(observations: list[Any]) -> Any:
    if isinstance(observations[0], dict):
        return {
            name: np.stack([one[name] for one in observations])
            for name in observations[0]
        }
    return np.stack(observations)


def test_the_pieces_to_come_are_seen() -> None:
    options: dict[str, Any] = {"rows": 6, "columns": 5, "previews": 3}
    vec = TetrisVecEnv(3, observation="dict", seed=0, **options)
    image = TetrisVecEnv(3, observation="board", seed=0, **options)
    seen, planes = vec.reset(), image.reset()
    rng = np.random.default_rng(0)
    for _ in range(60):
        pieces = seen["pieces"].reshape(3, 4, 7)
        assert (pieces.sum(-1) == 1).all()
        assert (pieces.argmax(-1) + 1 == vec.games.coming(3)).all()
        assert np.array_equal(planes[:, :1], seen["planes"])
        assert np.array_equal(planes[:, 1:, 0, 0], seen["pieces"])
        before = pieces[0].argmax(-1)
        actions = rng.integers(0, 20, 3)
        seen, _, dones, _ = vec.step(actions)
        planes = image.step(actions)[0]
        if not dones[0]:
            assert np.array_equal(
                seen["pieces"][0].reshape(4, 7).argmax(-1)[:3], before[1:]
            )


def test_both_ids_are_registered() -> None:
    assert gymnasium.make(ENV_ID).action_space == gymnasium.spaces.Discrete(40)
    assert gymnasium.make(KEYS_ENV_ID).action_space == gymnasium.spaces.Discrete(8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"action": "mouse"}, "action: 'mouse'; allowed: placements, keys, reachable"),
        ({"hold": True}, "hold: True; allowed with action='placements': False"),
        (
            {"action": "keys", "observation": "afterstates"},
            "'afterstates' needs action='placements'; allowed with 'keys': board",
        ),
        ({"observation": "pixels"}, "observation: 'pixels'; allowed: afterstates"),
        ({"previews": 7}, "previews: 7; allowed: 0 to 6"),
        ({"illegal": "ignore"}, "illegal: 'ignore'; allowed: nearest, raise"),
        ({"rows": 3}, "rows: 3; allowed: 4 to 28"),
        ({"columns": 3}, "columns: 3; allowed: 4 to 12"),
        ({"columns": 10.0}, "columns: 10.0; allowed: a whole number"),
        ({"columns": None}, "columns: None; allowed: a whole number"),
        ({"columns": "10"}, "columns: '10'; allowed: a whole number"),
        ({"columns": -3}, "columns: -3; allowed: 4 to 12"),
        ({"columns": 10**9}, "columns: 1000000000; allowed: 4 to 12"),
        ({"rows": "8", "observation": "flat"}, "rows: '8'; allowed: a whole number"),
        ({"tick": 0.2}, "tick: 0.2; allowed with action='placements': 0.1, for bench"),
        ({"tick": None}, "tick: None; allowed with action='placements': 0.1"),
        ({"level": 5}, "level: 5; allowed with action='placements': 1, for benchmark"),
        ({"hold": "no"}, "hold: 'no'; allowed: True, False"),
        ({"hold": 1}, "hold: 1; allowed: True, False"),
        ({"action": "keys", "hold": "no"}, "hold: 'no'; allowed: True, False"),
        ({"action": "keys", "tick": "0.1"}, "tick: '0.1'; allowed: 0.001 to 1.0 s"),
        ({"action": "keys", "tick": None}, "tick: None; allowed: 0.001 to 1.0 s"),
        ({"action": "keys", "tick": True}, "tick: True; allowed: 0.001 to 1.0 s"),
        ({"randomizer": []}, r"randomizer: \[\]; allowed: bag, uniform"),
        (
            {"action": "keys", "randomizer": []},
            r"randomizer: \[\]; allowed: bag, uniform",
        ),
    ],
)
def test_options_that_do_not_fit_are_refused(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        TetrisVecEnv(1, **options)
    with pytest.raises(ValueError, match=message):
        TetrisEnv(**options)


def test_options_of_numpys_are_taken_for_what_they_are() -> None:
    vec = TetrisVecEnv(
        np.uint8(3),
        rows=np.uint8(20),
        columns=np.uint8(10),
        action="reachable",
        previews=np.uint8(6),
        hold=np.bool_(False),
        tick=np.float32(0.5),
        level=np.uint8(2),
        max_pieces=np.uint8(200),
        gamma=np.float16(0.5),
        seed=0,
    )
    plain: dict[str, Any] = {"action": "reachable", "previews": 6, "hold": False}
    other = TetrisVecEnv(3, **plain, tick=0.5, level=2, max_pieces=200, seed=0)
    assert vec.observation_space == other.observation_space
    assert vec.action_space == other.action_space
    np.testing.assert_equal(vec.reset(), other.reset())
    low = TetrisEnv(rows=np.int8(8), columns=np.int8(12), previews=np.int8(6))
    assert low.observation_space == TetrisEnv(rows=8, columns=12).observation_space
    # What benchmark rules don't have may be said to be the default.
    TetrisEnv(tick=np.float64(0.1), level=np.int64(1), hold=np.bool_(False))


@pytest.mark.parametrize("action", ["placements", "keys", "reachable"])
def test_an_illegal_action_is_refused_where_that_is_asked_for(action: str) -> None:
    options: dict[str, Any] = {"rows": 6, "columns": 5, "action": action}
    vec = TetrisVecEnv(2, illegal="raise", seed=0, **options)
    env = TetrisEnv(illegal="raise", **options)
    vec.reset()
    env.reset(seed=1)
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(100):
        masks = vec.action_masks()
        chosen = (rng.random(masks.shape) * masks).argmax(1)
        illegal = np.flatnonzero(~masks[1])
        if len(illegal):
            refused += 1
            before = vec.get_state()
            legal = ", ".join(map(str, np.flatnonzero(masks[1])[:3]))
            bad = int(illegal[0])
            with pytest.raises(
                ValueError, match=f"{bad} is not legal in game 1; allowed: {legal}"
            ):
                vec.step(np.array([chosen[0], bad]))
            np.testing.assert_equal(vec.get_state(), before)
            with pytest.raises(
                ValueError, match=f"{bad} is not legal in game 0; allowed: {legal}"
            ):
                env.step(np.int64(bad))
        vec.step(chosen)
        if env.step(chosen[1])[2]:
            env.reset()
    assert refused


@pytest.mark.parametrize("action", ["placements", "keys", "reachable"])
def test_a_game_begins_from_a_state(action: str) -> None:
    options: dict[str, Any] = {"rows": 6, "columns": 5, "action": action}
    env, other = TetrisEnv(**options), TetrisEnv(**options)
    env.reset(seed=0)
    for _ in range(3):
        seen = env.step(np.int64(np.flatnonzero(env.action_masks())[-1]))[0]
    state = env.get_state()
    observation, info = other.reset(options={"state": state})
    np.testing.assert_equal(observation, seen)
    np.testing.assert_equal(other.get_state(), state)
    assert info["lines_cleared"] == 0
    for bad in ({}, 3, {**state, "has_ended": np.array(7)}):
        with pytest.raises(ValueError, match=r"state|has_ended"):
            other.reset(options={"state": bad})
        np.testing.assert_equal(other.get_state(), state)
    with pytest.raises(ValueError, match="options: 'board'; allowed: 'state'"):
        other.reset(options={"board": 1})


@pytest.mark.parametrize(
    ("observation", "policy"),
    [("flat", "MlpPolicy"), ("dict", "MultiInputPolicy"), ("both", "MultiInputPolicy")],
)
def test_sb3_learns_with_its_own_policies(observation: str, policy: str) -> None:
    env = TetrisVecEnv(2, rows=4, columns=4, observation=observation, previews=1)
    PPO(policy, env, n_steps=8, batch_size=16, n_epochs=1).learn(16)


@pytest.mark.parametrize("action", ["placements", "keys", "reachable"])
@pytest.mark.parametrize("algorithm", [PPO, DQN, MaskablePPO])
def test_sb3s_cnn_policy_learns_from_boards(action: str, algorithm: Any) -> None:
    """As `TetrisVecEnv` says: with a network for small pictures."""
    env = TetrisVecEnv(
        2, rows=6, columns=5, action=action, observation="board", previews=1, seed=0
    )
    options: dict[str, Any] = {"n_steps": 16, "batch_size": 16, "n_epochs": 1}
    if algorithm is DQN:
        options = {"learning_starts": 8, "batch_size": 8, "buffer_size": 100}
    model = algorithm(
        "CnnPolicy",
        env,
        policy_kwargs={"features_extractor_class": BoardExtractor},
        seed=0,
        device="cpu",
        **options,
    )
    kept = {name: value.clone() for name, value in model.policy.state_dict().items()}
    model.learn(64)
    changed = {
        name
        for name, value in model.policy.state_dict().items()
        if not torch.equal(value, kept[name])
    }
    assert any("extractor" in name for name in changed)
    assert env.action_space.contains(model.predict(env.reset())[0][0])


def test_sb3s_cnn_policy_gets_better_at_clearing_lines() -> None:
    model = PPO(
        "CnnPolicy",
        TetrisVecEnv(32, rows=4, columns=4, observation="board", seed=0),
        policy_kwargs={"features_extractor_class": BoardExtractor},
        n_steps=16,
        batch_size=128,
        n_epochs=4,
        gamma=0.9,
        learning_rate=2e-3,
        seed=0,
        device="cpu",
    )
    before = lines_per_piece(model)
    model.learn(4_096)
    assert lines_per_piece(model) > 1.1 * before


def lines_per_piece(model: PPO) -> float:
    vec = TetrisVecEnv(64, rows=4, columns=4, observation="board", seed=99)
    seen = vec.reset()
    torch.manual_seed(0)
    lines = 0
    for _ in range(40):
        seen, _, _, infos = vec.step(model.predict(seen)[0])
        lines += sum(info["lines_cleared"] for info in infos)
    return lines / (64 * 40)
