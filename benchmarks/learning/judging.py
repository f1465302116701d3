"""What a saved model is worth: fresh games, to the end where that takes no ages.

Owns how many games and moves that takes, and the interval. Deliberately doesn't know
how the model came about.

Games are played side by side, by both cores, until all are over or so many moves have
been made. Games under way then have all got about as far: their lengths are about
exponential, so that lines of all games per game that ended is the mean, whatever is cut
(`training.evaluation`). Its relative error is 1 / √(games that ended).
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.learning.curves import THREADS
from tetris_widget.config import TrainingConfig
from tetris_widget.training.evaluation import Player, Table, exponential_interval
from tetris_widget.training.policies import load_model

# No seed of a run's: training, evaluation, display and contest count from 0, 1 to 3e9.
SEED = 9_000_000_000
# Between two looks at what has been played: some tenths of a second.
MOVES_AT_ONCE = 100_000


@dataclass(frozen=True)
class Judged:
    """What the games of a model showed.

    Attributes:
        mean: lines per game; where no game ended, those of all of them.
        lower: of the 95 % interval.
        upper: of the same.
        games: how many were played.
        ended: how many ended; the others were cut.
        moves: made in all of them.
    """

    mean: float
    lower: float
    upper: float
    games: int
    ended: int
    moves: int


# Of a time at which there was no model yet.
NOTHING = Judged(0.0, 0.0, 0.0, 0, 0, 0)


def judge(
    config: TrainingConfig, path: Path, games: int, moves: int, seed: int
) -> Judged:
    """Judge the model in a file.

    Args:
        config: of the run that saved it.
        path: of the file.
        games: to be played; a multiple of THREADS.
        moves: to be made in all of them, at most about.
        seed: of the first game; all have different ones.
    """
    torch.set_num_threads(1)
    model = load_model(path, config)
    share = games // THREADS
    tables = [Table(config, share, seed + i * share) for i in range(THREADS)]
    # Some policies keep what they have just computed: a copy for each thread.
    players = [Player(model) for _ in tables]

    def play(player: Player, table: Table) -> int:
        made, some = 0, 1
        while some and (left := moves // THREADS - made) > 0:
            some = player.move(table, min(left, MOVES_AT_ONCE))
            made += some
        return made

    with ThreadPoolExecutor(THREADS) as pool:
        made = sum(pool.map(play, players, tables))
    lines = int(sum(table.games.lines.sum() for table in tables))
    ended = int(sum(np.count_nonzero(table.over) for table in tables))
    lower, upper = exponential_interval(lines, ended)
    return Judged(lines / max(ended, 1), lower, upper, games, ended, made)
