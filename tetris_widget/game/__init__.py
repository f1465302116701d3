"""Tetris: pieces, rules, features of boards, controllers, pictures. NumPy and numba."""

from tetris_widget.game.features import FEATURE_SCALE, FEATURES
from tetris_widget.game.games import Games
from tetris_widget.game.pieces import PIECE_NAMES
from tetris_widget.game.play import Played, play

__all__ = ["FEATURES", "FEATURE_SCALE", "PIECE_NAMES", "Games", "Played", "play"]
