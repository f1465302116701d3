"""A library's desk: what takes time or torch is done off the kernel's threads.

Owns a thread that reads and changes the library, and a process of its own in which
models are taken apart, evaluated, and played for show; so neither the kernel nor the
run that trains feels it. Deliberately doesn't know browsers or who asks.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import queue
import secrets
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any

from tetris_widget.library import ModelLibrary

Message = dict[str, Any]
OnMessage = Callable[[Message], None]

# How often the directory is looked at for changes by others.
LOOK_SECONDS = 1.0
CLOSE_SECONDS = 3.0
# A process that has nothing to do for so long ends, for the memory that it takes.
IDLE_SECONDS = 60.0
MAX_IMPORT_BYTES = 200_000_000


class Librarian:
    """Carries out jobs on a library, one after the other, and tells what came of them.

    A job is a dict with `do`: `save` (`name`, `run_dir`, `which`, `notes`), `rename`
    (`name`, `new_name`), `notes` (`name`, `notes`), `delete`, `restore` (`name`),
    `export` (`name`, `id`), `import` (`name`, `file`, `data`: bytes), `demo` (`names`,
    `speed`), `speed` (`speed`), `end_demo`.

    Args:
        library: the library.
        on_message: called, on a thread of the librarian's, with dicts of the `type`s
            `models` (`entries`), `told` (`level`, `text`, `undo`: a name or None),
            `export` (`id`, `name`, `data`), `demo` (`boards`: of each `name`, `rows`,
            `columns`; none: it has ended), `frame` (`board`, `frame`).
    """

    def __init__(self, library: ModelLibrary, on_message: OnMessage) -> None:
        self._library = library
        self._on_message = on_message
        self._jobs: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._seen: Any = None
        self._lock = threading.Lock()
        self._process: SpawnProcess | None = None
        self._connection: Connection | None = None
        self._is_playing = False
        # Jobs that the process has not answered yet, and when it last had one.
        self._open_jobs = 0
        self._used_at = 0.0
        self._thread = threading.Thread(
            target=self._work, name="librarian", daemon=True
        )
        self._thread.start()

    def request(self, job: Message) -> None:
        """Have a job done, and return at once."""
        self._jobs.put(job)

    def close(self) -> None:
        """End the process; jobs that are not done yet are dropped."""
        self._jobs.put(None)
        self._thread.join(CLOSE_SECONDS)
        self._end_process()

    # On the librarian's thread

    def _work(self) -> None:
        while True:
            self._look()
            try:
                job = self._jobs.get(timeout=LOOK_SECONDS)
            except queue.Empty:
                self._end_idle_process()
                continue
            if job is None:
                return
            try:
                self._do(job)
            except (ValueError, OSError) as error:
                self._tell("error", str(error).replace("pass trust=True", _TRUST))

    def _look(self) -> None:
        """Tell of the list whenever the directory has changed."""
        with contextlib.suppress(OSError):
            files = self._library.path.glob("*.zip")
            now = sorted((f.name, f.stat().st_mtime_ns) for f in files)
            if now != self._seen:
                self._seen = now
                entries = self._library.entries()
                self._on_message({"type": "models", "entries": entries})

    def _do(self, job: Message) -> None:
        kind = job["do"]
        if kind in ("save", "import", "demo", "speed", "end_demo"):
            getattr(self, f"_{kind}")(job)
            return
        name = job["name"]
        if kind == "rename":
            new_name = self._library.rename(name, job["new_name"]).stem
            self._tell("good", f"“{name}” is now “{new_name}”")
        elif kind == "notes":
            self._library.set_notes(name, job["notes"])
            self._tell("good", f"the notes of “{name}” are saved")
        elif kind == "delete":
            self._library.delete(name)
            self._tell("info", f"“{name}” is deleted", undo=name)
        elif kind == "restore":
            self._library.restore(name)
            self._tell("good", f"“{name}” is back")
        elif kind == "export":
            data = self._library.read(name)
            self._on_message(
                {"type": "export", "id": job["id"], "name": f"{name}.zip", "data": data}
            )

    def _save(self, job: Message) -> None:
        # Said at once, before a process is started for it.
        self._library.check_free(job["name"])
        self._tell("info", f"saving “{job['name']}”…")
        self._send(job)

    def _import(self, job: Message) -> None:
        self._library.check_free(job["name"])
        self._tell("info", f"importing “{job['file']}”…")
        # Not among the models: nobody may load it before it was looked at.
        directory = self._library.path / "incoming"
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"{secrets.token_hex(4)}.zip"
        path.write_bytes(job["data"])
        without_data = {key: value for key, value in job.items() if key != "data"}
        self._send({**without_data, "path": str(path)})

    def _demo(self, job: Message) -> None:
        for name in job["names"]:
            self._library.config(name)  # says what is wrong at once
        self._is_playing = True
        self._tell("info", f"loading {_and(job['names'])}…")
        self._send(job)

    def _speed(self, job: Message) -> None:
        if self._is_playing:
            self._send(job)

    def _end_demo(self, job: Message) -> None:
        if self._is_playing:
            self._is_playing = False
            self._send(job)
            self._on_message({"type": "demo", "boards": []})

    def _tell(self, level: str, text: str, undo: str | None = None) -> None:
        # The list first: who reads that something is done sees it, too.
        self._look()
        self._on_message({"type": "told", "level": level, "text": text, "undo": undo})

    # The process

    def _send(self, job: Message) -> None:
        with self._lock:
            if self._process is None or not self._process.is_alive():
                self._spawn()
            assert self._connection is not None
            self._open_jobs += job["do"] in ("save", "import", "demo")
            self._used_at = time.monotonic()
            self._connection.send(job)

    def _end_idle_process(self) -> None:
        with self._lock:
            is_idle = not self._open_jobs and not self._is_playing
            is_idle &= time.monotonic() - self._used_at > IDLE_SECONDS
        if is_idle:
            self._end_process()

    def _end_process(self) -> None:
        with self._lock:
            process, connection = self._process, self._connection
            self._process = self._connection = None
        if process is None or connection is None:
            return
        with contextlib.suppress(OSError):  # it has ended already
            connection.send({"do": "close"})
        process.join(CLOSE_SECONDS)
        if process.is_alive():
            process.kill()
            process.join(CLOSE_SECONDS)  # or it stays as a zombie

    def _spawn(self) -> None:
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        self._connection = here
        self._process = context.Process(
            target=_serve,
            args=(there, str(self._library.path)),
            name="tetris-widget-library",
            daemon=True,
        )
        self._process.start()
        self._open_jobs = 0
        there.close()
        threading.Thread(
            target=self._read, args=(here,), name="library-reader", daemon=True
        ).start()

    def _read(self, connection: Connection) -> None:
        """Pass on what the process says, until it ends."""
        while True:
            try:
                message = connection.recv()
            except (EOFError, OSError):
                break
            with self._lock:
                is_answer = message["type"] in ("told", "demo")
                self._open_jobs = max(0, self._open_jobs - is_answer)
                self._used_at = time.monotonic()
            if message["type"] == "told":
                self._tell(message["level"], message["text"])
            elif self._is_playing:
                self._on_message(message)
                if message["type"] == "demo":
                    self._is_playing = bool(message["boards"])
                    if self._is_playing:
                        self._tell("info", _playing(message["boards"]))
        with self._lock:
            has_died = connection is self._connection
            if has_died:
                self._process = self._connection = None
        if has_died:
            self._is_playing = False
            self._on_message({"type": "demo", "boards": []})
            self._tell("error", "the process that loads and shows models has ended")


_TRUST = "load it by panel.library.load(name, trust=True) in Python"


def _serve(connection: Connection, path: str) -> None:
    """Be that process. The only place that imports it."""
    from tetris_widget.stage import serve

    serve(connection, path)


def _playing(boards: list[Message]) -> str:
    names = _and([board["name"] for board in boards])
    return f"{names} plays" if len(boards) == 1 else f"{names} play the same pieces"


def _and(names: list[str]) -> str:
    return " and ".join(f"“{name}”" for name in names)
