"""A rollout buffer that copies each observation once.

Owns the storage of a rollout. Deliberately doesn't know policies or environments.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.type_aliases import RolloutBufferSamples


class SteadyRolloutBuffer(RolloutBuffer):
    """SB3's `RolloutBuffer`, with arrays that last and batches that share them.

    SB3 makes new arrays for each rollout, and copies all of them to order them by
    environment, which nothing needs. A batch of the whole rollout is not shuffled.
    """

    _is_made = False

    def reset(self) -> None:
        """Begin a new rollout in the arrays of the last one."""
        if not self._is_made:
            super().reset()
            self._is_made = True
        self.pos = 0
        self.full = False

    def add(
        self,
        obs: Any,
        action: Any,
        reward: Any,
        episode_start: Any,
        value: torch.Tensor,
        log_prob: torch.Tensor,
    ) -> None:
        """Take one step of every environment; see `RolloutBuffer.add`."""
        self.observations[self.pos] = obs
        self.actions[self.pos] = action
        self.rewards[self.pos] = reward
        self.episode_starts[self.pos] = episode_start
        self.values[self.pos] = value.numpy().reshape(-1)
        self.log_probs[self.pos] = log_prob.numpy().reshape(-1)
        self.pos += 1
        self.full = self.pos == self.buffer_size

    def get(
        self, batch_size: int | None = None
    ) -> Generator[RolloutBufferSamples, None, None]:
        """Yield the rollout in random batches."""
        total = self.buffer_size * self.n_envs
        fields = [
            torch.from_numpy(array.reshape(total, *array.shape[2:]))
            for array in (
                self.observations,
                self.actions,
                self.values,
                self.log_probs,
                self.advantages,
                self.returns,
            )
        ]
        if batch_size is None or batch_size >= total:
            yield RolloutBufferSamples(*fields)
            return
        order = torch.from_numpy(np.random.permutation(total))
        for indices in torch.split(order, batch_size):
            yield RolloutBufferSamples(*(field[indices] for field in fields))
