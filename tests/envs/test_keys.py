"""Guideline Tetris as a learning problem: others' checkers, infos, episodes, frames."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as gymnasium_check
from stable_baselines3 import PPO
from stable_baselines3.common.env_checker import check_env as sb3_check
from stable_baselines3.common.vec_env import VecMonitor

from tetris_widget.config import REWARD_TERMS
from tetris_widget.envs import KEYS_ENV_ID, TetrisEnv, TetrisVecEnv
from tetris_widget.envs.rewards import SHAPING
from tetris_widget.game.guideline import KEYS
from tetris_widget.game.guideline_kernels import FLOOR, WALL
from tetris_widget.game.pieces import cells

OBSERVATIONS = ("flat", "board", "dict")
ACTIONS = ("keys", "reachable")
HARD = KEYS.index("hard")


def equal(one: Any, two: Any) -> bool:
    """Whether two observations, arrays or dicts of them, are the same."""
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(equal(one[k], two[k]) for k in one)
    return np.array_equal(one, two)


def part(observation: Any, env: int) -> Any:
    if isinstance(observation, dict):
        return {name: value[env] for name, value in observation.items()}
    return observation[env]


@pytest.mark.parametrize("observation", OBSERVATIONS)
@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("reward", ["lines", "score"])
@pytest.mark.parametrize(
    ("rows", "columns", "previews", "hold"),
    [(4, 4, 0, False), (20, 10, 5, True), (28, 12, 6, True)],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_checkers_of_gymnasium_and_sb3_pass(
    observation: str,
    action: str,
    reward: str,
    rows: int,
    columns: int,
    previews: int,
    hold: bool,
) -> None:
    made = gymnasium.make(
        KEYS_ENV_ID,
        rows=rows,
        columns=columns,
        previews=previews,
        hold=hold,
        observation=observation,
        action=action,
        reward={reward: 1.0},
        render_mode="rgb_array",
    )
    gymnasium_check(made.unwrapped)
    sb3_check(made.unwrapped)


@pytest.mark.parametrize("observation", OBSERVATIONS)
@pytest.mark.parametrize("action", ACTIONS)
def test_env_i_plays_the_games_of_its_own_seed(observation: str, action: str) -> None:
    n, seed = 3, 11
    options: dict[str, Any] = {
        "rows": 7,
        "columns": 5,
        "observation": observation,
        "action": action,
        "max_pieces": 6,
    }
    vec = TetrisVecEnv(n, seed=seed, **options)
    singles = [TetrisEnv(**options) for _ in range(n)]
    expected = [env.reset(seed=seed + i)[0] for i, env in enumerate(singles)]
    rng = np.random.default_rng(0)
    observations = vec.reset()
    ends = set()
    for _ in range(400):
        for i in range(n):
            assert equal(part(observations, i), expected[i])
            assert np.array_equal(vec.action_masks()[i], singles[i].action_masks())
        actions = rng.integers(0, vec.action_space.n, n)
        observations, rewards, dones, infos = vec.step(actions)
        for i, env in enumerate(singles):
            expected[i], reward, terminated, truncated, info = env.step(actions[i])
            assert rewards[i] == reward
            assert dones[i] == (terminated or truncated)
            for name in ("lines", "pieces", "lines_cleared", "score"):
                assert infos[i][name] == info[name]
            assert ("terminal_observation" in infos[i]) == dones[i]
            if dones[i]:
                ends.add((terminated, truncated))
                assert equal(infos[i]["terminal_observation"], expected[i])
                assert infos[i]["TimeLimit.truncated"] == truncated
                expected[i] = env.reset()[0]
    assert ends == {(True, False), (False, True)}


@pytest.mark.parametrize("reward", ["lines", "score"])
def test_rewards_and_infos_add_up_for_every_env(reward: str) -> None:
    vec = TetrisVecEnv(
        16, action="keys", rows=8, columns=4, reward={reward: 1.0}, seed=0
    )
    vec.reset()
    rng = np.random.default_rng(1)
    total, lines = np.zeros(16), np.zeros(16)
    ends = 0
    for _ in range(1500):
        _, rewards, dones, infos = vec.step(rng.choice([1, 2, 3, 4, 4, 5, 7], 16))
        total += rewards
        lines += [info["lines_cleared"] for info in infos]
        name = "lines" if reward == "lines" else "score"
        assert [info[name] for info in infos] == total.tolist()
        assert [info["lines"] for info in infos] == lines.tolist()
        total[dones] = lines[dones] = 0
        ends += dones.sum()
    assert ends > 20


def test_infos_handed_out_are_never_changed() -> None:
    vec = TetrisVecEnv(8, action="keys", rows=4, columns=4, seed=0)
    vec.reset()
    rng = np.random.default_rng(0)
    handed: list[tuple[list[dict[str, Any]], list[dict[str, Any]]]] = []
    for _ in range(60):
        infos = vec.step(rng.integers(0, 8, 8))[3]
        handed.append((infos, [dict(info) for info in infos]))
    for infos, kept in handed:
        assert [list(info) for info in infos] == [list(info) for info in kept]
        assert [info["score"] for info in infos] == [info["score"] for info in kept]


def test_infos_are_the_same_whether_those_before_were_looked_at_or_not() -> None:
    options: dict[str, Any] = {"action": "keys", "rows": 4, "columns": 4, "seed": 0}
    watched, seldom = TetrisVecEnv(8, **options), TetrisVecEnv(8, **options)
    watched.reset(), seldom.reset()
    rng = np.random.default_rng(0)
    looks = ends = 0
    for step in range(400):
        actions = rng.integers(0, 8, 8)
        expected, infos = list(watched.step(actions)[3]), seldom.step(actions)[3]
        if step % 3 == 0:
            games = [int(rng.integers(0, 8))]
        elif step % 3 == 1 and rng.random() < 0.3:
            games = list(range(8))
            infos = list(infos)
        else:
            continue
        for game in games:
            told, known = dict(infos[game]), dict(expected[game])
            looks += 1
            for own in (told, known):
                own.pop("frame", None)
            last, seen = told.pop("terminal_observation", None), None
            if last is not None:
                ends += 1
                seen = known.pop("terminal_observation")
            assert np.array_equal(last, seen)
            assert told == known
    assert looks > 300
    assert ends > 10


def test_holding_into_the_end_tells_it_in_a_new_info() -> None:
    """The piece from hold spawns on full cells; nothing locks, nothing is scored."""
    vec = TetrisVecEnv(2, action="keys", seed=0)
    vec.reset()
    state = vec.get_state()
    game = 1
    record = state["games"][game]
    record["x"], record["y"] = 0, 5
    for column in range(3, 7):
        state["cells"][game, 19, column] = 1  # just above the visible rows
        record["field"][column + WALL] |= 1 << (20 + FLOOR)
    vec.set_state(state)
    vec.step(np.zeros(2, np.int64))
    before = vec.step(np.zeros(2, np.int64))[3][game]
    _, _, dones, infos = vec.step(np.array([0, KEYS.index("hold")]))
    assert dones.tolist() == [False, True]
    assert infos[game]["TimeLimit.truncated"] is False
    assert "terminal_observation" not in before
    assert "terminal_observation" not in vec.step(np.zeros(2, np.int64))[3][game]


def test_an_observation_is_not_overwritten_by_the_next_step() -> None:
    vec = TetrisVecEnv(4, action="keys", seed=0)
    first = vec.reset()
    kept = first.copy()
    vec.step(np.full(4, HARD))
    assert np.array_equal(first, kept)


def test_what_an_observation_says() -> None:
    env = TetrisEnv(action="keys", observation="dict", previews=2)
    env.reset(seed=0)
    for _ in range(3):
        env.step(np.int64(HARD))
    env.step(np.int64(KEYS.index("hold")))
    observation = env.step(np.int64(KEYS.index("cw")))[0]
    view = env.games.view(0)
    full, piece, ghost = observation["planes"]
    assert np.array_equal(full, view.board > 0)
    assert {tuple(cell) for cell in np.argwhere(piece).tolist()} == set(view.piece)
    assert {tuple(cell) for cell in np.argwhere(ghost).tolist()} == set(view.ghost)
    one_hot = observation["pieces"][:-1].reshape(4, 7)
    assert (one_hot.argmax(1) + 1).tolist() == [view.kind, *view.next, view.hold]
    assert one_hot.sum(1).tolist() == [1, 1, 1, 1]
    assert observation["pieces"][-1] == view.can_hold == 0
    flat = TetrisEnv(action="keys", observation="flat", previews=2)
    flat.set_state(env.get_state())
    image = TetrisEnv(action="keys", observation="board", previews=2)
    image.set_state(env.get_state())
    keep = {"state": env.get_state()}
    seen = flat.reset(options=keep)[0]
    picture = image.reset(options=keep)[0]
    assert picture.shape == image.observation_space.shape == (3 + 4 * 7 + 1, 20, 10)
    assert np.array_equal(picture[:3], observation["planes"])
    flags = observation["pieces"][:, None, None]
    assert (picture[3:] == flags).all()
    parts = [observation["planes"].ravel(), observation["pieces"]]
    assert np.array_equal(seen, np.concatenate(parts))


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize(("previews", "hold"), [(0, False), (2, True)])
def test_a_picture_has_a_plane_for_every_number_of_the_pieces(
    action: str, previews: int, hold: bool
) -> None:
    options: dict[str, Any] = {"rows": 6, "columns": 5, "action": action}
    options |= {"previews": previews, "hold": hold, "seed": 0, "max_pieces": 7}
    image = TetrisVecEnv(4, observation="board", **options)
    both = TetrisVecEnv(4, observation="dict", **options)
    pictures, parts = image.reset(), both.reset()
    rng = np.random.default_rng(0)
    ended = 0
    for _ in range(200):
        assert np.array_equal(pictures[:, :3], parts["planes"])
        assert (pictures[:, 3:] == parts["pieces"][:, :, None, None]).all()
        kept = pictures.copy()
        actions = rng.integers(0, image.action_space.n, 4)
        before, (pictures, _, dones, infos) = pictures, image.step(actions)
        parts, _, _, others = both.step(actions)
        assert np.array_equal(before, kept)  # SB3 still has it
        for env in np.flatnonzero(dones):
            last = infos[env]["terminal_observation"]
            flags = others[env]["terminal_observation"]["pieces"]
            assert (last[3:] == flags[:, None, None]).all()
        ended += dones.sum()
    assert ended


@pytest.mark.parametrize("action", ACTIONS)
def test_a_frame_has_the_piece_where_it_is(action: str) -> None:
    env = TetrisEnv(rows=8, columns=6, action=action)
    env.reset(seed=1)
    rng = np.random.default_rng(0)
    locked = 0
    for _ in range(600):
        legal = np.flatnonzero(env.action_masks())
        _, _, terminated, _, info = env.step(rng.choice(legal))
        frame = info["frame"]
        assert set(frame) >= {"cells", "board", "piece", "rotation", "column", "row"}
        assert frame["falls"] is (action == "reachable")
        assert frame["cells"].shape == (8, 6)
        assert frame["next"] == env.games.previews(0)
        assert frame["lines"] == info["lines"]
        own = [
            (frame["row"] + i, frame["column"] + j)
            for i, j in cells(frame["piece"], frame["rotation"])
        ]
        assert frame["pieces"] == info["pieces"]
        added = (frame["board"] > 0).sum() + 6 * info["lines_cleared"]
        if added == (frame["cells"] > 0).sum() + 4:
            locked += 1
            assert all(frame["cells"][cell] == 0 for cell in own)
            if not info["lines_cleared"]:
                assert all(frame["board"][cell] == frame["piece"] for cell in own)
        if terminated:
            env.reset()
    assert locked > 50


def test_a_game_goes_on_from_a_state() -> None:
    env = TetrisEnv(action="keys")
    env.reset(seed=3)
    for a in range(20):
        env.step(np.int64(HARD if a % 4 == 0 else 1))
    state = env.get_state()
    expected = [env.step(np.int64(a % 8))[0] for a in range(40)]
    other = TetrisEnv(action="keys")
    other.reset(seed=99, options={"state": state})
    assert not np.array_equal(other.get_state()["games"], env.get_state()["games"])
    _, info = other.reset(options={"state": state})
    assert info["pieces"] == state["games"]["pieces"][0] > 0
    assert info["lines_cleared"] == 0
    for a, observation in enumerate(expected):
        assert np.array_equal(other.step(np.int64(a % 8))[0], observation)
    with pytest.raises(ValueError, match="options: 'board'; allowed: 'state'"):
        other.reset(options={"board": 1})
    with pytest.raises(ValueError, match="has_ended: is missing"):
        other.reset(options={"state": {}})
    while not env.step(np.int64(HARD))[2]:
        pass
    over, before = env.get_state(), other.get_state()
    with pytest.raises(ValueError, match="its game is over; allowed: one that goes on"):
        other.reset(options={"state": over})
    np.testing.assert_equal(other.get_state(), before)
    other.set_state(over)  # as it was, ended
    np.testing.assert_equal(other.get_state(), over)


def test_no_episode_begins_where_another_was_cut() -> None:
    env = TetrisEnv(action="keys", max_pieces=2)
    env.reset(seed=0)
    going_on = env.get_state()
    while not env.step(np.int64(HARD))[3]:
        pass
    with pytest.raises(ValueError, match="has 2 pieces; allowed: fewer than max_piec"):
        env.reset(options={"state": env.get_state()})
    env.reset(options={"state": going_on})
    assert not env.step(np.int64(HARD))[3]


def test_a_vec_env_goes_on_from_a_state() -> None:
    vec = TetrisVecEnv(3, action="keys", rows=6, columns=5, seed=0)
    vec.reset()
    rng = np.random.default_rng(0)
    actions = rng.integers(0, 8, (200, 3))
    for row in actions:
        vec.step(row)
    state = vec.get_state()
    first = [vec.step(row) for row in actions[:50]]
    kept = [(o.copy(), r, [i["score"] for i in infos]) for o, r, _, infos in first[-1:]]
    vec.set_state(state)
    second = [vec.step(row) for row in actions[:50]]
    observation, rewards, _, infos = second[-1]
    assert np.array_equal(observation, kept[0][0])
    assert np.array_equal(rewards, kept[0][1])
    assert [info["score"] for info in infos] == kept[0][2]


def test_masks_are_what_maskable_ppo_asks_for() -> None:
    vec = TetrisVecEnv(3, seed=0, action="reachable")
    vec.reset()
    masks = np.stack(vec.env_method("action_masks"))
    assert masks.shape == (3, 4 * 10 * 21 + 1)
    assert np.array_equal(masks, vec.action_masks())
    assert masks.any(1).all()


def test_sb3_learns_with_every_observation() -> None:
    for observation, policy in (("flat", "MlpPolicy"), ("dict", "MultiInputPolicy")):
        vec = VecMonitor(
            TetrisVecEnv(
                4, action="keys", rows=4, columns=4, observation=observation, seed=0
            )
        )
        model = PPO(policy, vec, n_steps=64, batch_size=64, n_epochs=1, seed=0)
        model.learn(512)
        assert model.ep_info_buffer
        assert model.num_timesteps == 512


def test_it_renders() -> None:
    text = TetrisEnv(action="keys", render_mode="ansi")
    text.reset(seed=0)
    assert "level 1" in text.render()
    picture = TetrisEnv(
        action="keys", rows=6, columns=5, previews=1, render_mode="rgb_array"
    )
    picture.reset(seed=0)
    rendered: Any = picture.render()
    assert rendered.shape == (96, 160, 3)
    vec = TetrisVecEnv(2, action="keys", seed=0)
    assert all(image is not None for image in vec.get_images())


def test_actions_out_of_range_are_refused_and_change_nothing() -> None:
    vec = TetrisVecEnv(2, action="keys", seed=0)
    vec.reset()
    state = vec.get_state()
    with pytest.raises(ValueError, match="key: 8; allowed: 0 to 7"):
        vec.step(np.array([0, 8]))
    assert np.array_equal(vec.get_state()["games"], state["games"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"observation": "pixels"},
            "observation: 'pixels'; allowed: board, flat, dict",
        ),
        ({"action": "mouse"}, "action: 'mouse'; allowed: placements, keys, reachable"),
        (
            {"reward": {"joy": 1}},
            "reward: 'joy' is no term; allowed: lines, ",
        ),
        ({"max_pieces": 0}, "max_pieces: 0; allowed"),
        ({"rows": 2}, "rows: 2; allowed: 4 to 28"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TetrisVecEnv(1, **{"action": "keys", **options})
    with pytest.raises(ValueError, match=message):
        TetrisEnv(**{"action": "keys", **options})


@pytest.mark.parametrize("action", ACTIONS)
def test_rewards_are_their_terms_and_shaping_adds_up_to_nothing(action: str) -> None:
    gamma = 0.9
    weights = dict.fromkeys(REWARD_TERMS, 1.0) | {"holes": -2.0}
    vec = TetrisVecEnv(
        8, rows=6, columns=4, action=action, reward=weights, gamma=gamma, seed=0
    )
    vec.reset()
    rng = np.random.default_rng(0)
    shaped, discount = np.zeros((8, 3)), np.ones(8)
    ends = 0
    for _ in range(600):
        masks = vec.action_masks()
        _, rewards, dones, infos = vec.step((rng.random(masks.shape) * masks).argmax(1))
        terms = [info["reward_terms"] for info in infos]
        for env, info in enumerate(infos):
            assert terms[env].keys() == weights.keys()
            assert terms[env]["lines"] == info["lines_cleared"]
            assert terms[env]["game_over"] == dones[env]
            total = sum(weights[name] * terms[env][name] for name in weights)
            assert rewards[env] == pytest.approx(total, rel=1e-5)
        steps = np.array([[term[name] for name in SHAPING] for term in terms])
        shaped += discount[:, None] * steps
        discount *= gamma
        assert np.allclose(shaped[dones], 0.0)
        shaped[dones], discount[dones] = 0.0, 1.0
        ends += dones.sum()
    assert ends > 10


def test_weights_change_in_the_middle_of_a_game() -> None:
    vec = TetrisVecEnv(2, action="reachable", gamma=1.0, seed=0)
    vec.reset()
    vec.step(vec.action_masks().argmax(1))
    vec.set_attr("reward", {"height": -1})
    _, rewards, _, infos = vec.step(vec.action_masks().argmax(1))
    assert [info["reward_terms"] for info in infos] == [
        {"height": -reward} for reward in rewards
    ]
    assert (rewards <= -4).all() and (rewards >= -8).all()
    with pytest.raises(ValueError, match="did you mean 'height'"):
        vec.set_attr("reward", {"heigt": 1})
    assert vec.reward == {"height": -1.0}
