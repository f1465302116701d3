"""The best game can be played again, move for move."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.training.runs import SMALL, new_run, resumed
from tetris_widget.config import TrainingConfig
from tetris_widget.envs import TetrisVecEnv
from tetris_widget.training.record import Recorder, replay

pytestmark = pytest.mark.timeout(60)


def play(
    env: TetrisVecEnv, recorder: Recorder, steps: int, seed: int = 5
) -> list[tuple[int, int, dict[str, Any]]]:
    """Play at random; return every game: its lines, its moves, its record."""
    rng = np.random.default_rng(seed)
    found = []
    begun = np.zeros(env.num_envs, int)
    for step in range(steps):
        env.step_async(rng.integers(0, env.action_space.n, env.num_envs))
        _, _, dones, infos = env.step_wait()
        recorder.add()
        recorder.end(np.flatnonzero(dones))
        for game in np.flatnonzero(dones):
            record = recorder.game(game)
            found.append((infos[game]["lines"], step + 1 - begun[game], record))
            begun[game] = step + 1
    return found


@pytest.mark.parametrize("randomizer", ["bag", "uniform"])
@pytest.mark.parametrize("max_pieces", [None, 15])
def test_every_game_is_replayed_to_its_end(
    randomizer: str, max_pieces: int | None
) -> None:
    env = TetrisVecEnv(
        6, rows=10, columns=4, randomizer=randomizer, max_pieces=max_pieces, seed=3
    )
    env.reset()
    games = play(env, Recorder(env), 400)
    assert len(games) > 50
    assert sum(lines for lines, _, _ in games) > 0
    for lines, moves, record in games:
        frames = list(replay(json.loads(json.dumps(record))))
        assert len(frames) == moves == frames[-1]["pieces"]
        assert frames[-1]["lines"] == lines


def test_what_is_shown_is_what_was_played() -> None:
    env = TetrisVecEnv(1, rows=8, columns=5, seed=1)
    env.reset()
    recorder = Recorder(env)
    shown = []
    while True:
        env.step_async(np.array([7]))
        _, _, dones, infos = env.step_wait()
        shown.append(infos[0]["frame"])
        recorder.add()
        if dones[0]:
            break
    record = recorder.game(0)
    assert record is not None
    for one, other in zip(shown, replay(record), strict=True):
        np.testing.assert_equal(other, one)


def test_a_game_without_its_beginning_is_not_recorded() -> None:
    env = TetrisVecEnv(4, rows=8, columns=5, seed=1)
    env.reset()
    for _ in range(3):
        env.step_async(np.zeros(4, np.int64))
        env.step_wait()
    first, _second, *_ = play(env, Recorder(env), 60)
    assert first[2] is None
    env.reset()
    small = play(env, Recorder(env, ring_bytes=4 * 5), 60)
    for _, moves, record in small:
        assert (record is None) == (moves > 5)


@pytest.mark.parametrize("ring_bytes", [4 * 8, 4 * 10_000])
def test_running_games_go_on_where_they_were(ring_bytes: int) -> None:
    env = TetrisVecEnv(4, rows=12, columns=5, seed=1)
    env.reset()
    straight = Recorder(env, ring_bytes)
    play(env, straight, 50)
    # Twice: the second time, what was taken from before is in it.
    for seed in (6, 7):
        games, recording = env.get_state(), straight.get_state()
        on_disk = {name: array.copy() for name, array in recording.items()}
        expected = [record for _, _, record in play(env, straight, 60, seed)]
        np.testing.assert_equal(recording, on_disk)
        env.set_state(games)
        again = Recorder(env, ring_bytes)
        again.set_state(on_disk)
        np.testing.assert_equal(again.get_state(), on_disk)
        assert [record for _, _, record in play(env, again, 60, seed)] == expected
        np.testing.assert_equal(again.get_state(), straight.get_state())
        straight = again
    found = [record for record in expected if record is not None]
    assert len(found) > 0
    assert (len(found) < len(expected)) == (ring_bytes < 100)


def test_what_is_no_recording_of_these_games_is_refused() -> None:
    env = TetrisVecEnv(4, rows=8, columns=5, seed=1)
    env.reset()
    recorder = Recorder(env)
    state = recorder.get_state()
    for name in state:
        with pytest.raises(ValueError, match=f"{name}: (is missing|shape)"):
            recorder.set_state({k: v for k, v in state.items() if k != name})
    with pytest.raises(ValueError, match="lengths: 3; allowed: -1 to 0"):
        recorder.set_state({**state, "lengths": np.full(4, 3)})


@pytest.mark.parametrize("change", [{"rows": 3}, {"rng": 0}, {"actions": None}, {}])
def test_what_is_no_record_is_refused(change: dict[str, Any]) -> None:
    env = TetrisVecEnv(1, rows=4, columns=4, seed=1)
    env.reset()
    record = play(env, Recorder(env), 20)[0][2]
    damaged = {**record, **change} if change else {"best_lines": 3}
    with pytest.raises(ValueError):
        list(replay(damaged))


def test_a_run_keeps_its_record(tmp_path: Path) -> None:
    config = TrainingConfig(
        **{**SMALL, "max_pieces": None}, total_timesteps=4_000, run_dir=str(tmp_path)
    )
    run = new_run(config)
    run.train()
    record = run.run.record()
    assert record is not None
    best = [m for m in run.messages.of_type("info") if m["kind"] == "best"][-1]
    assert record["best_lines"] == best["best_lines"]
    assert record["episode"] == best["episode"]
    assert list(replay(record))[-1]["lines"] == best["best_lines"]
    # Gone on with, it keeps the one there is until there is a better one.
    again = resumed(run.run.path, total_timesteps=8_000)
    again.train()
    kept = again.run.record()
    assert kept is not None
    assert list(replay(kept))[-1]["lines"] == kept["best_lines"] >= best["best_lines"]


def test_a_record_that_happens_again_after_a_resume_is_kept(tmp_path: Path) -> None:
    config = TrainingConfig(
        **{**SMALL, "max_pieces": None}, total_timesteps=10_000, run_dir=str(tmp_path)
    )
    run = new_run(config)
    save = run.callback._save_best_model

    def save_and_stop(*arguments: Any) -> None:
        save(*arguments)
        record, boundary = run.run.record(), run.session._checkpointer._snapshot
        assert record is not None
        assert boundary is not None
        since = run.callback.num_timesteps - boundary.timesteps
        if len(record["actions"]) * SMALL["n_envs"] > since:
            run.stop.set()  # it was under way at the boundary

    run.callback._save_best_model = save_and_stop  # type: ignore[method-assign]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tetris_widget.training.checkpointer.MAX_SNAPSHOT_SECONDS", 0.0)
        assert run.train() == "stopped"
    best = run.run.record()
    assert best is not None
    again = resumed(run.run.path)
    assert again.session._resumed is not None
    assert 0 < again.session._resumed.timesteps < best["timesteps"]
    again.train(stop_at=best["timesteps"] + 1)
    assert again.callback.best_lines == best["best_lines"]
    kept = again.run.record()
    assert kept is not None
    assert kept["actions"] == best["actions"]


def test_recording_takes_next_to_nothing() -> None:
    env = TetrisVecEnv(64, seed=1)
    env.reset()
    recorder = Recorder(env)
    before = time.process_time()
    for _ in range(10_000):
        recorder.add()
    # 64 timesteps of training take over 1,000 µs; measured: 1.5 to 4 µs.
    assert (time.process_time() - before) / 10_000 < 40e-6
