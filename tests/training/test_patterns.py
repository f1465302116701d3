"""The compiled table of patterns: what a plain convolution in Python makes of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.game.reference import Board, place
from tetris_widget.config import TrainingConfig
from tetris_widget.envs import TetrisVecEnv
from tetris_widget.game.pieces import SHAPES
from tetris_widget.training.evaluation import Player, Table
from tetris_widget.training.patterns import PATTERNS, n_weights
from tetris_widget.training.policies import MaskedCategorical, PatternNet, build_model

N, ROWS, COLUMNS = 24, 7, 5
ACTIONS = 4 * COLUMNS
NAMES = list(SHAPES)


@pytest.fixture
def env() -> TetrisVecEnv:
    """Games under way: some boards are nearly full, some placements clear lines."""
    made = TetrisVecEnv(N, rows=ROWS, columns=COLUMNS, observation="board", seed=0)
    made.reset()
    rng = np.random.default_rng(0)
    for _ in range(12):
        made.step((rng.random((N, ACTIONS)) * made.action_masks()).argmax(1))
    return made


@pytest.fixture
def observations(env: TetrisVecEnv) -> torch.Tensor:
    return torch.from_numpy(env._problem.observe().copy())


@pytest.fixture
def net(env: TetrisVecEnv) -> PatternNet:
    torch.manual_seed(0)
    made = PatternNet(env.observation_space)
    made.table.data.normal_(0.0, 0.1)
    return made


def counts(board: Board) -> np.ndarray[Any, Any]:
    """How often each pattern is on a board with walls and a floor, and row sums."""
    found = np.zeros(n_weights(ROWS))

    def at(y: int, x: int) -> int:  # from the floor, which is row -1
        if not 0 <= x < COLUMNS or y < 0:
            return 1
        return board[ROWS - 1 - y][x] if y < ROWS else 0

    for x in range(COLUMNS):
        for y in range(-1, ROWS):
            shown = [
                at(y + j, x - 1 + i) << (3 * i + j)
                for i in (0, 1, 2)
                for j in (0, 1, 2)
            ]
            found[sum(shown)] += 1
    for y in range(ROWS):
        found[PATTERNS + y] = sum(board[ROWS - 1 - y])
    return found


@pytest.fixture
def described(observations: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Patterns of every placement (N, actions, P), and which are legal."""
    patterns = np.zeros((N, ACTIONS, n_weights(ROWS)), np.float32)
    is_legal = np.zeros((N, ACTIONS), np.bool_)
    cleared = 0
    for game, observation in enumerate(observations.numpy()):
        name = NAMES[int(observation[1:, 0, 0].argmax())]
        for action in range(ACTIONS):
            placed = place(observation[0].tolist(), name, *divmod(action, COLUMNS))
            if placed is not None:
                patterns[game, action] = counts(placed[0])
                is_legal[game, action] = True
                cleared += placed[1]
    assert cleared > 5
    return torch.from_numpy(patterns), torch.from_numpy(is_legal)


def by_torch(net: PatternNet, described: Any) -> tuple[MaskedCategorical, torch.Tensor]:
    patterns, is_legal = described
    logits = (patterns @ net.table) * 3.0
    distribution = MaskedCategorical(logits.masked_fill(~is_legal, -1e8))
    shares = distribution.log_probabilities.exp().detach()
    expected = (shares[..., None] * patterns).sum(1)
    return distribution, net.critic(expected * 0.1)


def test_the_legal_placements_are_the_games(
    net: PatternNet, observations: torch.Tensor, described: Any
) -> None:
    assert torch.equal(net.scorer(observations) > -1e7, described[1])


def test_choices_are_told_as_torch_tells_them(
    net: PatternNet, observations: torch.Tensor, described: Any
) -> None:
    truth, values = by_torch(net, described)
    with torch.no_grad():
        actions, told, log_probs = net.choose(observations, deterministic=False)
        assert described[1][torch.arange(N), actions].all()
        assert torch.allclose(log_probs, truth.log_prob(actions), atol=1e-4)
        assert torch.allclose(told, values, atol=1e-4)
        best, _, _ = net.choose(observations, deterministic=True)
    assert torch.equal(best, truth.mode())


def test_choices_follow_the_probabilities(
    net: PatternNet, observations: torch.Tensor, described: Any
) -> None:
    many = observations[:1].repeat(20_000, 1, 1, 1)
    with torch.no_grad():
        actions, _, _ = net.choose(many, deterministic=False)
    shares = torch.bincount(actions, minlength=ACTIONS) / len(actions)
    probabilities = by_torch(net, described)[0].log_probabilities.exp()[0]
    # Five standard errors of the likeliest share.
    assert torch.allclose(shares, probabilities, atol=5 * 0.5 / 20_000**0.5)


def test_judgements_and_gradients_are_torchs(
    net: PatternNet, observations: torch.Tensor, described: Any
) -> None:
    with torch.no_grad():
        actions, _, _ = net.choose(observations, deterministic=False)
    distribution, values = by_torch(net, described)
    truth = values, distribution.log_prob(actions), distribution.entropy()
    told = net.judge(observations, actions)
    # Different shares for each, so that no gradient hides behind another.
    shares = torch.linspace(-1, 1, N)
    gradients = []
    for value, log_probs, entropies in (truth, told):
        loss = (shares * log_probs + shares.flip(0) ** 2 * entropies).sum()
        net.zero_grad()
        (loss + value.square().mean()).backward()  # type: ignore[no-untyped-call]
        found = [p.grad for p in net.parameters() if p.grad is not None]
        gradients.append(torch.nn.utils.parameters_to_vector(found))
    for a, b in zip(truth, told, strict=True):
        assert torch.allclose(a, b, atol=1e-4)
    assert torch.allclose(gradients[0], gradients[1], rtol=1e-3, atol=1e-4)


def test_whole_games_are_played_as_the_scores_say() -> None:
    config = TrainingConfig(
        rows=ROWS, columns=COLUMNS, observation="board", policy="patterns", seed=3
    )
    env = TetrisVecEnv(N, rows=ROWS, columns=COLUMNS, observation="board", seed=3)
    model: Any = build_model(config.replace(n_envs=N, batch_size=N), env)
    model.policy.net.table.data.normal_(0.0, 0.1)
    table = Table(config, N, 3)
    Player(model).move(table, decisions=N)
    actions, _ = model.predict(env.reset(), deterministic=True)
    env.step(actions)
    assert np.array_equal(table.games.columns, env.games.columns)


def test_a_board_without_a_legal_placement_has_a_value(net: PatternNet) -> None:
    full = torch.zeros(2, 8, ROWS, COLUMNS, dtype=torch.uint8)
    full[:, 0, :, ::2] = 1
    full[:, 2] = 1
    with torch.no_grad():
        _, values, log_probs = net.choose(full, deterministic=False)
        assert torch.isfinite(values).all()
        assert torch.allclose(values, net.value(full))
        assert torch.allclose(log_probs, torch.full((2,), -np.log(ACTIONS)))
