"""Tables: games of every kind rest, end and begin anew, each by itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tetris_widget.config import TrainingConfig
from tetris_widget.training import table as module
from tetris_widget.training.environments import tetris_env
from tetris_widget.training.table import Table

pytestmark = pytest.mark.timeout(60)

N = 16
KINDS: list[dict[str, Any]] = [
    {},
    {"action": "keys", "observation": "flat", "policy": "mlp"},
    {"action": "keys", "observation": "board", "policy": "cnn", "hold": False},
    {"action": "reachable", "observation": "flat", "policy": "mlp", "previews": 1},
]
GUIDELINE = KINDS[1:]
NONE = 0


def config_of(kind: dict[str, Any], **changes: Any) -> TrainingConfig:
    return TrainingConfig(**{"rows": 8, "columns": 6, **kind, **changes})


def step(table: Table, rng: np.random.Generator, active: Any = None) -> None:
    """Make a random legal move in every game that is not over."""
    chances = rng.random(table.mask().shape) * table.mask()
    table.step(chances.argmax(1), ~table.over if active is None else active)


@pytest.mark.parametrize("kind", KINDS)
def test_a_game_that_is_over_stays_as_it_is_until_it_begins_anew(
    kind: dict[str, Any],
) -> None:
    table, rng = Table(config_of(kind), N, 5), np.random.default_rng(0)
    lines = pieces = games = 0
    for _ in range(600):
        before = table.over.copy(), table.games.lines.copy(), table.games.pieces.copy()
        step(table, rng)
        over, had_lines, had_pieces = before
        assert table.over[over].all()
        assert np.array_equal(table.games.lines[over], had_lines[over])
        assert np.array_equal(table.games.pieces[over], had_pieces[over])
        if table.over.sum() > N // 2:
            over, all_lines = table.over.copy(), table.games.lines.copy()
            ended = table.begin_again()
            assert ended.games == over.sum()
            assert ended.lines == all_lines[over].sum()
            assert not table.over.any()
            assert not table.games.pieces[over].any()
            assert np.array_equal(table.games.lines[~over], all_lines[~over])
            games, lines = games + ended.games, lines + ended.lines
            pieces += ended.pieces
    assert pieces > games > N
    assert lines > 0


@pytest.mark.parametrize("kind", KINDS)
def test_games_rest_while_others_go_on(kind: dict[str, Any]) -> None:
    table, rng = Table(config_of(kind), N, 5), np.random.default_rng(0)
    active = np.arange(N) % 2 == 0
    for _ in range(60):
        step(table, rng, active & ~table.over)
    assert (table.games.pieces[active] > 0).all()
    assert (table.games.pieces[~active] == 0).all()
    assert not table.over[~active].any()
    for _ in range(60):
        step(table, rng)
    assert (table.games.pieces[~active] > 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_its_games_are_those_that_are_trained_on(kind: dict[str, Any]) -> None:
    config, rng = config_of(kind), np.random.default_rng(0)
    table, env = Table(config, N, 5), tetris_env(config, N, 5)
    seen = env.reset()
    is_same = np.ones(N, np.bool_)
    steps = 0
    while is_same.any():
        steps += 1
        masks = env.action_masks()
        assert np.array_equal(table.mask()[is_same], masks[is_same])
        assert np.array_equal(table.observe()[is_same], seen[is_same])
        actions = (rng.random(masks.shape) * masks).argmax(1)
        table.step(actions, ~table.over)
        seen, _, dones, _ = env.step(actions)
        assert np.array_equal(table.over[is_same], dones[is_same])
        is_same &= ~dones  # the env begins such a game anew
    assert steps > 8


@pytest.mark.parametrize("kind", KINDS)
def test_other_seeds_are_other_games_and_the_same_the_same(
    kind: dict[str, Any],
) -> None:
    def play(table: Table) -> Any:
        rng = np.random.default_rng(0)
        for _ in range(80):
            step(table, rng)
        return table.games.pieces.tolist(), table.games.lines.tolist()

    table = Table(config_of(kind), N, 5)
    first = play(table)
    table.begin(500)
    other = play(table)
    table.begin(5)
    assert play(table) == first != other
    assert play(Table(config_of(kind), N, 500)) == other


@pytest.mark.parametrize("kind", GUIDELINE[:2])
def test_gravity_ends_the_slowest_game_before_it_loses_for_waiting(
    kind: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_KEYS_PER_PIECE", 330)
    table = Table(config_of(kind, rows=28, columns=4), N, 5)
    nothing = np.full(N, NONE)
    while not table.over.all():
        table.step(nothing, ~table.over)
    assert (table.games.pieces >= 28 // 4).all()


def test_who_keeps_a_piece_from_locking_loses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_KEYS_PER_PIECE", 10)
    table, hard = Table(config_of(GUIDELINE[0]), 2, 5), 4
    for _ in range(9):
        table.step(np.array([NONE, hard]), ~table.over)
        if table.over[1]:
            table.begin_again()
    assert not table.over.any()
    table.step(np.array([NONE, NONE]), ~table.over)
    assert table.over.tolist() == [True, False]
    assert table.games.pieces[0] == 0
    table.begin_again()
    table.step(np.array([NONE, NONE]), ~table.over)
    assert not table.over.any()
