"""The callback in anybody's `learn()`: control, counting, reports, the best model."""

from __future__ import annotations

import io
import json
import os
import queue
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.vec_env import DummyVecEnv

from tests.training.test_checkpoint import assert_equal_parameters
from tetris_widget.run_directory import read_metadata
from tetris_widget.training.best import copy_parameters, save_model
from tetris_widget.training.callback import StopTraining, WebMetricsCallback

pytestmark = pytest.mark.timeout(60)


class CountingEnv(gymnasium.Env[np.ndarray, int]):
    """Games of 5 to 11 steps that clear a line at every second step.

    Keeps its own independent count of what it did, and resets its lines like any env.
    """

    observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, index: int = 0) -> None:
        self.index = index
        self.finished: list[tuple[float, int]] = []
        self.lines = self.steps = 0
        self.reward = 0.0

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.lines = self.steps = 0
        self.reward = 0.0
        return np.zeros(2, np.float32), {"lines": 0}

    def step(self, action: int) -> Any:
        self.steps += 1
        cleared = self.steps % 2
        self.lines += cleared
        reward = cleared + self.index
        self.reward += reward
        length = 5 + (self.index + len(self.finished)) % 7
        done = self.steps >= length
        if done:
            self.finished.append((self.reward, self.lines))
        frame = {
            "cells": np.full((4, 4), self.steps, np.uint8),
            "piece": 1,
            "next": [np.int64(2)],
        }
        info = {"lines": self.lines, "lines_cleared": cleared, "frame": frame}
        return np.zeros(2, np.float32), reward, done, False, info


def make_venv(n_envs: int) -> DummyVecEnv:
    return DummyVecEnv([lambda i=i: CountingEnv(i) for i in range(n_envs)])


def make_model(env: Any, **options: Any) -> PPO:
    small = {"n_steps": 16, "batch_size": 16, "n_epochs": 1, "device": "cpu"}
    return PPO("MlpPolicy", env, **{**small, **options})


@pytest.fixture
def channels() -> dict[str, Any]:
    pause = threading.Event()
    pause.set()
    return {
        "metrics_queue": queue.Queue(),
        "command_queue": queue.Queue(),
        "pause_event": pause,
        "stop_event": threading.Event(),
    }


