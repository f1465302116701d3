"""Other people's Tetris for learners, as far as it is installed, playing at random.

Owns how each is made and played; `pip install tetris-widget[bench]` installs them all.
Deliberately doesn't know our own.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import gymnasium
import numpy as np

ROWS, COLUMNS = 20, 10
BATCH = 1024
BATCHES = 20


class Peer(NamedTuple):
    """One way of playing.

    Attributes:
        name: of the package, and what a step is.
        kind: of our own environment that does the same: `keys`, `afterstates`, `board`.
        play: plays on for a while; returns steps of single games per CPU-second.
    """

    name: str
    kind: str
    play: Callable[[], float]


class Single:
    """Random legal actions in one environment of Gymnasium's kind.

    Args:
        env: to be played in.
        steps: at once.
        mask: returns which actions are legal, of an observation and an info; None: all.
    """

    def __init__(
        self,
        env: gymnasium.Env[Any, Any],
        steps: int,
        mask: Callable[[Any, Any], Any] | None = None,
    ) -> None:
        self._env, self._steps, self._mask = env, steps, mask
        self._rng = np.random.default_rng(0)
        self._seen = env.reset(seed=0)
        # Choosing is not the environment's work: drawn before.
        self._noise = self._rng.random((steps, int(env.action_space.n)))  # type: ignore[attr-defined]

    def __call__(self) -> float:
        """Play on; return steps per CPU-second, resets included."""
        spent = 0.0
        for noise in self._noise:
            before = time.process_time()
            mask = self._mask(*self._seen) if self._mask else 1.0
            spent += time.process_time() - before
            action = int((noise * mask).argmax())
            before = time.process_time()
            observation, _, terminated, truncated, info = self._env.step(action)
            is_over = terminated or truncated
            self._seen = self._env.reset() if is_over else (observation, info)
            spent += time.process_time() - before
        return self._steps / spent


class Batched:
    """Random legal placements in Jumanji's Tetris, many games in one compiled call."""

    def __init__(self) -> None:
        import jax
        from jumanji.environments import Tetris
        from jumanji.wrappers import VmapAutoResetWrapper

        self._jax = jax
        env = VmapAutoResetWrapper(Tetris(num_rows=ROWS, num_cols=COLUMNS))
        self._step = jax.jit(env.step)
        keys = jax.random.split(jax.random.PRNGKey(0), BATCH)
        self._state, self._seen = jax.jit(env.reset)(keys)
        self._rng = np.random.default_rng(0)

    def __call__(self) -> float:
        """Play on; return steps of single games per CPU-second, resets included."""
        spent = 0.0
        for _ in range(BATCHES):
            actions = self._choose()
            before = time.process_time()
            self._state, self._seen = self._step(self._state, actions)
            self._jax.block_until_ready((self._state, self._seen))
            spent += time.process_time() - before
        return BATCHES * BATCH / spent

    def _choose(self) -> Any:
        mask = np.asarray(self._seen.observation.action_mask).reshape(BATCH, -1)
        chosen = (self._rng.random(mask.shape, np.float32) * mask).argmax(1)
        actions = np.stack([chosen // COLUMNS, chosen % COLUMNS], 1)
        return self._jax.block_until_ready(self._jax.numpy.asarray(actions, np.int32))


def _tetris_gymnasium() -> gymnasium.Env[Any, Any]:
    importlib.import_module("tetris_gymnasium.envs")
    return gymnasium.make("tetris_gymnasium/Tetris", height=ROWS, width=COLUMNS)


def _keys() -> Callable[[], float]:
    return Single(_tetris_gymnasium(), 1_000)


def _grouped() -> Callable[[], float]:
    from tetris_gymnasium.wrappers.grouped import GroupedActionsObservations
    from tetris_gymnasium.wrappers.observation import FeatureVectorObservation

    env = _tetris_gymnasium()
    grouped = GroupedActionsObservations(env, [FeatureVectorObservation(env)])
    return Single(grouped, 60, lambda _, info: info["action_mask"])


def _rl_tetris() -> Callable[[], float]:
    importlib.import_module("rl_tetris.envs")
    from rl_tetris.wrapper.Grouped import GroupedWrapper
    from rl_tetris.wrapper.Observation import GroupedFeaturesObservation

    env = gymnasium.make("RL-Tetris-v0", height=ROWS, width=COLUMNS)
    grouped = GroupedWrapper(env, GroupedFeaturesObservation(env))
    return Single(grouped, 120, lambda observation, _: observation["action_mask"])


KNOWN: tuple[tuple[str, str, str, Callable[[], Callable[[], float]]], ...] = (
    ("tetris_gymnasium", "tetris-gymnasium, keys", "keys", _keys),
    ("tetris_gymnasium", "tetris-gymnasium, grouped", "afterstates", _grouped),
    ("rl_tetris", "rl-tetris, grouped", "afterstates", _rl_tetris),
    ("jumanji", f"Jumanji, {BATCH} games", "board", Batched),
)


def installed() -> Iterator[Peer]:
    """Yield those that play here, compiled; print a line about each that doesn't."""
    for module, name, kind, make in KNOWN:
        if importlib.util.find_spec(module) is None:
            print(f"{name}: not installed")
            continue
        try:
            play = make()
            play()
        except Exception as error:  # theirs can be any
            print(f"{name}: does not play here: {error!r}")
            continue
        yield Peer(name, kind, play)
