"""Rewards: what each term says, that shaping changes nothing, and live weights."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tetris_widget.config import REWARD_TERMS
from tetris_widget.envs import TetrisEnv, TetrisVecEnv
from tetris_widget.envs.rewards import POINTS, SHAPING

GAMMA = 0.9
ALL = dict.fromkeys(REWARD_TERMS, 1.0)
SHAPED = {"lines": 1.0, "holes": -0.7, "height": -0.3, "bumpiness": 0.2}


def surfaces(board: np.ndarray[Any, Any]) -> dict[str, int]:
    """Count anew, from the cells of a frame, top row first."""
    full = board > 0
    covered = np.maximum.accumulate(full, axis=0)
    heights = covered.sum(0)
    return {
        "holes": int((covered & ~full).sum()),
        "height": int(heights.sum()),
        "bumpiness": int(np.abs(np.diff(heights)).sum()),
    }


def play(env: TetrisEnv, actions: Iterator[int] | list[int]) -> Iterator[Any]:
    """Yield the steps of a game until it ends, or the actions do."""
    for action in actions:
        step = env.step(np.int64(action))
        yield step
        if step[2] or step[3]:
            return


def discounted(rewards: list[float]) -> float:
    return sum(reward * GAMMA**t for t, reward in enumerate(rewards))


def test_the_default_is_the_lines_of_the_step() -> None:
    env = TetrisVecEnv(8, rows=6, columns=4, seed=0)
    env.reset()
    assert env.reward == {"lines": 1.0}
    rng = np.random.default_rng(0)
    for _ in range(100):
        _, rewards, _, infos = env.step(rng.integers(0, 16, 8))
        assert rewards.dtype == np.float32
        assert rewards.tolist() == [info["lines_cleared"] for info in infos]
        assert rewards.tolist() == [info["reward_terms"]["lines"] for info in infos]


def test_every_term_is_what_it_says() -> None:
    env = TetrisEnv(rows=8, columns=4, reward=ALL, gamma=GAMMA)
    env.reset(seed=1)
    rng = np.random.default_rng(0)
    ended = 0
    most = 0
    before = dict.fromkeys(SHAPING, 0)
    for _ in range(3_000):
        legal = np.flatnonzero(env.action_masks())
        _, reward, terminated, _, info = env.step(rng.choice(legal))
        terms, lines = info["reward_terms"], info["lines_cleared"]
        after = surfaces(info["frame"]["board"])
        if terminated:
            after = dict.fromkeys(SHAPING, 0)
        assert terms == {
            "lines": lines,
            "lines_squared": lines**2,
            "score": POINTS[lines],
            "survival": 1,
            "game_over": int(terminated),
            **{n: pytest.approx(GAMMA * after[n] - before[n]) for n in SHAPING},
        }
        assert reward == pytest.approx(sum(terms.values()))
        before = after
        most = max(most, lines)
        ended += terminated
        if terminated:
            env.reset()
    assert ended > 20 and most >= 2


def test_every_piece_survives_and_the_last_one_ends_the_game() -> None:
    env = TetrisEnv(rows=4, columns=4, reward={"survival": 1.0, "game_over": -3.0})
    for seed in range(20):
        env.reset(seed=seed)
        steps = list(play(env, [0] * 50))
        assert [reward for _, reward, *_ in steps[:-1]] == [1.0] * (len(steps) - 1)
        _, reward, terminated, _, info = steps[-1]
        assert terminated and reward == -2.0
        assert info["pieces"] == len(steps)


games = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**32),
        "actions": st.lists(st.integers(0, 19), min_size=60, max_size=60),
        "weights": st.fixed_dictionaries({name: st.floats(-5, 5) for name in SHAPING}),
    }
)


@settings(max_examples=150, deadline=None)
@given(games)
def test_shaping_gives_nothing_to_whoever_dies_early_or_late(
    game: dict[str, Any],
) -> None:
    """Whatever is played: it adds up to nothing at death, and to γ^T·Φ before."""
    env = TetrisEnv(rows=6, columns=5, reward=game["weights"], gamma=GAMMA)
    env.reset(seed=game["seed"])
    rewards: list[float] = []
    for _, reward, terminated, _, info in play(env, game["actions"]):
        rewards.append(reward)
        now = surfaces(info["frame"]["board"])
        potential = sum(game["weights"][name] * now[name] for name in SHAPING)
        expected = 0.0 if terminated else GAMMA ** len(rewards) * potential
        assert discounted(rewards) == pytest.approx(expected, abs=1e-4)


def test_dying_early_never_pays_on_any_path() -> None:
    """Every game of five pieces: the better the lines, the better the shaped return."""
    plain, shaped, lengths = [], [], []
    state_seed = 5
    env = TetrisEnv(rows=4, columns=4, reward=SHAPED, gamma=GAMMA)
    env.reset(seed=state_seed)
    paths = [(env.get_state(), [], [])]
    for _ in range(5):
        longer = []
        for state, lines, rewards in paths:
            env.set_state(state)
            for action in np.flatnonzero(env.action_masks()):
                env.set_state(state)
                _, reward, terminated, _, info = env.step(action)
                path = ([*lines, info["lines_cleared"]], [*rewards, reward])
                if terminated:
                    plain.append(discounted(path[0]))
                    shaped.append(discounted(path[1]))
                    lengths.append(len(path[0]))
                else:
                    longer.append((env.get_state(), *path))
        paths = longer[:400]
    assert len(set(lengths)) > 2
    assert shaped == pytest.approx(plain, abs=1e-5)


def test_a_truncated_game_keeps_its_potential() -> None:
    env = TetrisVecEnv(
        3, max_pieces=2, reward={"height": -1.0, "holes": 0.0}, gamma=GAMMA, seed=0
    )
    env.reset()
    env.step(np.zeros(3, np.int64))
    _, rewards, dones, infos = env.step(np.full(3, 9))
    assert dones.all()
    for reward, info in zip(rewards, infos, strict=True):
        # Eight cells, and what is covered by them.
        height = info["reward_terms"]["height"]
        assert reward == np.float32(-height)
        assert height > 0
    # The next game begins with nothing.
    _, _, _, infos = env.step(np.zeros(3, np.int64))
    assert all(info["reward_terms"]["height"] >= 4 * GAMMA for info in infos)


def test_a_vec_env_rewards_as_single_envs_do() -> None:
    options: dict[str, Any] = {"rows": 8, "columns": 5, "reward": ALL, "max_pieces": 9}
    vec = TetrisVecEnv(4, **options)
    singles = [TetrisEnv(**options) for _ in range(4)]
    for i, env in enumerate(singles):
        env.reset(seed=3 + i)
    vec.seed(3)
    vec.reset()
    rng = np.random.default_rng(2)
    for _ in range(200):
        actions = rng.integers(0, 20, 4)
        _, rewards, _, infos = vec.step(actions)
        for i, env in enumerate(singles):
            _, reward, terminated, truncated, info = env.step(actions[i])
            assert rewards[i] == np.float32(reward)
            assert infos[i]["reward_terms"] == info["reward_terms"]
            if terminated or truncated:
                env.reset()


def test_terms_are_the_same_however_infos_are_read() -> None:
    env = TetrisVecEnv(4, reward=SHAPED, seed=0)
    env.reset()
    _, _, _, infos = env.step(np.zeros(4, np.int64))
    one = infos[2]
    assert list(infos)[2] is one
    assert [info["reward_terms"] for info in infos][2] == one["reward_terms"]
    assert infos[3] is list(infos)[3]


def test_a_state_brings_its_potential() -> None:
    env = TetrisVecEnv(4, reward=SHAPED, seed=0)
    env.reset()
    for action in range(6):
        env.step(np.full(4, action))
    other = TetrisVecEnv(4, reward=SHAPED, seed=9)
    other.reset()
    other.set_state(env.get_state())
    _, expected, _, _ = env.step(np.full(4, 7))
    _, rewards, _, _ = other.step(np.full(4, 7))
    assert np.array_equal(rewards, expected)


def test_weights_change_in_the_middle_of_a_game() -> None:
    env = TetrisVecEnv(2, seed=0, gamma=1.0)
    env.reset()
    env.step(np.zeros(2, np.int64))
    env.set_attr("reward", {"height": -1})
    assert env.get_attr("reward") == [{"height": -1.0}] * 2
    _, rewards, _, infos = env.step(np.full(2, 6))
    # Only what this step adds: four cells, and the holes under them.
    assert all(info["reward_terms"].keys() == {"height"} for info in infos)
    assert (rewards <= -4).all() and (rewards >= -8).all()


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        ({"hole": 1}, "reward: 'hole' is no term; did you mean 'holes'?"),
        ({"lines": 1, "joy": 1}, "reward: 'joy' is no term; allowed: lines, "),
        ({"lines": math.nan}, "reward: lines: nan is refused; allowed: a finite"),
        ({"lines": -math.inf}, "reward: lines: -inf is refused"),
        ({"lines": True}, "reward: lines: True is refused"),
        ({"lines": "1"}, "reward: lines: '1' is refused"),
        ({"lines": np.bool_(True)}, "reward: lines: .*True.* is refused"),
        ({}, "reward: no term; allowed: one or more of lines, "),
        ("lines", "reward: 'lines'; allowed: a mapping"),
    ],
)
def test_a_wrong_reward_is_refused_and_changes_nothing(
    reward: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message.replace("?", r"\?")):
        TetrisEnv(reward=reward)
    env = TetrisVecEnv(2, reward=SHAPED, seed=0)
    with pytest.raises(ValueError):
        env.set_attr("reward", reward)
    assert env.reward == SHAPED


@pytest.mark.parametrize("gamma", [-0.1, 1.1, math.nan, None, True, [0.9]])
def test_a_wrong_gamma_is_refused(gamma: Any) -> None:
    for action in ("placements", "keys"):
        message = f"gamma: {gamma}; allowed: 0 to 1"
        with pytest.raises(ValueError, match=re.escape(message)):
            TetrisVecEnv(1, action=action, gamma=gamma)
