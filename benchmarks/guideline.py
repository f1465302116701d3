"""How fast games under guideline rules are: steps through the VecEnv, random actions.

Prints a table: steps per CPU-second (median and best of the rounds, in which the cases
take turns), resets, observations, rewards and infos included; memory per game.

Run by `make bench`; about half a minute.
"""

from __future__ import annotations

import statistics
import time

import numpy as np

from tetris_widget.envs import TetrisVecEnv

ROUNDS = 7
SECONDS = 0.5
SIZES = (1, 64, 1024, 16384)


class Case:
    """One way of playing, and the speeds that it came to."""

    def __init__(self, action: str, n_envs: int) -> None:
        self.name = f"{action}, {n_envs:,} games"
        self.speeds: list[float] = []
        self._vec = TetrisVecEnv(n_envs, action=action, seed=0)
        self._vec.reset()
        rng = np.random.default_rng(0)
        self._actions = rng.integers(0, self._vec.action_space.n, (50, n_envs))
        self._vec.step(self._actions[0])

    def run(self) -> None:
        """Play for about SECONDS of CPU time."""
        start, steps = time.process_time(), 0
        while (spent := time.process_time() - start) < SECONDS:
            for actions in self._actions[:10]:
                self._vec.step(actions)
            steps += 10 * self._vec.num_envs
        self.speeds.append(steps / spent)

    def bytes_per_game(self) -> float:
        """Return the size of a game's state."""
        state = self._vec.get_state()
        return sum(array.nbytes for array in state.values()) / self._vec.num_envs


def main() -> None:
    cases = [Case(action, n) for action in ("keys", "reachable") for n in SIZES]
    for _ in range(ROUNDS):
        for case in cases:
            case.run()
    print(f"{'':32}{'median':>12}{'best':>12}  steps per CPU-second")
    for case in cases:
        median, best = statistics.median(case.speeds), max(case.speeds)
        print(f"{case.name:32}{median:12,.0f}{best:12,.0f}")
    print(f"{'state of a game':32}{cases[0].bytes_per_game():12,.0f} bytes")


if __name__ == "__main__":
    main()
