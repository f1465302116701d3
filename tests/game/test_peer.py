"""tetris-gymnasium, an oracle that others wrote: its pieces, and its line clears."""

from __future__ import annotations

import numpy as np
import pytest
from tetris_gymnasium.envs import Tetris

from tetris_widget.game import FEATURES, PIECE_NAMES, Games, kernels
from tetris_widget.game.pieces import SHAPES

# The peer's pieces, in its order.
PEER_NAMES = "IOTSZJL"
ROWS, COLUMNS = 20, 10
# The share of random moves; the others keep the board low enough to clear lines.
LUCK = 0.3
SKILL = {"landing_height": -2, "holes": -4, "row_transitions": -3, "eroded_cells": 3}
WEIGHTS = np.array([SKILL.get(name, 0) for name in FEATURES], float)
ONE = np.ones(len(FEATURES))


def cropped(matrix: np.ndarray) -> np.ndarray:
    """The cells of a matrix without the empty rows and columns around them."""
    rows, columns = np.flatnonzero(matrix.any(1)), np.flatnonzero(matrix.any(0))
    return matrix[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] > 0


def drawn(name: str) -> list[np.ndarray]:
    """Our orientations of a piece."""
    return [
        np.array([[char == "#" for char in row] for row in picture])
        for picture in SHAPES[name]
    ]


@pytest.fixture
def peer() -> Tetris:
    env = Tetris(width=COLUMNS, height=ROWS)
    env.reset(seed=0)
    return env


@pytest.mark.parametrize("name", PEER_NAMES)
def test_a_piece_and_its_turns_are_the_peers(peer: Tetris, name: str) -> None:
    piece = peer.tetrominoes[PEER_NAMES.index(name)]
    turned = {cropped(np.rot90(piece.matrix, k)).tobytes() for k in range(4)}
    assert {picture.tobytes() for picture in drawn(name)} == turned
    shapes = {cropped(np.rot90(piece.matrix, k)).shape for k in range(4)}
    assert {picture.shape for picture in drawn(name)} == shapes


def bring(peer: Tetris, name: str, rotation: int, column: int) -> bool:
    """Put a piece at the top of the peer's board; return whether it has room there."""
    piece, wanted = peer.tetrominoes[PEER_NAMES.index(name)], drawn(name)[rotation]
    matrices = [np.rot90(piece.matrix, k) for k in range(4)]
    matrix = next(m for m in matrices if np.array_equal(cropped(m), wanted))
    peer.active_tetromino = type(piece)(piece.id, piece.color_rgb, matrix)
    left = int(np.flatnonzero(matrix.any(0))[0])
    peer.x, peer.y = peer.padding + column - left, 0
    return not peer.collision(peer.active_tetromino, peer.x, peer.y)


def board_of(peer: Tetris) -> np.ndarray:
    return peer.crop_padding(peer.board) > 0


def test_the_same_moves_lead_to_the_same_boards_and_lines(peer: Tetris) -> None:
    games = Games(1, ROWS, COLUMNS, seed=0)
    rng = np.random.default_rng(0)
    compared = lines = ended = 0
    for _ in range(1_500):
        action = int(rng.choice(np.flatnonzero(games.mask()[0])))
        if rng.random() > LUCK:
            args = games.columns, games.piece, ROWS, kernels.factors_of(WEIGHTS)
            action = int(kernels.greedy_actions(*args)[0])
        name, move = PIECE_NAMES[games.piece[0]], divmod(action, COLUMNS)
        has_room = bring(peer, name, *move)
        games.step(np.array([action]))
        if has_room:
            _, _, cleared = peer.commit_active_tetromino()
            assert cleared == games.moves[0, 3]
            assert np.array_equal(board_of(peer), games.after > 0)
            compared, lines = compared + 1, lines + cleared
        else:
            # Its pieces appear inside the board, turned ones even lower.
            assert games.before[:4].any()
        if games.terminated[0] or not has_room:
            ended += 1
            games.reset()
            peer.board = peer.create_board()
    assert compared > 1_400 and lines > 150 and ended > 10
