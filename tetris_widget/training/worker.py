"""The training process, from its first line to its last.

Owns the life of that process: its own session, its log, warming up, the run, the
parent's death, the way out. Deliberately doesn't know who started it, nor what is done
with what it reports.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import io
import os
import queue
import signal
import sys
import tempfile
import threading
import time
import traceback
from multiprocessing import parent_process
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tetris_widget.config import TrainingConfig
from tetris_widget.ipc import BatchQueue, SharedEvent, leave_session
from tetris_widget.run_directory import WHILE_STARTING, RunBusyError, RunDirectory
from tetris_widget.training import opencv
from tetris_widget.training.compiling import compile_elsewhere, is_compiled
from tetris_widget.training.journal import Journal
from tetris_widget.training.outbox import Outbox

if TYPE_CHECKING:
    from tetris_widget.training.session import TrainingSession

Message = dict[str, Any]

# After SIGTERM, or the parent's death, the process leaves within this time, whatever
# it is doing.
DEADLINE_SECONDS = 5.0
GOODBYE_SECONDS = 2.0
MAX_LOG_BYTES = 10_000_000
LOG_CHECK_SECONDS = 5.0
PARENT_CHECK_SECONDS = 1.0
# On a busy machine an instant is long.
LOCK_PATIENCE_SECONDS = 1.0
# Until the run gives signs of life itself, a thread does.
BEAT_SECONDS = 0.25

# Characters; worker.log has the rest.
MAX_SENTENCE = 400
MAX_TRACEBACK = 1_200


class Worker:
    """One training process: at most one run, then it ends."""

    def __init__(
        self,
        metrics_queue: BatchQueue,
        command_queue: BatchQueue,
        pause_event: SharedEvent,
        stop_event: SharedEvent,
    ) -> None:
        self._metrics_queue = metrics_queue
        self._command_queue = command_queue
        self._pause_event = pause_event
        self._stop_event = stop_event
        # Reading the real queue costs up to 24 µs a step; a thread does it instead.
        self._commands: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._reason: str | None = None
        # Of the manager's stop ladder, as far as this process has felt it.
        self._rung = "stop"
        self._outbox: Outbox | None = None
        self._session: TrainingSession | None = None
        self._is_loaded = False
        self._is_warm = False
        self._has_begun = threading.Event()
        self._lock = contextlib.ExitStack()
        self._log = _Log()

    def main(self, job: Message) -> int:
        """Carry out `job` (`run_path`, `resume`), or warm up for one (`warm`).

        Returns:
            The exit code: 0, or 1 if the run failed.
        """
        self._isolate()
        if "warm" in job:
            try:
                self._warm_up(TrainingConfig(**job["warm"]))
            except Exception as error:
                self._fail(error, None)
                return 1
            self._report("ready")
            started = self._wait_for_job()
            if started is None:
                return 0
            job = started
        return self._run(job)

    # Around the run

    def _isolate(self) -> None:
        """Be told what to do by the parent's queue, by SIGTERM and its death alone."""
        leave_session()
        signal.signal(signal.SIGTERM, self._on_sigterm)
        for work in (
            self._beat,
            self._watch_parent,
            self._read_commands,
            self._log.keep_small,
        ):
            threading.Thread(target=work, name=work.__name__, daemon=True).start()

    def _on_sigterm(self, *_: Any) -> None:
        self._rung = "SIGTERM"
        self._leave("the process was asked to end (SIGTERM)")

    def _beat(self) -> None:
        """Be alive while imports and compilers keep the main thread."""
        while not self._has_begun.wait(BEAT_SECONDS):
            self._metrics_queue.pulse.beat()

    def _watch_parent(self) -> None:
        parent = parent_process()
        if parent is None:
            return
        # A process that the kernel forked keeps the sentinel quiet.
        while not wait([parent.sentinel], PARENT_CHECK_SECONDS):
            if os.getppid() != parent.pid:
                break
        self._leave("the notebook's kernel ended")

    def _leave(self, reason: str) -> None:
        """Stop the run in good order, or the process by force after a deadline."""
        self._reason = reason
        self._stop_event.set()
        self._pause_event.set()
        self._commands.put({"command": "close"})
        timer = threading.Timer(DEADLINE_SECONDS, os._exit, (1,))
        timer.daemon = True
        timer.start()

    def _read_commands(self) -> None:
        while True:
            self._commands.put(self._command_queue.get())

    def _load(self, state: str) -> None:
        """Import what a run needs, in `state`; that takes most of a cold start."""
        if self._is_loaded:
            return
        self._report(state, detail="loading torch and Stable-Baselines3")
        # Modules are no garbage: looking for some costs a seventh of the time here,
        # and a tenth of a second every now and then in the run.
        gc.disable()
        try:
            opencv.leave_out()
            import tetris_widget.training.session  # noqa: F401
        finally:
            gc.freeze()
            gc.enable()
        self._is_loaded = True

    def _warm_up(self, config: TrainingConfig) -> None:
        # Of another environment only that remains to be loaded.
        config = TrainingConfig() if config.env_id is not None else config
        self._load("warming")
        self._compile(config, "warming")
        if self._stop_event.is_set():
            return
        self._report("warming", detail="loading the game")
        from tetris_widget.training.policies import warm_up

        warm_up(config)
        self._is_warm = True

    def _compile(self, config: TrainingConfig, state: str) -> None:
        """See that nothing is left to compile for a run, as far as a process can."""
        if config.env_id is None and not is_compiled(config):
            self._report(state, detail="compiling the game")
            compile_elsewhere(config, self._stop_event.is_set)

    def _wait_for_job(self) -> Message | None:
        while True:
            command = self._commands.get()
            if command.get("command") == "start":
                return command
            if command.get("command") == "close":
                return None

    # The run

    def _run(self, job: Message) -> int:
        run = RunDirectory(job["run_path"])
        try:
            self._lock.enter_context(run.lock(LOCK_PATIENCE_SECONDS))
            run.remove_leftovers()
            run.sync()
        except (RunBusyError, OSError) as error:
            # It is another process's, or cannot be written: nothing of it is touched.
            return self._fail(error, None)
        return self._train(run, job)

    def _train(self, run: RunDirectory, job: Message) -> int:
        self._log.move_to(run)
        self._outbox = self._new_outbox(run.run_id)
        self._outbox.journal = Journal(run, self._warn)
        try:
            config = run.config()
            self._load("starting")
            if not self._is_warm:  # then it has compiled for this or another kind
                self._compile(config, "starting")
            if self._stop_event.is_set():
                return self._end_early(run)
            self._report("starting", detail="building the environments and the model")
            from tetris_widget.training.session import TrainingSession

            self._session = TrainingSession(
                config,
                run,
                self._outbox,
                self._commands,
                self._pause_event,
                self._stop_event,
                job.get("resume"),
                self._metrics_queue.pulse,
            )
            if self._stop_event.is_set():
                return self._end_early(run)
            self._has_begun.set()
            outcome = self._session.train()
        except (Exception, KeyboardInterrupt, SystemExit) as error:
            return self._fail(error, run)
        if outcome == "stopped":
            self._end(run, outcome, self._reason, rung=self._rung)
        else:
            self._end(run, outcome, self._session.goal)
        return 0

    def _end_early(self, run: RunDirectory) -> int:
        """End a run that was stopped while it was starting."""
        self._session = None  # what is known of the run stays
        # Whether the manager had to ask twice does not matter; a kernel's end does.
        was_asked = self._reason is None or self._rung == "SIGTERM"
        reason = WHILE_STARTING if was_asked else self._reason
        self._end(run, "stopped", reason, rung=self._rung)
        return 0

    def _fail(self, error: BaseException, run: RunDirectory | None) -> int:
        sentence, excerpt = _describe(error)
        print(excerpt, file=sys.stderr, flush=True)
        self._outbox = self._outbox or self._new_outbox(None)
        self._outbox.put(
            {
                "type": "error",
                "text": sentence,
                "traceback": excerpt,
                **self._progress(),
            }
        )
        self._end(run, "failed", sentence)
        return 1

    def _end(
        self,
        run: RunDirectory | None,
        outcome: str,
        reason: str | None,
        **fields: Any,
    ) -> None:
        assert self._outbox is not None
        self._has_begun.set()
        self._metrics_queue.pulse.beat("ending")
        # Of a run that was not even built, what is known of it stays.
        known = {k: v for k, v in self._progress().items() if v is not None}
        if run is not None:
            try:
                run.write_state(outcome, reason=reason, **fields, **known)
            except OSError as error:
                self._warn(f"could not write {run.state_file}: {error.strerror}")
        # Whoever hears of the end can resume at once: nobody has the directory.
        last = {**_status(outcome, reason=reason), **fields, **self._progress()}
        self._outbox.close(GOODBYE_SECONDS, last, self._lock.close)

    def _report(
        self, state: str, detail: str | None = None, reason: str | None = None
    ) -> None:
        message = _status(state, detail, reason)
        if self._outbox is None:
            # Before torch is loaded there is nothing to batch, and nothing to lose.
            self._metrics_queue.put({**message, "run_id": None})
        else:
            self._outbox.put({**message, **self._progress()})

    def _progress(self) -> Message:
        """Return `timesteps` and `elapsed`; None before there is a run."""
        if self._session is None:
            return {"timesteps": None, "elapsed": None}
        return self._session.progress

    def _warn(self, text: str) -> None:
        if self._outbox is not None:
            self._outbox.put(
                {
                    "type": "info",
                    "kind": "warning",
                    "text": text,
                    **self._progress(),
                }
            )

    def _new_outbox(self, run_id: str | None) -> Outbox:
        return Outbox(self._metrics_queue, run_id, None)


