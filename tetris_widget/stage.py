"""The process in which a library's models are taken apart, and played for show.

Owns its loop: a job when there is one, else the next moves of the games on stage, at
the pace asked for. Deliberately doesn't know the run that trains, nor who watches.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tetris_widget.config import check_speed, moves_per_second
from tetris_widget.library import ModelLibrary
from tetris_widget.run_directory import to_jsonable
from tetris_widget.training.display import watched_game

Message = dict[str, Any]

# Below the training's: watching must not slow it.
NICENESS = 10


class Board:
    """A model that plays one game after another.

    Game `i` has the pieces of every board's game `i`, however long the games last.
    """

    def __init__(
        self, library: ModelLibrary, name: str, randomizer: str | None
    ) -> None:
        self.name = name
        self._model = library.load(name)
        own = library.config(name)
        self.config = own.replace(randomizer=randomizer or own.randomizer)
        self._number = 0
        self._begin()

    def move(self) -> Message:
        """Make a move; return its frame, `cells` as bytes, and the game's number."""
        frame = self._game.move(self._model)
        plain = {
            key: to_jsonable(value)
            for key, value in frame.items()
            if key not in ("cells", "board")
        }
        plain["cells"] = np.asarray(frame["cells"], np.uint8).tobytes()
        plain["game"] = self._number
        if frame["over"]:
            self._begin()
        return plain

    def _begin(self) -> None:
        self._number += 1
        self._game = watched_game(self.config, game=self._number)


class Stage:
    """Does what it is asked on a connection, until that is closed."""

    def __init__(self, connection: Connection, library: ModelLibrary) -> None:
        self._connection = connection
        self._library = library
        self._boards: list[Board] = []
        self._demo = 0
        self._period = 1.0
        self._due = 0.0

    def run(self) -> None:
        """Serve until the other side is gone."""
        while True:
            try:
                if not self._connection.poll(self._patience()):
                    self._attempt(self._play)
                    continue
                job = self._connection.recv()
                if job["do"] == "close":
                    return
                self._attempt(getattr(self, f"_on_{job['do']}"), job)
                self._connection.send({"type": "done"})
            except (EOFError, BrokenPipeError, ConnectionResetError):
                return

    def _patience(self) -> float | None:
        return max(0.0, self._due - time.monotonic()) if self._boards else None

    def _attempt(self, action: Callable[..., None], *arguments: Any) -> None:
        """Do something, and say why if it fails."""
        try:
            action(*arguments)
        except (ValueError, OSError) as error:
            self._tell("error", str(error))
        except Exception as error:  # nobody else would hear of it
            self._tell("error", f"{type(error).__name__}: {error}")

    def _on_save(self, job: Mapping[str, Any]) -> None:
        name = job["name"]
        path = self._library.save(name, job["run_dir"], job["which"], job["notes"])
        self._tell("good", f"“{path.stem}” is saved")

    def _on_import(self, job: Mapping[str, Any]) -> None:
        path = Path(job["path"])
        try:
            made = self._library.import_model(path, job["name"])
            level, text = "good", f"“{made.stem}” is imported"
        except ValueError as error:
            # The person knows the file by another name.
            told = str(error).replace(str(path), job["file"])
            level, text = "error", told.replace("pass trust=True", _TRUST)
        finally:
            path.unlink(missing_ok=True)
        self._tell(level, text)

    def _on_demo(self, job: Mapping[str, Any]) -> None:
        self._demo, self._boards = job["demo"], []
        boards: list[Board] = []
        try:
            for name in job["names"]:
                pieces = boards[0].config.randomizer if boards else None
                boards.append(Board(self._library, name, pieces))
        except BaseException:
            self._fail_demo()
            raise
        self._boards = boards
        self._on_speed(job)
        shown = [
            {"name": b.name, "rows": b.config.rows, "columns": b.config.columns}
            for b in boards
        ]
        self._show({"type": "demo", "boards": shown})

    def _on_speed(self, job: Mapping[str, Any]) -> None:
        self._period = 1.0 / moves_per_second(check_speed(job["speed"]))
        self._due = 0.0

    def _on_end_demo(self, _: Mapping[str, Any]) -> None:
        self._boards = []

    def _play(self) -> None:
        now = time.monotonic()
        self._due = max(self._due + self._period, now)
        for number, board in enumerate(self._boards):
            try:
                frame = board.move()
            except Exception as error:
                self._fail_demo()
                kind = type(error).__name__
                text = f"“{board.name}” cannot go on: {kind}: {error}"
                raise ValueError(text) from error
            self._show({"type": "frame", "board": number, "frame": frame})

    def _fail_demo(self) -> None:
        self._boards = []
        self._show({"type": "demo_failed"})

    def _show(self, message: Message) -> None:
        self._connection.send({**message, "demo": self._demo})

    def _tell(self, level: str, text: str) -> None:
        self._connection.send({"type": "told", "level": level, "text": text})


_TRUST = "call panel.library.import_model(file, trust=True) in Python"


def serve(connection: Connection, path: str) -> None:
    """Be the process: serve the library at `path` on a connection, then end."""
    # What is printed would show up below whatever cell ran last.
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    os.nice(NICENESS)
    torch.set_num_threads(1)
    Stage(connection, ModelLibrary(path)).run()
    os._exit(0)  # taking torch down takes seconds
