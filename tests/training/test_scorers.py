"""The compiled scorers of afterstates: torch's own numbers and gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tetris_widget.config import TrainingConfig
from tetris_widget.envs import TetrisVecEnv
from tetris_widget.game import FEATURES
from tetris_widget.training.evaluation import Player, Table
from tetris_widget.training.policies import (
    AfterstateNet,
    MaskedCategorical,
    TupleNet,
    build_model,
)
from tetris_widget.training.tuples import distinct_tuples, tuples_of

N = 64


Net = AfterstateNet | TupleNet


@pytest.fixture(params=["linear", "network", "tuples"])
def net(request: pytest.FixtureRequest) -> Net:
    torch.manual_seed(0)
    if request.param == "tuples":
        by_tuples = TupleNet()
        by_tuples.layers.weight.data.mul_(10)  # far from uniform
        by_tuples.tuples.data.normal_(std=3.0)
        by_tuples.worths.data.normal_()
        return by_tuples
    made = AfterstateNet(len(FEATURES), is_linear=request.param == "linear")
    for layer in (made.scorer.layers, made.scorer.last):
        if layer is not None:
            layer.weight.data.mul_(10)
    return made


@pytest.fixture
def observations(net: Net) -> torch.Tensor:
    observation = "heights" if isinstance(net, TupleNet) else "afterstates"
    env = TetrisVecEnv(N, rows=10, columns=7, seed=0, observation=observation)
    seen = env.reset()
    rng = np.random.default_rng(0)
    for _ in range(15):
        actions = (rng.random((N, 28)) * env.action_masks()).argmax(1)
        seen = env.step(actions)[0]
    return torch.from_numpy(seen.copy())


def by_torch(net: Net, observations: torch.Tensor) -> MaskedCategorical:
    return MaskedCategorical(net.scorer(observations))


def value_by_torch(net: Net, observations: torch.Tensor) -> torch.Tensor:
    shares = by_torch(net, observations).log_probabilities.exp().detach()
    features = observations[..., : len(FEATURES)]
    expected = (shares[..., None] * features[:, :-1]).sum(1)
    value: torch.Tensor = net.critic(torch.cat((features[:, -1], expected), -1))
    if isinstance(net, TupleNet):
        surfaces = observations[:, :-1, len(FEATURES) : -1]
        worths = net.worths[net.kind_of][tuples_of(surfaces)].sum(-1)
        # What no placement leads to is a surface of zeros.
        worths = worths * observations[:, :-1, -1]
        value = value + (shares * worths).sum(-1, keepdim=True)
    return value


def test_choices_are_legal_and_told_as_torch_tells_them(
    net: Net, observations: torch.Tensor
) -> None:
    with torch.no_grad():
        actions, values, log_probs = net.choose(observations, deterministic=False)
        assert (observations[torch.arange(N), actions, -1] == 1).all()
        expected = by_torch(net, observations).log_prob(actions)
        assert torch.allclose(log_probs, expected, atol=1e-5)
        assert torch.allclose(values, value_by_torch(net, observations), atol=1e-5)


def test_choices_follow_the_probabilities(net: Net, observations: torch.Tensor) -> None:
    many = observations[:1].repeat(20_000, 1, 1)
    with torch.no_grad():
        actions, _, _ = net.choose(many, deterministic=False)
        probabilities = by_torch(net, observations[:1]).log_probabilities.exp()[0]
    shares = torch.bincount(actions, minlength=28) / len(actions)
    # Five standard errors of the likeliest share.
    assert torch.allclose(shares, probabilities, atol=5 * 0.5 / 20_000**0.5)


def test_judgements_and_gradients_are_torchs(
    net: Net, observations: torch.Tensor
) -> None:
    with torch.no_grad():
        actions, _, _ = net.choose(observations, deterministic=False)
    distribution = by_torch(net, observations)
    truth = (
        value_by_torch(net, observations),
        distribution.log_prob(actions),
        distribution.entropy(),
    )
    told = net.judge(observations, actions)
    # Different shares for each, so that no gradient hides behind another.
    shares = torch.linspace(-1, 1, N)
    gradients = []
    for values, log_probs, entropies in (truth, told):
        loss = (shares * log_probs + shares.flip(0) ** 2 * entropies).sum()
        net.zero_grad()
        (loss + values.square().mean()).backward()  # type: ignore[no-untyped-call]
        found = [p.grad for p in net.parameters() if p.grad is not None]
        gradients.append(nn.utils.parameters_to_vector(found))
    for a, b in zip(truth, told, strict=True):
        assert torch.allclose(a, b, atol=1e-5)
    assert torch.allclose(gradients[0], gradients[1], rtol=1e-4, atol=1e-4)


def test_an_observation_without_a_legal_placement_has_a_value(
    net: Net, observations: torch.Tensor
) -> None:
    nothing = torch.zeros_like(observations[:2])
    with torch.no_grad():
        actions, values, log_probs = net.choose(nothing, deterministic=False)
        assert torch.allclose(values, net.value(nothing))
        assert torch.allclose(values, value_by_torch(net, nothing))
        assert torch.allclose(log_probs, by_torch(net, nothing).log_prob(actions))


@pytest.mark.parametrize(
    ("observation", "policy"), [("afterstates", "mlp"), ("heights", "tuples")]
)
def test_whole_games_are_played_as_the_policy_says(
    observation: str, policy: str
) -> None:
    shape: dict[str, Any] = {"rows": 10, "columns": 7, "observation": observation}
    learner: dict[str, Any] = {"policy": policy, "n_envs": N, "batch_size": N}
    config = TrainingConfig(seed=3, **learner, **shape)
    env = TetrisVecEnv(N, seed=3, **shape)
    model: Any = build_model(config, env)
    if policy == "tuples":
        model.policy.net.tuples.data.normal_(std=3.0)
    table = Table(config, N, 3)
    observations = env.reset()
    player = Player(model)
    for _ in range(5):
        player.move(table, decisions=N)
        actions, _ = model.predict(observations, deterministic=True)
        observations = env.step(actions)[0]
        assert np.array_equal(table.games.columns, env.games.columns)


def test_a_tuple_weighs_as_its_mirror_image_and_as_no_other() -> None:
    kind_of, n_kinds = distinct_tuples()
    # Surfaces of five columns: all steps from -4 to 4, of which the far ones are one.
    steps = torch.cartesian_prod(*[torch.arange(-4, 5)] * 4).float()
    heights = torch.cat((torch.zeros(len(steps), 1), steps.cumsum(-1)), -1) + 20
    middle = tuples_of(heights)[:, 1]  # the one without a wall in it
    mirrored = tuples_of(heights.flip(-1))[:, 1]
    kinds = kind_of[middle.numpy()]
    assert np.array_equal(kinds, kind_of[mirrored.numpy()])
    shown = steps.clamp(-3, 3)
    both = {
        kind: {tuple(row) for row in shown[torch.from_numpy(kinds == kind)].tolist()}
        for kind in np.unique(kinds)
    }
    # 7⁴ tuples, of which 7² are their own mirror images.
    assert len(both) == n_kinds == (7**4 + 7**2) // 2
    for rows in both.values():
        one = next(iter(rows))
        assert rows == {one, tuple(-step for step in reversed(one))}


def test_walls_are_far_steps() -> None:
    digits = tuples_of(torch.tensor([[2.0, 2.0, 3.0, 0.0]]))[0]
    octal = [f"{number:04o}" for number in digits.tolist()]
    assert octal == ["0340", "3406"]