def _status(
    state: str, detail: str | None = None, reason: str | None = None
) -> Message:
    return {"type": "status", "state": state, "reason": reason, "detail": detail}


def _describe(error: BaseException) -> tuple[str, str]:
    """Return one sentence about an error, and the end of its traceback."""
    said = str(error).split("\n")[0]
    sentence = f"{type(error).__name__}: {said}" if said else type(error).__name__
    excerpt = "".join(traceback.format_exception(error))
    return sentence[:MAX_SENTENCE], excerpt[-MAX_TRACEBACK:]


class _Stream(io.FileIO):
    """A descriptor to print to, which a full disk makes no error of.

    Whoever prints (an environment, a warning) would otherwise end the run by it; that
    the directory cannot be written is reported by the journal.
    """

    def write(self, data: Any) -> int:
        with contextlib.suppress(OSError):
            super().write(data)
        return len(data)


class _Log:
    """The process's own stdout and stderr: a file, whatever the notebook does."""

    def __init__(self) -> None:
        self._file = _nameless_file()
        self._point_here(self._file.fileno())
        sys.stdout, sys.stderr = (_text(descriptor) for descriptor in (1, 2))
        faulthandler.enable()

    def move_to(self, run: RunDirectory) -> None:
        """Go on in the run directory's log, with what was printed so far."""
        try:
            file = run.log_file.open("a+b", buffering=0)
        except OSError:
            return  # a directory that cannot be written is reported by the journal
        self._file.seek(0)
        with contextlib.suppress(OSError):  # as above
            file.write(self._file.read())
        self._point_here(file.fileno())
        self._file.close()
        self._file = file

    def keep_small(self) -> None:
        """Empty the log whenever it has grown past its limit."""
        while True:
            time.sleep(LOG_CHECK_SECONDS)
            if os.fstat(1).st_size > MAX_LOG_BYTES:
                os.ftruncate(1, 0)

    def _point_here(self, descriptor: int) -> None:
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)


def _nameless_file() -> io.FileIO:
    """Return a file that nobody else knows; one that takes nothing on a full disk."""
    try:
        made: io.FileIO = tempfile.TemporaryFile("a+b", buffering=0)  # noqa: SIM115 open for life
    except OSError:
        made = Path(os.devnull).open("a+b", buffering=0)  # noqa: SIM115 as above
    return made


def _text(descriptor: int) -> io.TextIOWrapper:
    stream = _Stream(descriptor, "w", closefd=False)
    # What is printed is in the log at once, however the process ends.
    return io.TextIOWrapper(stream, "utf-8", "backslashreplace", write_through=True)


def run_worker(
    job: Message,
    metrics_queue: BatchQueue,
    command_queue: BatchQueue,
    pause_event: SharedEvent,
    stop_event: SharedEvent,
) -> None:
    """Be the training process: carry out `job` and end the process."""
    worker = Worker(metrics_queue, command_queue, pause_event, stop_event)
    code = worker.main(job)
    # Not `sys.exit`: it would join threads that may wait for a reader who is gone.
    os._exit(code)
