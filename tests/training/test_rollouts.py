"""The rollout buffer: what SB3's gives, batch by batch."""

from __future__ import annotations

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from stable_baselines3.common.buffers import RolloutBuffer

from tetris_widget.training.rollouts import SteadyRolloutBuffer

STEPS, ENVS = 5, 3


def fill(buffer: RolloutBuffer, seed: int) -> None:
    rng = np.random.default_rng(seed)
    buffer.reset()
    for _ in range(STEPS):
        buffer.add(
            rng.random((ENVS, 2), np.float32),
            rng.integers(0, 4, (ENVS, 1)),
            rng.random(ENVS),
            rng.random(ENVS) < 0.3,
            torch.from_numpy(rng.random((ENVS, 1), np.float32)),
            torch.from_numpy(rng.random(ENVS, np.float32)),
        )
    last = torch.from_numpy(rng.random((ENVS, 1), np.float32))
    buffer.compute_returns_and_advantage(last, rng.random(ENVS) < 0.3)


def rows(buffer: RolloutBuffer, batch_size: int | None) -> list[list[float]]:
    """All samples of an epoch, in an order that does not depend on the buffer's."""
    found = []
    for batch in buffer.get(batch_size):
        n = len(batch.advantages)
        fields = [field.reshape(n, -1).float() for field in batch if field is not None]
        found += torch.cat(fields, 1).tolist()
    return sorted(found)


def test_every_rollout_is_what_sb3_makes_of_it() -> None:
    shape = Box(0, 1, (2,), np.float32), Discrete(4)
    options = {"device": "cpu", "gae_lambda": 0.9, "gamma": 0.98, "n_envs": ENVS}
    theirs = RolloutBuffer(STEPS, *shape, **options)
    ours = SteadyRolloutBuffer(STEPS, *shape, **options)
    for rollout in range(3):
        fill(theirs, rollout)
        fill(ours, rollout)
        assert ours.full
        for batch_size in (None, 15, 5, 4):
            assert rows(ours, batch_size) == rows(theirs, batch_size)


def test_batches_are_shuffled_anew() -> None:
    buffer = SteadyRolloutBuffer(
        STEPS, Box(0, 1, (2,), np.float32), Discrete(4), "cpu", n_envs=ENVS
    )
    fill(buffer, 0)
    first, second = (next(iter(buffer.get(5))).old_values for _ in range(2))
    assert not torch.equal(first, second)
