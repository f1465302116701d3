"""The environments: the checkers of others, and what every info must say."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as gymnasium_check
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3.common.env_checker import check_env as sb3_check
from stable_baselines3.common.vec_env import VecFrameStack, VecMonitor, VecNormalize

from tetris_widget.envs import ENV_ID, TetrisEnv, TetrisVecEnv
from tetris_widget.game.render import COLOURS

OBSERVATIONS = ("afterstates", "heights", "board")


@pytest.mark.parametrize("observation", OBSERVATIONS)
@pytest.mark.parametrize("randomizer", ["bag", "uniform"])
@pytest.mark.parametrize("size", [(4, 4), (20, 10), (28, 12)])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_checkers_of_gymnasium_and_sb3_pass(
    observation: str, randomizer: str, size: tuple[int, int]
) -> None:
    made = gymnasium.make(
        ENV_ID,
        rows=size[0],
        columns=size[1],
        observation=observation,
        randomizer=randomizer,
        render_mode="rgb_array",
    )
    gymnasium_check(made.unwrapped)
    sb3_check(made.unwrapped)


@pytest.mark.parametrize("observation", OBSERVATIONS)
def test_env_i_plays_the_games_of_its_own_seed(observation: str) -> None:
    n_envs, seed = 3, 11
    vec = TetrisVecEnv(n_envs, seed=seed, observation=observation, max_pieces=30)
    singles = [TetrisEnv(observation=observation, max_pieces=30) for _ in range(n_envs)]
    expected = [env.reset(seed=seed + i)[0] for i, env in enumerate(singles)]
    rng = np.random.default_rng(0)
    vec.seed(seed)
    observations = vec.reset()
    for _ in range(80):
        assert np.array_equal(observations, expected)
        actions = rng.integers(0, 40, n_envs)
        observations, rewards, dones, infos = vec.step(actions)
        for i, env in enumerate(singles):
            expected[i], reward, terminated, truncated, info = env.step(actions[i])
            assert rewards[i] == reward
            assert dones[i] == (terminated or truncated)
            for key in ("lines", "pieces", "lines_cleared"):
                assert infos[i][key] == info[key]
            if dones[i]:
                assert np.array_equal(infos[i]["terminal_observation"], expected[i])
                assert infos[i]["TimeLimit.truncated"] == truncated
                expected[i] = env.reset()[0]


def test_lines_in_infos_add_up_for_every_env() -> None:
    vec = TetrisVecEnv(8, rows=8, columns=4, seed=0)
    vec.reset()
    rng = np.random.default_rng(1)
    lines = np.zeros(8)
    finished = 0
    for _ in range(500):
        masks = vec.action_masks()
        actions = (rng.random(masks.shape) * masks).argmax(1)
        _, rewards, dones, infos = vec.step(actions)
        lines += rewards
        assert [info["lines"] for info in infos] == lines.tolist()
        lines[dones] = 0
        finished += dones.sum()
    assert finished > 20


def test_infos_handed_out_are_never_changed() -> None:
    vec = TetrisVecEnv(2, seed=0)
    vec.reset()
    _, _, _, first = vec.step(np.zeros(2, np.int64))
    kept = [dict(info) for info in first]
    vec.step(np.ones(2, np.int64))
    assert [info["pieces"] for info in first] == [info["pieces"] for info in kept]


def test_an_observation_is_not_overwritten_by_the_next_step() -> None:
    vec = TetrisVecEnv(4, seed=0)
    first = vec.reset()
    kept = first.copy()
    vec.step(np.zeros(4, np.int64))
    assert np.array_equal(first, kept)


def test_the_frame_tells_the_move_before_a_reset() -> None:
    vec = TetrisVecEnv(1, rows=4, columns=4, seed=0)
    vec.reset()
    ends = 0
    for _ in range(50):
        _, _, dones, infos = vec.step(np.zeros(1, np.int64))
        frame = infos[0]["frame"]
        added = int((frame["board"] > 0).sum()) + 4 * infos[0]["lines_cleared"]
        assert added == int((frame["cells"] > 0).sum()) + 4
        ends += dones[0]
    assert ends


def test_masks_are_what_maskable_ppo_asks_for() -> None:
    vec = TetrisVecEnv(3, seed=0)
    vec.reset()
    masks = np.stack(vec.env_method("action_masks"))
    assert masks.shape == (3, 40)
    assert np.array_equal(masks, vec.action_masks())
    single = TetrisEnv()
    observation, _ = single.reset(seed=0)
    assert np.array_equal(single.action_masks(), observation[:-1, -1] > 0)


@settings(max_examples=20, deadline=None)
@given(
    observation=st.sampled_from(OBSERVATIONS),
    before=st.integers(0, 30),
    after=st.integers(1, 30),
    max_pieces=st.one_of(st.none(), st.integers(1, 20)),
    seed=st.integers(0, 2**32 - 1),
)
def test_many_games_go_on_from_a_state_bit_for_bit(
    observation: str, before: int, after: int, max_pieces: int | None, seed: int
) -> None:
    options: Any = {"rows": 8, "columns": 5, "observation": observation}
    vec = TetrisVecEnv(3, max_pieces=max_pieces, seed=seed, **options)
    vec.reset()
    rng = np.random.default_rng(seed)
    for _ in range(before):
        vec.step(rng.integers(0, 20, 3))
    taken = vec.get_state()
    actions = rng.integers(0, 20, (after, 3))
    straight = [_copied(vec.step(action)) for action in actions]
    elsewhere = TetrisVecEnv(3, max_pieces=max_pieces, seed=0, **options)
    for other in (vec, elsewhere):
        other.set_state(taken)
        again = [_copied(other.step(action)) for action in actions]
        np.testing.assert_equal(again, straight)


@settings(max_examples=20, deadline=None)
@given(
    before=st.integers(0, 30),
    after=st.integers(1, 30),
    max_pieces=st.one_of(st.none(), st.integers(1, 20)),
    seed=st.integers(0, 2**32 - 1),
)
def test_one_game_goes_on_from_a_state_bit_for_bit(
    before: int, after: int, max_pieces: int | None, seed: int
) -> None:
    def play(env: TetrisEnv, actions: Any) -> list[Any]:
        seen = []
        for action in actions:
            step = env.step(action)
            seen.append((step, env.render().copy()))
            if step[2] or step[3]:
                seen.append(env.reset())
        return seen

    options: Any = {"rows": 8, "columns": 5, "max_pieces": max_pieces}
    env = TetrisEnv(render_mode="rgb_array", **options)
    env.reset(seed=seed)
    rng = np.random.default_rng(seed)
    play(env, rng.integers(0, 20, before))
    env.step(np.int64(0))  # may end the game, before it is reset
    taken = env.get_state()
    actions = rng.integers(0, 20, after)
    picture = env.render().copy()
    straight = [env.reset(), play(env, actions)]
    elsewhere = TetrisEnv(render_mode="rgb_array", **options)
    for other in (env, elsewhere):
        other.set_state(taken)
        assert np.array_equal(other.render(), picture)
        np.testing.assert_equal([other.reset(), play(other, actions)], straight)


def test_a_seed_that_waits_for_the_reset_is_in_the_state() -> None:
    vec, other = TetrisVecEnv(2, seed=0), TetrisVecEnv(2, seed=0)
    vec.seed(7)
    other.set_state(vec.get_state())
    assert np.array_equal(vec.reset(), other.reset())
    other.set_state(TetrisVecEnv(2).get_state())
    assert other._seeds == [None, None]


@pytest.mark.parametrize("action", ["placements", "keys"])
@pytest.mark.parametrize("kind", [np.int64, np.uint8])
def test_a_seed_of_numpys_is_a_seed(action: str, kind: Any) -> None:
    vec = TetrisVecEnv(
        kind(3), action=action, seed=kind(255 if kind is np.uint8 else 3)
    )
    other = TetrisVecEnv(3, action=action, seed=255 if kind is np.uint8 else 3)
    assert np.array_equal(vec.action_masks(), other.action_masks())
    assert np.array_equal(vec.reset(), other.reset())
    assert vec.seed(kind(7)) == other.seed(7) == [7, 8, 9]
    np.testing.assert_equal(vec.get_state(), other.get_state())
    assert np.array_equal(vec.reset(), other.reset())
    assert type(vec.num_envs) is int


@pytest.mark.parametrize("action", ["placements", "keys"])
@pytest.mark.parametrize("seed", [-1, -2, 2**62 + 1, 2**70, 1.5, "a", True])
def test_what_is_no_seed_is_refused_and_changes_nothing(action: str, seed: Any) -> None:
    with pytest.raises(ValueError, match=f"seed: .*{seed}.*; allowed: "):
        TetrisVecEnv(2, action=action, seed=seed)
    vec = TetrisVecEnv(2, action=action, seed=0)
    vec.reset()
    vec.seed(5)
    before = vec.get_state()
    with pytest.raises(ValueError, match=f"seed: .*{seed}.*; allowed: "):
        vec.seed(seed)
    np.testing.assert_equal(vec.get_state(), before)
    vec.set_state(before)


def test_the_greatest_seed_is_kept_and_played() -> None:
    vec, other = TetrisVecEnv(2, seed=2**62), TetrisVecEnv(2, seed=0)
    assert np.array_equal(vec.reset()[0], TetrisEnv().reset(seed=2**62)[0])
    begun = vec.state_from_board(np.zeros((20, 10), int))
    vec.seed(2**62)
    other.set_state(vec.get_state())
    for env in (vec, other):
        env.set_options({"state": begun})
    np.testing.assert_equal(vec.reset(), other.reset())


@pytest.mark.parametrize("seed", [2**62 + 1, 2**70, True])
def test_a_seed_that_only_gymnasium_would_take_changes_nothing(seed: Any) -> None:
    env = TetrisEnv()
    env.reset(seed=4)
    state = env.get_state()
    env.step(np.int64(3))
    before = env.get_state()
    with pytest.raises(ValueError, match=f"seed: {seed}; allowed: "):
        env.reset(seed=seed, options={"state": state})
    np.testing.assert_equal(env.get_state(), before)
    assert env.np_random_seed == 4


@pytest.mark.parametrize(
    ("env", "field"), [(TetrisVecEnv(2), "seed"), (TetrisEnv(), "has_ended")]
)
def test_what_is_no_state_of_an_env_is_refused(env: Any, field: str) -> None:
    env.reset()
    before = env.get_state()
    with pytest.raises(ValueError, match=f"{field}: is missing"):
        env.set_state({})
    with pytest.raises(ValueError, match="state: int"):
        env.set_state(3)
    with pytest.raises(ValueError, match="queue: is missing"):
        env.set_state({name: before[name] for name in before if name != "queue"})
    np.testing.assert_equal(env.get_state(), before)


def _copied(step: Any) -> Any:
    observations, rewards, dones, infos = step
    return observations.copy(), rewards, dones, list(infos)


def test_it_renders() -> None:
    text = TetrisEnv(render_mode="ansi")
    text.reset(seed=0)
    text.step(np.int64(0))
    assert "└" in text.render()
    picture = TetrisEnv(rows=6, columns=5, render_mode="rgb_array")
    picture.reset(seed=0)
    rendered: Any = picture.render()
    assert rendered.shape == (96, 80, 3)
    for n, tiles in ((1, (1, 1)), (3, (2, 2))):
        vec = TetrisVecEnv(n, rows=6, columns=5, seed=0)
        vec.reset()
        vec.step(np.zeros(n, np.int64))
        tiled: Any = vec.render()
        assert tiled.shape == (tiles[0] * 96, tiles[1] * 80, 3)
        for env, image in enumerate(vec.get_images()):
            top, left = env // tiles[1] * 96, env % tiles[1] * 80
            part = tiled[top : top + 96, left : left + 80]
            assert np.array_equal(part, image)
            full = image[8::16, 8::16] != COLOURS[0]  # the middle of every cell
            assert full.any(-1).sum() == 4


def test_bad_options_are_refused() -> None:
    with pytest.raises(ValueError, match="observation: 'pixels'"):
        TetrisVecEnv(1, observation="pixels")
    with pytest.raises(ValueError, match="render_mode: 'human'"):
        TetrisEnv(render_mode="human")


def test_infos_are_a_sequence_whose_entries_stay() -> None:
    vec = TetrisVecEnv(3, seed=0)
    vec.reset()
    _, _, _, infos = vec.step(np.zeros(3, np.int64))
    assert len(infos) == 3
    infos[1]["mine"] = "kept"
    assert infos[-2]["mine"] == "kept"
    assert [info.get("mine") for info in infos] == [None, "kept", None]
    assert [info["pieces"] for info in infos[1:]] == [1, 1]
    assert "frame" in infos[0]
    with pytest.raises(IndexError):
        infos[3]


@pytest.mark.parametrize("observation", OBSERVATIONS)
def test_the_wrappers_of_sb3_take_it(observation: str) -> None:
    options: dict[str, Any] = {"rows": 5, "columns": 4, "seed": 0}
    vec: Any = VecMonitor(TetrisVecEnv(4, observation=observation, **options))
    if observation != "board":
        vec = VecNormalize(vec)
    vec = VecFrameStack(vec, 2)
    vec.reset()
    ended = 0
    for _ in range(60):
        _, _, dones, infos = vec.step(np.zeros(4, np.int64))
        for info in np.array(infos)[dones]:
            ended += 1
            assert info["episode"]["l"] == info["pieces"]
            assert info["terminal_observation"].shape == vec.observation_space.shape
    assert ended


def test_board_observations_tell_the_board_and_the_piece() -> None:
    vec = TetrisVecEnv(5, rows=9, columns=6, observation="board", seed=0)
    observations = vec.reset()
    rng = np.random.default_rng(0)
    for _ in range(200):
        masks = vec.action_masks()
        observations, _, dones, infos = vec.step(
            (rng.random(masks.shape) * masks).argmax(1)
        )
        rows = np.arange(9)[::-1, None]
        cells = vec.games.columns[:, None, :] >> rows & 1
        assert np.array_equal(observations[:, 0], cells)
        pieces = np.eye(8)[vec.games.piece][:, 1:]
        assert np.array_equal(observations[:, 1:].min((2, 3)), pieces)
        assert np.array_equal(observations[:, 1:].max((2, 3)), pieces)
        if dones[0]:
            frame = infos[0]["frame"]
            last = infos[0]["terminal_observation"]
            assert np.array_equal(last[0], frame["board"] > 0)


def test_the_reward_for_survival_is_the_same_for_every_piece_placed() -> None:
    reward = {"survival": 0.5, "lines": 2.0}
    env = TetrisVecEnv(4, rows=6, columns=5, reward=reward, seed=0)
    env.reset()
    rng = np.random.default_rng(0)
    for _ in range(200):
        masks = env.action_masks()
        actions = (rng.random((4, 20)) * masks).argmax(1)
        _, rewards, _, infos = env.step(actions)
        expected = [0.5 + 2.0 * info["lines_cleared"] for info in infos]
        assert rewards.tolist() == pytest.approx(expected)


def test_a_game_begins_from_a_given_state() -> None:
    env = TetrisEnv()
    env.reset(seed=4)
    for _ in range(7):
        env.step(np.flatnonzero(env.action_masks())[3])
    state = env.get_state()
    expected, reward, *_, info = env.step(np.int64(12))
    other = TetrisEnv()
    other.reset(seed=99)
    observation, first = other.reset(options={"state": state})
    assert observation in other.observation_space
    assert (first["pieces"], first["lines_cleared"]) == (7, 0)
    observation, again, *_, told = other.step(np.int64(12))
    assert np.array_equal(observation, expected)
    assert (again, told["lines"]) == (reward, info["lines"])
    # A seed changes the pieces to come, not the board.
    other.reset(seed=1, options={"state": state})
    assert np.array_equal(other.games.columns, state["columns"])


def test_a_state_that_is_none_changes_nothing() -> None:
    env = TetrisEnv()
    env.reset(seed=4)
    other_state = env.get_state()
    env.step(np.int64(3))
    before = env.get_state()
    for options in ({"state": {}}, {"state": 3}, {"board": 1}, [1], "state"):
        with pytest.raises(ValueError, match=r"state|board|options"):
            env.reset(seed=8, options=options)  # type: ignore[arg-type]
    for seed in (-1, 1.5, "8"):
        with pytest.raises(gymnasium.error.Error, match=r"[Ss]eed"):
            env.reset(seed=seed, options={"state": other_state})  # type: ignore[arg-type]
    after = env.get_state()
    assert all(np.array_equal(after[name], before[name]) for name in before)


def test_an_illegal_action_can_raise_and_names_the_legal_ones() -> None:
    vec = TetrisVecEnv(2, rows=4, columns=4, illegal="raise", seed=0)
    single = TetrisEnv(rows=4, columns=4, illegal="raise")
    single.reset(seed=1)
    masks = vec.action_masks()
    good = masks.argmax(1)
    bad = good.copy()
    bad[1] = int((~masks[1]).argmax())
    legal = ", ".join(map(str, np.flatnonzero(masks[1]).tolist()))
    message = f"action: {bad[1]} is not legal in game 1; allowed: {legal}$"
    before = vec.get_state()
    with pytest.raises(ValueError, match=message):
        vec.step(bad)
    for wrong in (-1, 16):
        with pytest.raises(ValueError, match=f"action: {wrong}; allowed: 0 to 15"):
            vec.step(np.array([good[0], wrong]))
    assert all(np.array_equal(vec.get_state()[name], before[name]) for name in before)
    with pytest.raises(ValueError, match="is not legal in game 0; allowed: "):
        single.step(np.int64((~single.action_masks()).argmax()))
    vec.step(good)
    with pytest.raises(ValueError, match="illegal: 'ignore'; allowed: nearest, raise"):
        TetrisVecEnv(1, illegal="ignore")


@pytest.mark.parametrize("action", ["placements", "keys", "reachable"])
@pytest.mark.parametrize("bad", [1.9, 1.0, True, "1", None, [1]])
def test_what_is_no_action_is_refused_and_changes_nothing(
    action: str, bad: Any
) -> None:
    options: dict[str, Any] = {"rows": 6, "columns": 5, "action": action}
    vec, single = TetrisVecEnv(2, seed=0, **options), TetrisEnv(**options)
    vec.reset()
    single.reset(seed=0)
    before = vec.get_state(), single.get_state()
    with pytest.raises(ValueError, match=r"actions?: .*; allowed: "):
        vec.step([bad, bad])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"actions?: .*; allowed: "):
        single.step(bad)
    np.testing.assert_equal((vec.get_state(), single.get_state()), before)


def test_the_error_names_the_action_and_what_is_allowed() -> None:
    vec = TetrisVecEnv(2, seed=0)
    message = r"action: 1.9 \(float64\); allowed: integers from 0 to 39"
    with pytest.raises(ValueError, match=message):
        vec.step(np.array([1.0, 1.9]))
    with pytest.raises(ValueError, match=message):
        TetrisEnv().step(np.float64(1.9))  # type: ignore[arg-type]
