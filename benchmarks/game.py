"""How fast the games, the environments and controllers are, on one core.

Prints a table, with goals: random placements, afterstates, keys and reachable
placements through `TetrisVecEnv`; greedy decisions with the nine Dellacherie-Thiery
features; other people's environments where they are installed, in turns with ours, and
how many times faster ours is; two threads against one, and two processes against one,
which is what the machine gives; what first calls cost; memory. Speeds are per
CPU-second, medians of interleaved rounds.

Run by `make bench`; about five minutes.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from typing import Any

import numpy as np

from benchmarks import peers
from benchmarks.figures import row
from tetris_widget.envs import TetrisVecEnv
from tetris_widget.game import play

ROUNDS = 5
SIZES = (1, 64, 1024, 16384)
MEASURED_SIZE = 1024
# Enough steps that a round takes some tenths of a second.
STEPS_PER_ROUND = 200_000
NOISE_ROUNDS = 8
# Of all games: in the smallest no action follows from one before.
MOST_NOISE = 16_384
# By the options of a TetrisVecEnv; the goal at MEASURED_SIZE games.
KINDS: dict[str, tuple[dict[str, str], float | None]] = {
    "board": ({"observation": "board"}, 3_000_000),
    "afterstates": ({"observation": "afterstates"}, 400_000),
    "keys": ({"action": "keys"}, 3_000_000),
    "reachable": ({"action": "reachable"}, None),
}
DECISIONS = "greedy, nine DT features: decisions"
LEAST_DECISIONS = 500_000
LEAST_GAIN = 1.8
# More rounds than of the speeds: what two cores get differs from second to second.
GAIN_ROUNDS = 15
MANY_PLAYED = 64
MOST_COMPILED, MOST_CACHED = 6.0, 0.5
FIRST_CALLS = 5
MANY_GAMES = 16384
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
IMPORTS = """
import time
import numpy as np
import psutil
from tetris_widget.envs import TetrisVecEnv
from tetris_widget.game import Games, play

def play_in(n, **options):
    env = TetrisVecEnv(n, seed=0, **options)
    env.reset()
    env.step(np.zeros(n, np.int64))  # both of its buffers are written
    return env
"""
FIRST_CALL = """
before = time.perf_counter()
{call}
print(time.perf_counter() - before)
"""
MEMORY = """
make = lambda n: {call}
loaded = make(1)
before = psutil.Process().memory_info().rss
made = make({n})
print((psutil.Process().memory_info().rss - before) / {n})
"""


class RandomPlay:
    """Random legal actions in many environments at once.

    Args:
        n_envs: how many.
        options: of the TetrisVecEnv.
    """

    def __init__(self, n_envs: int, options: dict[str, Any]) -> None:
        self._env = TetrisVecEnv(n_envs, seed=0, **options)
        self._env.reset()
        self._steps = max(4, min(2_000, STEPS_PER_ROUND // n_envs))
        # Any key is legal, and nobody asks for a mask.
        self._has_mask = options.get("action") != "keys"
        # Choosing is not the environment's work: drawn before, and not timed.
        rounds = max(NOISE_ROUNDS, MOST_NOISE // n_envs)
        shape = min(rounds, self._steps), n_envs, int(self._env.action_space.n)
        self._noise = np.random.default_rng(0).random(shape, np.float32)

    def __call__(self) -> float:
        """Play on; return steps of single games per CPU-second, masks included."""
        spent = 0.0
        for step in range(self._steps):
            times, number = divmod(step, len(self._noise))
            # Another game's each time, or games would go round in circles.
            noise = np.roll(self._noise[number], times, axis=0)
            if self._has_mask:
                before = time.process_time()
                masks = self._env.action_masks()
                spent += time.process_time() - before
                noise *= masks
            actions = noise.argmax(1)
            before = time.process_time()
            self._env.step(actions)
            spent += time.process_time() - before
        return self._steps * self._env.num_envs / spent


def decisions() -> float:
    """Return greedy decisions per CPU-second on 10 × 20, uniform pieces."""
    before = time.process_time()
    played = play(DT_10, games=16, max_pieces=20_000)
    return float(played.pieces.sum()) / (time.process_time() - before)


def play_many(games: int = MANY_PLAYED, threads: int = 1) -> float:
    """Return the seconds by the clock that some games take."""
    before = time.perf_counter()
    play(DT_10, games=games, max_pieces=10_000, threads=threads)
    return time.perf_counter() - before


def gain_of_two_threads() -> float:
    """Return how many times sooner two threads have played the same games."""
    return play_many() / play_many(threads=2)


class TwoProcesses:
    """Two processes, which share nothing: what the machine itself gains by two."""

    def __init__(self) -> None:
        self._pool = ProcessPoolExecutor(2, multiprocessing.get_context("spawn"))

    def __call__(self) -> float:
        """Return how many times sooner two have played the same games than one."""
        alone = self._pool.submit(play_many).result()
        halves = [self._pool.submit(play_many, MANY_PLAYED // 2) for _ in range(2)]
        return alone / max(half.result() for half in halves)

    def close(self) -> None:
        """End them."""
        self._pool.shutdown()


def print_speeds() -> None:
    """Print speeds, ours and others'."""
    speeds: dict[str, Callable[[], float]] = {}
    goals: dict[str, float | None] = {DECISIONS: LEAST_DECISIONS}
    for kind, (options, least) in KINDS.items():
        for n_envs in SIZES:
            speeds[_name(kind, n_envs)] = RandomPlay(n_envs, options)
        goals[_name(kind, MEASURED_SIZE)] = least
    speeds[DECISIONS] = decisions
    others = list(peers.installed())
    speeds |= {f"{peer.name}: steps": peer.play for peer in others}
    figures: dict[str, list[float]] = {name: [] for name in speeds}
    for measure in speeds.values():
        measure()  # compiles, and fills the caches
    for _ in range(ROUNDS):
        for name, measure in speeds.items():
            figures[name].append(measure())
    for name, values in figures.items():
        print(row(f"{name} per CPU-s", values, ",.0f", least=goals.get(name)))
    for peer in others:
        ours, theirs = figures[_name(peer.kind, MEASURED_SIZE)], f"{peer.name}: steps"
        ratios = [a / b for a, b in zip(ours, figures[theirs], strict=True)]
        print(row(f"{peer.kind} VecEnv / {peer.name}", ratios, ",.1f"))


