"""What the panel shows of its library, and what was asked of it.

Owns the list, the last thing said about it, the games on show, and what is still on its
way: models that the training process is to hand over, files that arrive in parts.
Deliberately doesn't know runs, nor how anything reaches the browser.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from tetris_widget.librarian import MAX_IMPORT_BYTES, Librarian
from tetris_widget.library import ModelLibrary
from tetris_widget.panel.widget import pack_frames, take_frames

Message = dict[str, Any]

# Boards kept for the next push: a second of the fastest watching.
MAX_FRAMES = 60


class Shelf:
    """A library as a panel shows it; safe to use from any thread.

    Args:
        library: the library.
        changed: called after each change of what `shown` returns; with True if it is an
            answer that somebody waits for.
        send_file: called with a job's `id`, a file's name and its bytes.
    """

    def __init__(
        self,
        library: ModelLibrary,
        changed: Callable[[bool], None],
        send_file: Callable[[Any, str, bytes], None],
    ) -> None:
        self._changed = changed
        self._send_file = send_file
        self._lock = threading.Lock()
        self._entries: list[Message] = []
        self._told: Message | None = None
        self._boards: list[Message] = []
        self._frames: list[deque[Message]] = []
        self._last_frames: list[Message | None] = []
        self._saves: list[Message] = []
        self._parts: list[bytes] = []
        # Whether more of a file that was refused is on its way.
        self._is_refused = False
        self._librarian = Librarian(library, self._on_message)

    def shown(self) -> Message:
        """Return `entries`, `told` and `boards`."""
        with self._lock:
            return {
                "entries": self._entries,
                "told": self._told,
                "boards": self._boards,
            }

    def request(self, job: Message) -> None:
        """Have a job done, see `Librarian`; an import may come in parts.

        Raises:
            ValueError: a part is not the one that is next, or the file is too large.
        """
        if job["do"] == "import":
            data = self._take_part(job)
            if data is None:
                return
            job = {**job, "data": data}
        self._librarian.request(job)

    def set_speed(self, speed: float) -> None:
        """Let the models on show play at another pace."""
        self._librarian.request({"do": "speed", "speed": speed})

    def tell(self, level: str, text: str, undo: str | None = None) -> None:
        """Say something: level `info`, `good`, `error`."""
        with self._lock:
            self._told = {"level": level, "text": text, "undo": undo}
        self._changed(True)

    def close(self) -> None:
        """End what works for the library."""
        self._librarian.close()

    # Models that are handed over by a training process

    def save_later(self, job: Message) -> None:
        """Keep a job until the model that it is about has been saved."""
        with self._lock:
            self._saves.append(job)
        self.tell("info", f"saving “{job['name']}”…")

    def save_now(self, which: str) -> None:
        """Do the jobs that were kept, with this model of the run's."""
        with self._lock:
            jobs, self._saves = self._saves, []
        for job in jobs:
            self._librarian.request({**job, "which": which})

    def on_model_saved(self, message: Message) -> None:
        """Take in the training process's word about the model of now."""
        if message["is_saved"]:
            self.save_now("current")
            return
        with self._lock:
            self._saves = []
        self.tell("error", message["text"])

    # Games on show

    @property
    def has_frames(self) -> bool:
        """Whether boards wait to be sent."""
        return any(self._frames)

    def take_frames(self, buffers: list[bytes], is_sync: bool) -> list[Message]:
        """Append each model's boards to `buffers`; return what describes them."""
        with self._lock:
            blocks = []
            for number, (board, waiting) in enumerate(
                zip(self._boards, self._frames, strict=True)
            ):
                frames, self._last_frames[number] = take_frames(
                    waiting, self._last_frames[number], is_sync
                )
                if frames:
                    size = board["rows"], board["columns"]
                    block = pack_frames("demo", *size, frames, buffers)
                    blocks.append({**block, "board": number})
            return blocks

    def _on_message(self, message: Message) -> None:
        kind = message["type"]
        if kind == "export":
            self._send_file(message["id"], message["name"], message["data"])
        elif kind == "told":
            self.tell(message["level"], message["text"], message.get("undo"))
        elif kind == "frame":
            with self._lock:
                if message["board"] < len(self._frames):
                    self._frames[message["board"]].append(message["frame"])
        else:
            with self._lock:
                if kind == "models":
                    self._entries = message["entries"]
                else:
                    self._boards = message["boards"]
                    self._frames = [deque(maxlen=MAX_FRAMES) for _ in self._boards]
                    self._last_frames = [None] * len(self._boards)
            self._changed(False)

    def _take_part(self, job: Message) -> bytes | None:
        """Return a file when its last part has come."""
        with self._lock:
            if job["part"] == 0:
                self._parts, self._is_refused = [], False
            if self._is_refused:
                return None  # the reason was told
            if job["part"] != len(self._parts):
                raise ValueError(f"{job['file']}: a part is missing; send it again")
            self._parts.append(job["data"])
            size = sum(map(len, self._parts))
            if size > MAX_IMPORT_BYTES:
                self._parts, self._is_refused = [], True
                raise ValueError(
                    f"{job['file']}: {size:,} bytes; allowed: {MAX_IMPORT_BYTES:,}; "
                    "call panel.library.import_model(file) in Python"
                )
            if job["part"] + 1 < job["parts"]:
                return None
            data, self._parts = b"".join(self._parts), []
            return data
