"""How weights move: torch's own Adam, a decaying rate, an average."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch

from tetris_widget.training.optimizer import Adam, DecayingRate, ParameterAverage

WITHOUT_THE_COMPILER = """
import sys, torch
from tetris_widget.training.optimizer import Adam
weight = torch.ones(3, requires_grad=True)
optimizer = Adam([weight])
optimizer.register_step_post_hook(lambda *_: None)
optimizer.zero_grad()
weight.sum().backward()
optimizer.step()
optimizer.load_state_dict(optimizer.state_dict())
assert "torch._dynamo" not in sys.modules
"""


def trained(kind: Any, steps: int, **options: Any) -> tuple[torch.Tensor, Any]:
    torch.manual_seed(0)
    weight = torch.randn(4, 3, requires_grad=True)
    optimizer = kind([weight], **options)
    inputs = torch.randn(steps, 3, 4)
    for batch in inputs:
        optimizer.zero_grad()
        (batch @ weight).square().sum().backward()
        optimizer.step()
    return weight, optimizer


@pytest.mark.parametrize("options", [{}, {"lr": 0.1, "eps": 1e-5}])
def test_it_makes_the_steps_of_torch(options: dict[str, float]) -> None:
    expected, stock = trained(torch.optim.Adam, 20, **options)
    weight, optimizer = trained(Adam, 20, **options)
    assert torch.equal(weight, expected)
    state, stock_state = optimizer.state_dict(), stock.state_dict()
    assert state["param_groups"] == stock_state["param_groups"]
    for key, value in stock_state["state"][0].items():
        assert torch.equal(state["state"][0][key], value)


def test_torch_goes_on_from_its_state_and_it_from_torchs() -> None:
    _, optimizer = trained(Adam, 3)
    _, stock = trained(torch.optim.Adam, 5)
    stock.load_state_dict(optimizer.state_dict())
    assert int(stock.state_dict()["state"][0]["step"]) == 3
    _, stock = trained(torch.optim.Adam, 5)
    optimizer.load_state_dict(stock.state_dict())
    assert int(optimizer.state_dict()["state"][0]["step"]) == 5


def test_a_step_runs_the_hooks_and_returns_what_the_closure_returns() -> None:
    weight, optimizer = trained(Adam, 1)
    called: list[str] = []
    optimizer.register_step_pre_hook(lambda *_: called.append("before"))
    optimizer.register_step_post_hook(lambda *_: called.append("after"))

    def closure() -> float:
        assert torch.is_grad_enabled()
        called.append("closure")
        weight.sum().backward()
        return 7.0

    assert optimizer.step(closure) == 7.0
    assert called == ["before", "closure", "after"]


def test_it_does_not_load_the_compiler() -> None:
    subprocess.run([sys.executable, "-c", WITHOUT_THE_COMPILER], check=True)


def test_a_decaying_rate_halves_and_does_not_ask_how_long_the_run_is() -> None:
    for total in (1_000, 100_000):
        rate = DecayingRate(0.01, 500, total)
        for timesteps, factor in ((0, 1.0), (500, 1 / 2), (1_000, 1 / 3)):
            assert rate(1.0 - timesteps / total) == pytest.approx(0.01 * factor)


def test_an_average_is_near_the_latest_and_steadier() -> None:
    torch.manual_seed(0)
    layer = torch.nn.Linear(1, 1000, bias=False)
    average = ParameterAverage()
    for timesteps in range(1, 1_001):
        layer.weight.data.normal_().add_(timesteps / 1_000)
        average.add(layer, timesteps)
    found = average.state()["weight"]
    assert 0.7 < found.mean() < 0.9  # where it was about a fifth of the run ago
    assert found.std() < 0.1
    found.zero_()
    assert average.state()["weight"].abs().sum() > 0
