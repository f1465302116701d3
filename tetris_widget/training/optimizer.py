"""How weights move: Adam, a learning rate that decays, and averages.

Owns what goes on between a gradient and the weights that are used. Deliberately doesn't
know Adam's arithmetic, which is torch's own, step for step, nor any policy.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch

_Adam = torch.optim.Adam
AVERAGE_POWER = 3


class Adam(_Adam):
    """torch's Adam: the same steps, the same state, the same hooks.

    torch's optimizers import `torch._dynamo` (800 modules, 90 MB, over a second) only
    to tell the compiler not to look at them, and nothing here is compiled by it.
    Only the wrappers that import the compiler are left out: those which torch puts
    around the methods below, and which name what they wrap. Differentiable steps,
    which one of them is for, are not on offer.
    """

    add_param_group = inspect.unwrap(_Adam.add_param_group)
    zero_grad = inspect.unwrap(_Adam.zero_grad)
    state_dict = inspect.unwrap(_Adam.state_dict)
    load_state_dict = inspect.unwrap(_Adam.load_state_dict)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """Make one step; return what `closure` returns."""
        return _step(self, closure)


_step: Callable[..., Any] = inspect.unwrap(_Adam.step)


class DecayingRate:
    """A learning rate of `first / (1 + timesteps / halving)`, as SB3 asks for one.

    It depends on timesteps alone, not on how many there are to be: a run that goes on
    for longer than was meant goes on as if it had been.

    Args:
        first: at the beginning.
        halving: timesteps after which half of it is left.
        total_timesteps: of the run; SB3 tells only which share of them is left.
    """

    def __init__(self, first: float, halving: int, total_timesteps: int) -> None:
        self._first = first
        self._total_in_halvings = total_timesteps / halving

    def __call__(self, progress_remaining: float) -> float:
        """Return the rate at this point of the run."""
        return self._first / (
            1.0 + (1.0 - progress_remaining) * self._total_in_halvings
        )


class ParameterAverage:
    """A running average of a policy's parameters, of about the last fifth of a run.

    Each moment counts by the third power of its timesteps (polynomial-decay averaging:
    Shamir & Zhang 2013), so that the beginning is forgotten without a window to choose.
    """

    def __init__(self) -> None:
        self._timesteps = 0
        self._state: dict[str, Any] = {}

    def add(self, policy: torch.nn.Module, timesteps: int) -> None:
        """Take in a policy as it is after so many timesteps."""
        new, self._timesteps = timesteps - self._timesteps, timesteps
        share = (AVERAGE_POWER + 1) * new / max(timesteps, 1) if self._state else 1.0
        for name, value in policy.state_dict().items():
            if share < 1.0 and value.is_floating_point():
                self._state[name].lerp_(value, share)
            else:
                self._state[name] = value.clone()

    def state(self) -> dict[str, Any]:
        """Return the average, as `state_dict` of a policy; a copy."""
        return {name: value.clone() for name, value in self._state.items()}
