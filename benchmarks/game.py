"""How fast the games, the environments and controllers are, on one core.

Prints a table: random placements, afterstates and keys through `TetrisVecEnv`, greedy
decisions with the nine Dellacherie-Thiery features, tetris-gymnasium where it is
installed, two threads against one, what the first call costs, and memory. Speeds are
per CPU-second, medians of interleaved rounds.

Run by `make bench`; about three minutes.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import gymnasium
import numpy as np
import psutil

from benchmarks.training import spread
from tetris_widget.envs import TetrisVecEnv
from tetris_widget.game import Games, play

ROUNDS = 5
SIZES = (1, 64, 1024, 16384)
# Enough steps that a round takes some tenths of a second.
PLACEMENTS_PER_ROUND = 200_000
NOISE_ROUNDS = 8
KEYS_PER_ROUND = 400_000
PEER_STEPS = 300
# Weights of DT-10: Gabillon, Ghavamzadeh & Scherrer (2013).
DT_10 = {
    "landing_height": -2.18,
    "eroded_cells": 2.42,
    "row_transitions": -2.17,
    "column_transitions": -3.31,
    "holes": 0.95,
    "cumulative_wells": -2.22,
    "hole_depth": -0.81,
    "rows_with_holes": -9.65,
    "diversity": 1.27,
}
FIRST_CALL = """
import time
import numpy as np
from tetris_widget.envs import TetrisVecEnv
before = time.perf_counter()
env = TetrisVecEnv(1, seed=0)
env.reset()
env.step(np.zeros(1, np.int64))
print(time.perf_counter() - before)
"""


class RandomPlay:
    """Random legal placements in many environments at once."""

    def __init__(self, observation: str, n_envs: int) -> None:
        self.env = TetrisVecEnv(n_envs, seed=0, observation=observation)
        self.env.reset()
        self.steps = max(4, min(2_000, PLACEMENTS_PER_ROUND // n_envs))
        # Choosing is not the environment's work: drawn before, and not timed.
        rng = np.random.default_rng(0)
        self.noise = rng.random((NOISE_ROUNDS, n_envs, 40), np.float32)

    def __call__(self) -> float:
        """Return steps of single games per CPU-second, masks included."""
        spent = 0.0
        for step in range(self.steps):
            before = time.process_time()
            masks = self.env.action_masks()
            spent += time.process_time() - before
            actions = (self.noise[step % NOISE_ROUNDS] * masks).argmax(1)
            before = time.process_time()
            self.env.step(actions)
            spent += time.process_time() - before
        return self.steps * self.env.num_envs / spent


class RandomKeys:
    """Random keys in many environments at once."""

    def __init__(self, n_envs: int) -> None:
        self.env = TetrisVecEnv(n_envs, action="keys", seed=0)
        self.env.reset()
        self.steps = max(4, min(2_000, KEYS_PER_ROUND // n_envs))
        rng = np.random.default_rng(0)
        n_keys = self.env.action_space.n
        self.keys = rng.integers(0, n_keys, (NOISE_ROUNDS, n_envs))

    def __call__(self) -> float:
        """Return steps of single games per CPU-second."""
        before = time.process_time()
        for step in range(self.steps):
            self.env.step(self.keys[step % NOISE_ROUNDS])
        return self.steps * self.env.num_envs / (time.process_time() - before)


class RandomPeer:
    """Random actions in one environment of Gymnasium's kind."""

    def __init__(self, env_id: str) -> None:
        self.env = gymnasium.make(env_id)
        self.env.reset(seed=0)
        self.env.action_space.seed(0)

    def __call__(self) -> float:
        """Return steps per CPU-second, resets included."""
        before = time.process_time()
        for _ in range(PEER_STEPS):
            _, _, terminated, truncated, _ = self.env.step(
                self.env.action_space.sample()
            )
            if terminated or truncated:
                self.env.reset()
        return PEER_STEPS / (time.process_time() - before)


def peers() -> dict[str, Callable[[], float]]:
    """Return what measures the peer, if it is installed; say so if not."""
    if importlib.util.find_spec("tetris_gymnasium") is None:
        print("tetris-gymnasium: not installed")
        return {}
    importlib.import_module("tetris_gymnasium.envs")
    return {"tetris-gymnasium, 1 game: keys": RandomPeer("tetris_gymnasium/Tetris")}


def decisions() -> float:
    """Return greedy decisions per CPU-second on 10 × 20, uniform pieces."""
    before = time.process_time()
    played = play(DT_10, games=16, max_pieces=20_000)
    return float(played.pieces.sum()) / (time.process_time() - before)


def gain_of_two_threads() -> float:
    """Return how many times sooner two threads have played the same games."""
    seconds = []
    for threads in (1, 2):
        before = time.perf_counter()
        play(DT_10, games=64, max_pieces=10_000, threads=threads)
        seconds.append(time.perf_counter() - before)
    return seconds[0] / seconds[1]


def first_calls() -> tuple[float, float]:
    """Return the seconds of the first step: compiled from nothing, then from cache."""
    with tempfile.TemporaryDirectory() as directory:
        environment = {**os.environ, "NUMBA_CACHE_DIR": directory}
        command = [sys.executable, "-c", FIRST_CALL]
        seconds = [
            subprocess.run(
                command, env=environment, capture_output=True, text=True, check=True
            ).stdout
            for _ in range(2)
        ]
    return float(seconds[0]), float(seconds[1])


def memory_per_game(make: Callable[[int], object]) -> float:
    """Return bytes of resident memory that one of many games takes."""
    n_games = 16384
    before = psutil.Process().memory_info().rss
    made = make(n_games)
    taken = psutil.Process().memory_info().rss - before
    del made
    return float(taken) / n_games


def observed(observation: str) -> Callable[[int], object]:
    """Return what makes an environment with both of its buffers written."""

    def make(n_games: int) -> object:
        env = TetrisVecEnv(n_games, seed=0, observation=observation)
        env.reset()
        env.step(np.zeros(n_games, np.int64))
        return env

    return make


def main() -> None:
    """Measure everything and print the table."""
    speeds: dict[str, Callable[[], float]] = {}
    for observation in ("board", "afterstates"):
        for n_envs in SIZES:
            name = f"{observation} VecEnv, {n_envs} games: steps"
            speeds[name] = RandomPlay(observation, n_envs)
    for n_envs in SIZES:
        speeds[f"keys VecEnv, {n_envs} games: steps"] = RandomKeys(n_envs)
    speeds["greedy, nine DT features: decisions"] = decisions
    speeds |= peers()
    figures: dict[str, list[float]] = {name: [] for name in speeds}
    gains = []
    for measure in (*speeds.values(), gain_of_two_threads):
        measure()  # compiles, and fills the caches
    for _ in range(ROUNDS):
        for name, measure in speeds.items():
            figures[name].append(measure())
        gains.append(gain_of_two_threads())
    for name, values in figures.items():
        print(f"{name + ' per CPU-second':<58} {spread(values, ',.0f')}")
    print(f"{'two threads / one':<58} {spread(gains, '.2f')}")
    compiled, cached = first_calls()
    print(f"{'first step, compiled from nothing':<58} {compiled:.1f} s")
    print(f"{'first step, from cache':<58} {cached:.2f} s")
    print(f"{'memory of a game':<58} {memory_per_game(Games):,.0f} B")
    for observation in ("board", "afterstates"):
        taken = memory_per_game(observed(observation))
        print(f"{f'memory of a game, {observation} VecEnv':<58} {taken:,.0f} B")


if __name__ == "__main__":
    main()
