"""Single games of many: their methods, states and options, by SB3's interface."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from stable_baselines3.common.vec_env import VecMonitor

from tetris_widget.envs import TetrisEnv, TetrisVecEnv

ACTIONS = ("placements", "keys", "reachable")
SMALL: dict[str, Any] = {"rows": 6, "columns": 5}


def played(n: int, action: str, steps: int = 25, seed: int = 0) -> TetrisVecEnv:
    vec = TetrisVecEnv(n, action=action, seed=seed, **SMALL)
    vec.reset()
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        vec.step(rng.integers(0, vec.action_space.n, n))
    return vec


@pytest.mark.parametrize("action", ACTIONS)
def test_single_games_are_asked_for_masks_and_states(action: str) -> None:
    vec = played(3, action)
    masks = vec.env_method("action_masks", indices=[2, 0])
    assert np.array_equal(masks, vec.action_masks()[[2, 0]])
    assert np.array_equal(vec.env_method("action_masks", indices=-1)[0], masks[0])
    states = vec.env_method("get_state")
    assert len(states) == 3
    single = TetrisEnv(action=action, **SMALL)
    for game, state in enumerate(states):
        single.set_state(state)
        assert np.array_equal(single.action_masks(), vec.action_masks()[game])
    other = played(4, action, seed=9)
    kept = other.env_method("get_state", indices=[0, 2, 3])
    assert other.env_method("set_state", states[2], indices=1) == [None]
    np.testing.assert_equal(other.env_method("get_state", indices=[0, 2, 3]), kept)
    # From here on it is the single game, move for move.
    rng = np.random.default_rng(0)
    for _ in range(30):
        actions = rng.integers(0, vec.action_space.n, 4)
        _, reward, terminated, _, info = single.step(actions[1])
        _, rewards, dones, infos = other.step(actions)
        assert (rewards[1], dones[1]) == (reward, terminated)
        assert infos[1]["lines"] == info["lines"]
        if terminated:
            break


def test_a_method_that_single_games_do_not_have_is_refused() -> None:
    vec = TetrisVecEnv(2, seed=0)
    message = "env_method: 'reset'; allowed: action_masks, get_state, set_state"
    with pytest.raises(AttributeError, match=message):
        vec.env_method("reset")
    for index in (2, -3):
        with pytest.raises(IndexError):
            vec.env_method("action_masks", indices=[index])
        with pytest.raises(IndexError):
            vec.get_attr("reward", indices=index)
    before = vec.get_state()
    with pytest.raises(ValueError, match="has_ended: is missing"):
        vec.env_method("set_state", {})
    np.testing.assert_equal(vec.get_state(), before)


def test_an_attribute_is_set_for_all_games_or_not_at_all() -> None:
    vec = VecMonitor(TetrisVecEnv(3, seed=0))
    for some in ([1], 0, [0, 1], []):
        with pytest.raises(ValueError, match=r"indices: .*; allowed: None, for all"):
            vec.set_attr("reward", {"holes": -1}, indices=some)
    assert vec.get_attr("reward") == [{"lines": 1.0}] * 3
    vec.set_attr("reward", {"holes": -1}, indices=[2, 0, 1])
    assert vec.get_attr("reward", indices=[1]) == [{"holes": -1.0}]
    vec.set_attr("reward", {"lines": 2})
    assert vec.get_attr("reward") == [{"lines": 2.0}] * 3
    with pytest.raises(AttributeError, match="these envs have no 'gamma'"):
        vec.set_attr("gamma", 0.5)


@pytest.mark.parametrize("action", ACTIONS)
def test_games_begin_from_the_states_that_the_options_give(action: str) -> None:
    source = played(2, action)
    state = source.env_method("get_state", indices=[1])[0]
    vec, plain = (TetrisVecEnv(3, action=action, **SMALL) for _ in range(2))
    for env in (vec, plain):
        env.seed(5)
    vec.set_options([{}, {"state": state}, {}])
    seen, expected = vec.reset(), plain.reset()
    assert np.array_equal(seen[[0, 2]], expected[[0, 2]])
    single = TetrisEnv(action=action, **SMALL)
    first, info = single.reset(seed=6, options={"state": state})
    assert np.array_equal(seen[1], first)
    assert vec.reset_infos[1] == info
    np.testing.assert_equal(vec.env_method("get_state")[1], single.get_state())
    # Once only.
    plain.seed(5)
    vec.seed(5)
    assert np.array_equal(vec.reset(), plain.reset())
    vec.set_options({"state": state})
    assert np.array_equal(vec.reset(), np.stack([first] * 3))


@pytest.mark.parametrize("action", ACTIONS)
def test_options_that_are_none_are_refused_at_once(action: str) -> None:
    vec = TetrisVecEnv(2, action=action, seed=0, **SMALL)
    state = vec.state_from_board(np.zeros((6, 5), int), "T")
    vec.set_options([{"state": state}, {}])
    cases: list[tuple[Any, str]] = [
        ({"board": 1}, "options: 'board'; allowed: 'state'"),
        ([{}], "options: 1 dicts; allowed: 2, or one for all"),
        ([{}, 3], "options: 3; allowed: a dict"),
        (3, "options: 3; allowed: a dict"),
        ([{}, {"state": {}}], "has_ended: is missing"),
        ([{}, {"state": TetrisEnv(rows=7).get_state()}], "rows|hold|shape"),
    ]
    for options, message in cases:
        with pytest.raises(ValueError, match=message):
            vec.set_options(options)
    vec.reset()  # those that were set are still there
    kinds = vec.env_method("get_state", indices=0)[0]
    queue = kinds["queue"][0] if action == "placements" else kinds["games"]["queue"][0]
    assert queue.ravel()[0] == 3
    vec.set_options()
    vec.reset()


@pytest.mark.parametrize("action", ACTIONS)
def test_a_board_is_played_from(action: str) -> None:
    """A row with one gap, into which an I fits."""
    board = np.zeros((6, 5), int)
    board[5, 1:] = [1, 2, 8, 7]
    env = TetrisEnv(action=action, **SMALL)
    state = env.state_from_board(board, "I")
    env.reset(seed=1, options={"state": state})
    view = env.games.cells if action == "placements" else env.games.view(0).board
    assert np.array_equal(view, board)
    if action == "keys":  # turned, to the left wall, and down
        for key in (5, 1, 1, 1, 4):
            info = env.step(np.int64(key))[4]
    else:
        stand = 1 * 5 if action == "placements" else 1 * 5 * 7
        assert env.action_masks()[stand]
        info = env.step(np.int64(stand))[4]
    assert info["lines"] == 1
    vec = TetrisVecEnv(2, action=action, **SMALL)
    vec.set_options({"state": vec.state_from_board(board > 0, "O")})
    vec.reset()
    with pytest.raises(ValueError, match="piece: 'Q'; allowed: I, O, T, S, Z, J, L"):
        env.state_from_board(board, "Q")
    with pytest.raises(ValueError, match="board: row 5 is full"):
        vec.state_from_board(np.ones((6, 5), bool) & (np.arange(6) == 5)[:, None])