def print_gains() -> None:
    """Print the gain of a second thread, and beside it that of a second process."""
    threads, processes = [], []
    with closing(TwoProcesses()) as gain_of_two_processes:
        gain_of_two_processes(), gain_of_two_threads()  # compile, and fill the caches
        for _ in range(GAIN_ROUNDS):
            threads.append(gain_of_two_threads())
            processes.append(gain_of_two_processes())
    ratios = [a / b for a, b in zip(threads, processes, strict=True)]
    print(row("two threads / one", threads, ".2f", least=LEAST_GAIN))
    print(row("two processes that share nothing / one", processes, ".2f"))
    print(row("gain by threads / gain by processes", ratios, ".2f"), flush=True)


def print_first_calls() -> None:
    """Print the seconds of first calls: compiled from nothing, then from cache."""
    calls = {kind: f"play_in(1, **{options})" for kind, (options, _) in KINDS.items()}
    calls["play"] = f"play({DT_10}, games=1, max_pieces=10)"
    for kind, call in calls.items():
        code = FIRST_CALL.format(call=call)
        compiled, cached = [], []
        for _ in range(FIRST_CALLS):
            with tempfile.TemporaryDirectory() as directory:
                cache = {"NUMBA_CACHE_DIR": directory}
                compiled.append(_ask(code, cache))
                cached.append(_ask(code, cache))
        name = f"{kind}, first call,"
        print(row(f"{name} compiled", compiled, ".1f", " s", most=MOST_COMPILED))
        print(row(f"{name} from cache", cached, ".2f", " s", most=MOST_CACHED))


def print_memory() -> None:
    """Print the bytes of resident memory that one of many games takes."""
    made = {f"{kind} VecEnv": f"play_in(n, **{o})" for kind, (o, _) in KINDS.items()}
    for name, call in {"alone": "Games(n, seed=0)", **made}.items():
        taken = _ask(MEMORY.format(call=call, n=MANY_GAMES))
        print(row(f"memory of a game, {name}", [taken], ",.0f", " B"), flush=True)


def main() -> None:
    """Measure everything and print the table."""
    print_speeds()
    print_gains()
    print_first_calls()
    print_memory()


def _name(kind: str, n_envs: int) -> str:
    return f"{kind} VecEnv, {n_envs} games: steps"


def _ask(code: str, environment: dict[str, str] | None = None) -> float:
    """Return the number that some code prints in a process of its own."""
    ended = subprocess.run(
        [sys.executable, "-c", IMPORTS + code],
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return float(ended.stdout)


if __name__ == "__main__":
    main()
