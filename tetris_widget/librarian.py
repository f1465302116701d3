"""A library's desk: what takes time or torch is done off the kernel's threads.

Owns a thread that reads and changes the library, and a process of its own in which
models are taken apart, evaluated, and played for show; so neither the kernel nor the
run that trains feels it. Deliberately doesn't know browsers or who asks.
"""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing
import os
import queue
import secrets
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

from tetris_widget.ipc import leave_session, sigint_blocked
from tetris_widget.library import ModelLibrary

Message = dict[str, Any]
OnMessage = Callable[[Message], None]

# How often the directory is looked at for changes by others.
LOOK_SECONDS = 1.0
CLOSE_SECONDS = 3.0
# A process that has nothing to do for so long ends, for the memory that it takes.
IDLE_SECONDS = 60.0
MAX_IMPORT_BYTES = 200_000_000


@dataclass
class _Stage:
    """The process, as the librarian knows it.

    Attributes:
        jobs: that it was given and hasn't done yet, in order.
        unsent: those of them that are not in its pipe yet, pickled; None is the end.
        demo: the number of the last one that it was asked for.
        is_dismissed: whether it was told to end.
    """

    process: SpawnProcess
    connection: Connection
    jobs: deque[Message] = field(default_factory=deque)
    unsent: queue.SimpleQueue[memoryview | None] = field(
        default_factory=queue.SimpleQueue
    )
    demo: int = 0
    is_dismissed: bool = False


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
        # Two threads look: what one has read late must not be told last.
        self._looking = threading.Lock()
        self._lock = threading.Lock()
        self._stage: _Stage | None = None
        # Demos are numbered, so that what is late of an earlier one is left out.
        self._demos = 0
        self._is_playing = False
        # When the process last had a job.
        self._used_at = 0.0
        self._thread = threading.Thread(
            target=self._work, name="librarian", daemon=True
        )
        self._thread.start()
        _librarians.add(self)

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
            try:
                self._look()
                job = self._jobs.get(timeout=LOOK_SECONDS)
                if job is None:
                    return
                self._do(job)
            except queue.Empty:
                self._end_idle_process()
            except (ValueError, OSError) as error:
                self._tell("error", str(error).replace("pass trust=True", _TRUST))
            except Exception as error:  # nobody else would hear of it
                self._tell("error", f"{type(error).__name__}: {error}")

    def _look(self) -> None:
        """Tell of the list whenever the directory has changed."""
        with self._looking, contextlib.suppress(OSError):
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
        with self._lock:
            self._demos += 1
            self._is_playing = True
        self._tell("info", f"loading {_and(job['names'])}…")
        try:
            self._send({**job, "demo": self._demos})
        except BaseException:
            self._end_show(self._demos)
            raise

    def _speed(self, job: Message) -> None:
        self._send_to_show(job)

    def _end_demo(self, job: Message) -> None:
        self._send_to_show(job)
        self._end_show(self._demos)

    def _end_show(self, demo: int) -> None:
        """Say that this demo has ended, if it is the one on show."""
        with self._lock:
            is_shown = self._is_playing and demo == self._demos
            if is_shown:
                self._is_playing = False
        if is_shown:
            self._on_message({"type": "demo", "boards": []})

    def _tell(self, level: str, text: str, undo: str | None = None) -> None:
        # The list first: who reads that something is done sees it, too.
        self._look()
        self._on_message({"type": "told", "level": level, "text": text, "undo": undo})

    # The process

    def _send(self, job: Message) -> None:
        with self._lock:
            if self._stage is None or not self._stage.process.is_alive():
                self._stage = self._spawn()
            if job["do"] == "demo":
                self._stage.demo = job["demo"]
            self._send_on(self._stage, job)

    def _send_to_show(self, job: Message) -> None:
        """Send a job about the games on show, which have ended if the process has."""
        with self._lock:
            if self._is_playing and self._stage is not None:
                self._send_on(self._stage, job)

    def _send_on(self, stage: _Stage, job: Message) -> None:
        # A process that hangs reads nothing, and soon its pipe is full: not here.
        data = ForkingPickler.dumps(job)
        stage.jobs.append(job)
        self._used_at = time.monotonic()
        stage.unsent.put(data)

    def _end_idle_process(self) -> None:
        with self._lock:
            is_busy = self._is_playing or (self._stage and self._stage.jobs)
            is_idle = not is_busy and time.monotonic() - self._used_at > IDLE_SECONDS
        if is_idle:
            self._end_process()

    def _end_process(self) -> None:
        with self._lock:
            ended, self._stage = self._stage, None
            if ended is None:
                return
            ended.is_dismissed = True
        ended.unsent.put(ForkingPickler.dumps({"do": "close"}))
        ended.process.join(CLOSE_SECONDS)
        if ended.process.is_alive():
            ended.process.kill()
            ended.process.join(CLOSE_SECONDS)  # or it stays as a zombie

    def _kill_at_exit(self) -> None:
        with self._lock:
            stage = self._stage
        if stage is not None:
            stage.is_dismissed = True
            stage.process.kill()

    def _spawn(self) -> _Stage:
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        process = context.Process(
            target=_serve,
            args=(there, str(self._library.path)),
            name="tetris-widget-library",
            daemon=True,
        )
        with sigint_blocked():
            process.start()
        there.close()
        spawned = _Stage(process, here)
        for work, name in ((self._read, "reader"), (self._write, "writer")):
            threading.Thread(
                target=work, args=(spawned,), name=f"library-{name}", daemon=True
            ).start()
        return spawned

    def _write(self, stage: _Stage) -> None:
        """Send a process its jobs, until it ends."""
        with contextlib.suppress(OSError):  # its reader says what is not done
            while (data := stage.unsent.get()) is not None:
                stage.connection.send_bytes(data)

    def _read(self, stage: _Stage) -> None:
        """Pass on what a process says, until it ends."""
        while True:
            try:
                message = stage.connection.recv()
            except (EOFError, OSError):
                break
            self._take_in(stage, message)
        self._mourn(stage)

    def _take_in(self, stage: _Stage, message: Message) -> None:
        kind = message["type"]
        if kind == "done":
            with self._lock:
                stage.jobs.popleft()
                self._used_at = time.monotonic()
        elif kind == "told":
            self._tell(message["level"], message["text"])
        elif kind == "demo_failed":
            self._end_show(message["demo"])
        elif self._is_playing and message.pop("demo") == self._demos:
            self._on_message(message)
            if kind == "demo":
                self._tell("info", _playing(message["boards"]))

    def _mourn(self, stage: _Stage) -> None:
        """Say what a process that has ended leaves undone."""
        stage.unsent.put(None)
        with self._lock:
            if self._stage is stage:
                self._stage = None
            undone = list(stage.jobs)
        for job in undone:
            if job["do"] == "import":
                with contextlib.suppress(OSError):  # a copy that nobody needs
                    Path(job["path"]).unlink(missing_ok=True)
        if stage.is_dismissed:
            return
        self._end_show(stage.demo)
        text = "the process that loads and shows models has ended"
        names = [job["name"] for job in undone if job["do"] in ("save", "import")]
        if names:
            text += f"; not saved: {_and(names)}"
        self._tell("error", text)


# None is forgotten while its process lives: the thread that reads knows it.
_librarians: weakref.WeakSet[Librarian] = weakref.WeakSet()
if hasattr(os, "register_at_fork"):
    # In a forked child they are its parent's.
    os.register_at_fork(after_in_child=_librarians.clear)


@atexit.register
def _kill_all() -> None:
    """Kill all processes when the interpreter ends.

    Multiprocessing would do so by SIGTERM next, and wait for ever for one that a signal
    has stopped.
    """
    for librarian in list(_librarians):
        librarian._kill_at_exit()


_TRUST = "load it by panel.library.load(name, trust=True) in Python"


def _serve(connection: Connection, path: str) -> None:
    """Be that process. The only place that imports it."""
    # Before seconds of imports.
    leave_session()
    from tetris_widget.stage import serve

    serve(connection, path)


def _playing(boards: list[Message]) -> str:
    names = _and([board["name"] for board in boards])
    return f"{names} plays" if len(boards) == 1 else f"{names} play the same pieces"


def _and(names: list[str]) -> str:
    return " and ".join(f"“{name}”" for name in names)
