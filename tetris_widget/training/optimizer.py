"""Adam, without the compiler that torch's own loads at its first step.

Owns one thing: torch's optimizers import `torch._dynamo` (800 modules, 90 MB, over a
second) only to tell the compiler not to look at them, and nothing here is compiled by
it. Deliberately doesn't know the arithmetic: that is torch's own, step for step.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch

_Adam = torch.optim.Adam


class Adam(_Adam):
    """torch's Adam: the same steps, the same state, the same hooks.

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
