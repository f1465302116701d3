"""The table of metrics over time, in the format of SB3's logger.

Owns one thing: going on with a table that is there already. Deliberately doesn't know
what the metrics mean, nor when a row is due.
"""

from __future__ import annotations

import os
from pathlib import Path

from stable_baselines3.common.logger import CSVOutputFormat


class ProgressFile(CSVOutputFormat):
    """SB3's progress.csv, gone on with where there is one: SB3 would empty it."""

    def __init__(self, path: Path) -> None:
        path.touch()
        # A byte that is damaged must not end what comes after it.
        self.file = path.open("r+", encoding="utf-8", errors="surrogateescape")
        self.keys = self.file.readline().rstrip("\n").split(",")
        self.keys = [key for key in self.keys if key]
        self.separator = ","
        self.quotechar = '"'
        self.file.seek(0, os.SEEK_END)
