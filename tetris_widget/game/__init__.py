"""Tetris: pieces, rules, features of boards, pictures. NumPy and numba only."""

from tetris_widget.game.features import FEATURE_SCALE, FEATURES
from tetris_widget.game.games import Games
from tetris_widget.game.pieces import PIECE_NAMES

__all__ = ["FEATURES", "FEATURE_SCALE", "PIECE_NAMES", "Games"]