def drain(messages: queue.Queue[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    found = []
    while not messages.empty():
        found.append(messages.get_nowait())
    return [message for message in found if message["type"] == kind]


def wait_for(condition: Any, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.002)


class Training:
    """`learn()` on a thread, so that a test can steer it."""

    def __init__(self, model: Any, callback: Any) -> None:
        self.was_interrupted = False
        self.thread = threading.Thread(target=self._run, args=(model, callback))
        self.thread.start()

    def _run(self, model: Any, callback: Any) -> None:
        try:
            model.learn(10**9, callback=callback)
        except StopTraining:
            self.was_interrupted = True

    def __enter__(self) -> Training:
        return self

    def __exit__(self, *_: object) -> None:
        self.thread.join(20)
        assert not self.thread.is_alive()


@pytest.fixture
def callback(channels: dict[str, Any], tmp_path: Path) -> Iterator[WebMetricsCallback]:
    made = WebMetricsCallback(**channels, checkpoint_dir=tmp_path)
    yield made
    channels["stop_event"].set()
    channels["pause_event"].set()


def test_it_starts_headless_and_unslowed() -> None:
    callback = WebMetricsCallback(queue.Queue(), queue.Queue())
    assert callback.visual_mode is False
    assert callback.step_delay == 0.0
    assert callback.best_lines == 0
    assert callback.checkpoint_dir == Path("./checkpoints")


@pytest.mark.parametrize("n_envs", [1, 4, 8])
def test_episodes_equal_an_independent_count(
    n_envs: int, callback: WebMetricsCallback, channels: dict[str, Any]
) -> None:
    env = make_venv(n_envs)
    make_model(env).learn(16 * n_envs * 6, callback=callback)
    truth = [item for one in env.envs for item in one.unwrapped.finished]
    episodes = drain(channels["metrics_queue"], "episode")
    assert callback.episode_count == len(truth) == len(episodes)
    told = sorted((e["reward"], e["lines"]) for e in episodes)
    assert told == sorted(truth)
    assert sorted(callback.episode_lines) == sorted(lines for _, lines in truth)
    assert callback.best_lines == max(lines for _, lines in truth)
    assert [e["episode"] for e in episodes] == list(range(1, len(truth) + 1))


@pytest.mark.parametrize("n_envs", [1, 4, 8])
def test_thresholds_count_timesteps_not_calls(
    n_envs: int, callback: WebMetricsCallback, channels: dict[str, Any]
) -> None:
    callback.update_freq = 64
    make_model(make_venv(n_envs)).learn(1024, callback=callback)
    metrics = drain(channels["metrics_queue"], "metrics")
    assert len(metrics) == 1024 // 64 + 1  # and one at the end


@pytest.mark.parametrize("algorithm", [PPO, A2C, DQN])
def test_any_algorithm_on_cartpole(
    algorithm: Any, callback: WebMetricsCallback, channels: dict[str, Any]
) -> None:
    model = algorithm("MlpPolicy", "CartPole-v1", device="cpu")
    callback.visual_mode = True
    model.learn(600, callback=callback)
    seen = drain(channels["metrics_queue"], "episode")
    assert seen
    assert all(e["lines"] is None for e in seen)
    assert sum(e["reward"] for e in seen) == sum(e["length"] for e in seen)
    assert callback.episode_lines == []


@pytest.mark.parametrize("visual", [False, True])
def test_steps_are_slowed_in_the_step_view_only(
    visual: bool, callback: WebMetricsCallback, monkeypatch: pytest.MonkeyPatch
) -> None:
    callback.visual_mode, callback.step_delay = visual, 0.05
    callback.board_update_freq = 1  # each board, and then the delay
    sleep, slept = callback._sleep, []

    def count(seconds: float) -> None:
        before = time.perf_counter()
        sleep(seconds)
        slept.append(time.perf_counter() - before)

    monkeypatch.setattr(callback, "_sleep", count)
    make_model(make_venv(1)).learn(64, callback=callback)
    assert len(slept) == (64 if visual else 0)
    assert all(seconds >= 0.05 for seconds in slept)


class OddEnv(CountingEnv):
    """Says of lines and frames what nobody understands."""

    def step(self, action: Any) -> Any:
        observation, reward, over, cut, _ = super().step(action)
        all_odd = [float("nan"), [1], "many", "3", True, None, {}]
        odd = all_odd[len(self.finished) % len(all_odd)]
        frame = {"cells": odd} if self.steps % 2 else odd
        info = {"lines": odd, "frame": frame}
        return observation, reward, over, cut, info


def test_infos_that_nobody_understands_do_not_end_the_training(
    callback: WebMetricsCallback, channels: dict[str, Any]
) -> None:
    callback.visual_mode = True
    env = DummyVecEnv([OddEnv, OddEnv])
    make_model(env).learn(16 * 2 * 10, callback=callback)
    truth = [item for one in env.envs for item in one.finished]
    episodes = drain(channels["metrics_queue"], "episode")
    assert len(episodes) == len(truth) >= 8
    assert all(one["lines"] is None for one in episodes)
    told = sorted(one["reward"] for one in episodes)
    assert told == sorted(reward for reward, _ in truth)


def test_messages_hold_plain_python_values(
    callback: WebMetricsCallback, channels: dict[str, Any]
) -> None:
    callback.visual_mode = True
    make_model(make_venv(2)).learn(200, callback=callback)
    kinds = set()
    while not channels["metrics_queue"].empty():
        message = channels["metrics_queue"].get_nowait()
        kinds.add(message["type"])
        for frame in message.get("frames", ()):
            frame["cells"] = list(frame["cells"])
        json.dumps(message, allow_nan=False)
    assert kinds >= {"episode", "metrics", "board", "status", "info"}


def test_the_last_board_of_an_episode_is_not_the_reset_one(
    callback: WebMetricsCallback, channels: dict[str, Any]
) -> None:
    callback.visual_mode = True
    callback.board_update_freq = 1
    make_model(make_venv(1)).learn(32, callback=callback)
    boards = drain(channels["metrics_queue"], "board")
    frames = [message["frames"][0] for message in boards]
    last = [frame["cells"][0] for frame in frames if frame["over"]]
    assert last[0] == 5  # the step that ended it, not 0


def test_pause_blocks_and_commands_still_work(
    callback: WebMetricsCallback, channels: dict[str, Any]
) -> None:
    with Training(make_model(make_venv(2)), callback):
        wait_for(lambda: callback.num_timesteps > 50)
        channels["pause_event"].clear()
        wait_for(lambda: _last_state(channels) == "paused")
        still = callback.num_timesteps
        channels["command_queue"].put({"command": "set_speed", "speed": 0.5})
        wait_for(lambda: callback.step_delay == 0.05)
        assert callback.num_timesteps == still
        channels["pause_event"].set()
        wait_for(lambda: callback.num_timesteps > still + 50)
        channels["stop_event"].set()


def test_stop_while_paused(
    callback: WebMetricsCallback, channels: dict[str, Any]
) -> None:
    with Training(make_model(make_venv(2)), callback):
        channels["pause_event"].clear()
        wait_for(lambda: _last_state(channels) == "paused")
        channels["stop_event"].set()


def test_stop_by_command(
    callback: WebMetricsCallback, channels: dict[str, Any]
) -> None:
    with Training(make_model(make_venv(2)), callback):
        channels["command_queue"].put({"command": "stop"})


def test_pause_and_stop_act_inside_a_gradient_update(
    callback: WebMetricsCallback, channels: dict[str, Any]
) -> None:
    # One update of this model would take minutes.
    model = make_model(make_venv(1), n_steps=256, n_epochs=10_000)
    callback.raise_on_stop = True
    with Training(model, callback) as training:
        wait_for(lambda: callback.num_timesteps == 256)
        channels["pause_event"].clear()
        wait_for(lambda: _last_state(channels) == "paused", 5)
        channels["stop_event"].set()
    assert training.was_interrupted


def test_a_model_trained_under_control_saves_and_loads(
    callback: WebMetricsCallback, tmp_path: Path
) -> None:
    model = make_model(make_venv(1))
    model.learn(64, callback=callback)
    model.save(tmp_path / "model")
    PPO.load(tmp_path / "model")


def test_modes_are_answered(
    callback: WebMetricsCallback, channels: dict[str, Any]
) -> None:
    for visual in (True, False):
        channels["command_queue"].put({"command": "set_mode", "visual": visual})
        callback._process_commands()
        assert callback.visual_mode is visual
    texts = [m["text"] for m in drain(channels["metrics_queue"], "info")]
    assert texts == ["Mode: visual", "Mode: headless"]


@pytest.mark.parametrize(
    ("speed", "delay"),
    [
        (1.0, 0.0),
        (0.5, 0.05),
        (np.float32(0.5), 0.05),
        (0.1, 0.09),
        (np.int64(2), 0.0),
        (-1e9, 0.09),
    ],
)
def test_speed_is_clamped(
    speed: float, delay: float, callback: WebMetricsCallback, channels: dict[str, Any]
) -> None:
    channels["command_queue"].put({"command": "set_speed", "speed": speed})
    callback._process_commands()
    assert callback.step_delay == pytest.approx(delay)


def test_commands_are_reported_with_their_values_once_they_are_carried_out(
    callback: WebMetricsCallback, channels: dict[str, Any]
) -> None:
    speeds = [number / 1_000 for number in range(100, 1_000)]
    for speed in speeds:
        channels["command_queue"].put({"command": "set_speed", "speed": speed})
    odd = {"visual": np.bool_(True), "b": b"x", "nan": float("nan"), 3: {4}}
    channels["command_queue"].put({"command": "set_mode", **odd})
    long = {"command": "set_mode", "visual": "x" * 1_000_000}
    channels["command_queue"].put(long)
    channels["command_queue"].put({"command": "jump"})
    callback._process_commands()
    *told, odd_one, long_one = drain(channels["metrics_queue"], "command")
    assert [one["values"] for one in told] == [{"speed": speed} for speed in speeds]
    assert {one["command"] for one in told} == {"set_speed"}
    assert odd_one["values"] == {"visual": True, "b": "b'x'", "nan": None, "3": "{4}"}
    assert long_one["command"] == "set_mode"
    assert len(long_one["values"]["excerpt"]) < 1_000


@pytest.mark.parametrize(
    "command",
    [
        {"command": "set_speed", "speed": float("nan")},
        {"command": "set_speed", "speed": float("inf")},
        {"command": "set_speed", "speed": "fast"},
        {"command": "set_speed"},
        {"command": "jump"},
        {"command": ["stop"]},
        {},
        "stop",
        None,
        {"command": "x" * 1_000_000},
    ],
)
def test_bad_commands_are_refused_and_change_nothing(
    command: Any, callback: WebMetricsCallback, channels: dict[str, Any]
) -> None:
    channels["command_queue"].put(command)
    callback._process_commands()
    (error,) = drain(channels["metrics_queue"], "error")
    assert error["text"].startswith("Command refused")
    assert len(error["text"]) < 500
    assert (callback.visual_mode, callback.step_delay) == (False, 0.0)
    assert not callback.is_stop_asked()


def test_the_best_model_is_saved_with_its_metadata(
    callback: WebMetricsCallback, channels: dict[str, Any], tmp_path: Path
) -> None:
    make_model(make_venv(4)).learn(256, callback=callback)
    path = tmp_path / "best" / "model.zip"
    beside = json.loads((tmp_path / "best" / "metadata.json").read_text())
    assert beside["best_lines"] == callback.best_lines > 0
    with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as archive:
        inside = json.loads(archive.read("metadata.json"))
    assert inside == {k: v for k, v in beside.items() if k != "sha256"}
    PPO.load(path)
    infos = drain(channels["metrics_queue"], "info")
    assert [m["best_lines"] for m in infos][-1] == callback.best_lines


def test_a_better_model_that_is_there_already_is_kept(
    callback: WebMetricsCallback, channels: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "best" / "model.zip"
    save_model(make_model(make_venv(1)), path, {"best_lines": 1_000})
    before = path.read_bytes()
    make_model(make_venv(4)).learn(256, callback=callback)
    assert path.read_bytes() == before
    assert 0 < callback.best_lines < 1_000
    texts = [m["text"] for m in drain(channels["metrics_queue"], "info")]
    assert "best/ keeps its model of 1,000" in texts[-1]


def test_a_model_that_cannot_be_read_is_replaced(
    callback: WebMetricsCallback, tmp_path: Path
) -> None:
    path = tmp_path / "best" / "model.zip"
    save_model(make_model(make_venv(1)), path, {"best_lines": 1_000})
    path.write_bytes(path.read_bytes()[:-1])
    make_model(make_venv(4)).learn(256, callback=callback)
    PPO.load(path)


def test_training_goes_on_when_the_best_model_cannot_be_saved(
    channels: dict[str, Any], tmp_path: Path
) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("not a directory")
    callback = WebMetricsCallback(**channels, checkpoint_dir=in_the_way)
    make_model(make_venv(1)).learn(64, callback=callback)
    warnings = drain(channels["metrics_queue"], "info")
    assert "could not save the best model" in warnings[0]["text"]
    assert callback.num_timesteps == 64


def test_what_a_disk_refused_is_made_up_for_by_a_lesser_game(
    callback: WebMetricsCallback,
    channels: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tetris_widget.training.callback.RETRY_SECONDS", 0.0)
    make_model(make_venv(1)).learn(16, callback=callback)
    metadata = tmp_path / "best" / "metadata.json"

    def saved() -> int:
        return int(json.loads(metadata.read_text())["best_lines"])

    first = saved()
    drain(channels["metrics_queue"], "info")
    writer = f"{os.getpid()}-{threading.get_native_id()}"
    in_the_way = tmp_path / "best" / f"model.zip.tmp.{writer}"
    in_the_way.mkdir()
    for lines in (40, 41, 39):
        callback._on_episode_end(1.0, lines)
    assert saved() == first
    in_the_way.rmdir()
    for lines in (first, 38, 30, 39, 39):
        callback._on_episode_end(1.0, lines)
    assert (saved(), callback.best_lines) == (39, 41)
    callback._on_episode_end(1.0, 42)
    assert saved() == callback.best_lines == 42
    assert [m["text"] for m in drain(channels["metrics_queue"], "info")] == [
        "could not save the best model: Is a directory",
        "saving the best model works again",
        "best that could be saved: 38 lines in one game, saved to best/model.zip",
        "best that could be saved: 39 lines in one game, saved to best/model.zip",
        "new best: 42 lines in one game, saved to best/model.zip",
    ]


def test_a_lesser_game_never_replaces_one_that_was_saved_after_a_refusal(
    callback: WebMetricsCallback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tetris_widget.training.callback.RETRY_SECONDS", 0.0)
    make_model(make_venv(1)).learn(16, callback=callback)
    metadata = tmp_path / "best" / "metadata.json"
    jobs: list[Any] = []
    callback.store = jobs.append
    callback._best_file_due = 0.0
    for lines in (100, 150):
        callback._on_episode_end(1.0, lines)
    in_the_way = (
        tmp_path / "best" / (f"model.zip.tmp.{os.getpid()}-{threading.get_native_id()}")
    )
    in_the_way.mkdir()
    jobs.pop(0)()
    in_the_way.rmdir()
    # Taken before it is known that the better one can be saved, and after.
    callback._on_episode_end(1.0, 30)
    while jobs:
        jobs.pop(0)()
    callback._on_episode_end(1.0, 31)
    while jobs:
        jobs.pop(0)()
    assert json.loads(metadata.read_text())["best_lines"] == 150


def test_a_disk_that_refuses_is_not_asked_at_every_game(
    callback: WebMetricsCallback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_model(make_venv(1)).learn(16, callback=callback)
    asked = []

    def refuse(*_: Any) -> None:
        asked.append(callback.best_lines)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tetris_widget.training.callback.write_model", refuse)
    for _ in range(1_000):
        callback._on_episode_end(1.0, 40)
    assert asked == [40]


def test_a_best_model_soon_after_another_waits_and_gives_way_to_a_better_one(
    callback: WebMetricsCallback, tmp_path: Path
) -> None:
    jobs: list[Any] = []
    callback.store = jobs.append
    model = make_model(make_venv(1))
    model.learn(16, callback=callback)
    jobs.clear()
    callback._best_file_due = 0.0
    callback._on_episode_end(1.0, 40)
    callback._best_file_due = float("inf")
    for lines in (41, 43, 42):
        callback._on_episode_end(1.0, lines)
    parameters = copy_parameters(model.get_parameters())
    for parameter in model.policy.parameters():
        parameter.data.add_(1.0)
    assert len(jobs) == 1
    callback._best_file_due = callback._next_background = 0.0
    callback._control_point()
    for job in jobs:
        job()
    assert len(jobs) == 2
    path = tmp_path / "best" / "model.zip"
    assert (read_metadata(path) or {})["best_lines"] == 43
    assert_equal_parameters(PPO.load(path).get_parameters(), parameters)


def test_episode_lists_are_bounded(callback: WebMetricsCallback) -> None:
    callback.metrics_queue = queue.Queue()
    callback.best_lines = 10
    callback._send_status = lambda *_: None  # type: ignore[method-assign]
    for number in range(50_000):
        callback._on_episode_end(float(number), 1)
    assert len(callback.episode_rewards) <= 40_000
    assert callback.episode_rewards[-1] == 49_999.0
    assert callback.episode_count == 50_000


def _last_state(channels: dict[str, Any]) -> str | None:
    messages = list(channels["metrics_queue"].queue)
    states = [m["state"] for m in messages if m["type"] == "status"]
    return states[-1] if states else None
