"""The kernel's side of the training process: start, steer, stop, and notice its death.

Owns the process, its Events and queues, and the state of the run as asked for and as
it really is; what a queue has lost it takes from the run's directory. Works alone in a
plain script (under `if __name__ == "__main__":`, as spawned processes need).
Deliberately doesn't know Jupyter, torch, or what the messages are good for.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import multiprocessing
import os
import queue
import signal
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from multiprocessing import spawn
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from tetris_widget import guard
from tetris_widget.config import (
    ConfigError,
    TrainingConfig,
    check_reward,
    check_speed,
    check_view,
)
from tetris_widget.env_ids import check_env_id
from tetris_widget.ipc import (
    BatchQueue,
    Pulse,
    SharedEvent,
    sigint_blocked,
    start_resource_tracker,
)
from tetris_widget.run_directory import (
    TERMINAL,
    WHILE_STARTING,
    RunBusyError,
    RunDirectory,
    check_name,
)

Message = dict[str, Any]
OnMessage = Callable[[Message], None]

# How long each rung of the stop ladder waits before the next one.
STOP_SECONDS = 4.0
SAVING_SECONDS = 10.0
TERMINATE_SECONDS = 2.0
KILL_SECONDS = 2.0
# When the interpreter ends it asks by SIGTERM, which the process heeds in less.
EXIT_SECONDS = 6.0
READ_SECONDS = 0.5
# Of what the disk has and the queue has lost; memory must not grow with how much it is.
READ_AT_ONCE = 5_000
# A process that has been silent for so long does not respond. Importing torch from a
# slow disk is silent, too.
SILENCE_SECONDS = 2.0
STARTING_SILENCE_SECONDS = 10.0
DID_NOT_ANSWER = (
    "by force: the training process did not answer the stop, and was killed (SIGKILL)"
)
logger = logging.getLogger(__name__)


@dataclass
class _Heard:
    """How much of a run's journal has been told.

    Attributes:
        run: whose journal it is.
        began_at: its last number when the training process began.
        told: its last number that was told.
    """

    run: RunDirectory
    began_at: int
    told: int


class TrainingManager:
    """Runs one training at a time, in a process of its own.

    In a script, under a guard, because the process imports it:

        if __name__ == "__main__":
            manager = TrainingManager(print)
            manager.start_training(TrainingConfig(total_timesteps=100_000))
            manager.wait()
            manager.close()

    Args:
        on_message: called with every message of the process, on a thread of the
            manager's; the manager then drains `metrics_queue` itself. None: the caller
            reads `metrics_queue` (an unread queue never slows the training).

    Attributes:
        pause_event: set = running, cleared = paused.
        stop_event: set = stop.
        metrics_queue: dicts with `type` from the training process.
        command_queue: dicts with `command` to the training process.
        process: the training process, or None.
        status: what was asked for: `idle`, `running`, `paused`, `stopping`, or how the
            last run ended: `finished`, `stopped`, `failed`.
    """

    def __init__(self, on_message: OnMessage | None = None) -> None:
        start_resource_tracker()
        self._context = multiprocessing.get_context("spawn")
        self._on_message = on_message
        self._lock = threading.RLock()
        # Held from when a message is known until it is told: what another process says
        # meanwhile is told after it.
        self._telling = threading.RLock()
        # A process that waits for a run; whether it has said that it is ready.
        self._is_warm = False
        self._is_ready = False
        self._effective = "idle"
        self._reason: str | None = None
        self._run: RunDirectory | None = None
        self._ended = threading.Event()
        self._ended.set()
        self._ladder: threading.Thread | None = None
        self._climbed: SpawnProcess | None = None
        self._rung: str | None = None
        self._heard: _Heard | None = None
        # In whole seconds, of the silence that was told last; 0: none is.
        self._silence_told = 0
        self.status = "idle"
        self.process: SpawnProcess | None = None
        self._new_channels()
        _managers.add(self)

    @staticmethod
    def _training_worker(
        config_dict: Message,
        metrics_queue: BatchQueue,
        command_queue: BatchQueue,
        pause_event: SharedEvent,
        stop_event: SharedEvent,
    ) -> None:
        """Be the training process. The only place that imports the worker."""
        from tetris_widget.training.worker import run_worker

        run_worker(config_dict, metrics_queue, command_queue, pause_event, stop_event)

    # Starting and ending

    def prepare(self, config: TrainingConfig | None = None) -> None:
        """Start a process that loads and compiles everything, and waits for a run.

        Args:
            config: what kind of run it will be; None: the default.
        """
        with self._lock:
            if not self.is_running() and not (self._is_warm and self._is_alive()):
                self._is_ready = False
                try:
                    if not self._are_unused:
                        self._new_channels()
                    self._is_warm = True
                    self._spawn({"warm": (config or TrainingConfig()).to_dict()})
                except OSError as error:
                    # Only a start needs one, and says so if there is none then, too.
                    self.process, self._is_warm = None, False
                    logger.warning("no process is got ready: %s", error)

    def release(self) -> None:
        """End a process that waits for a run, if there is one; a run goes on."""
        with self._lock:
            if self.process is not None and self._is_warm and self._is_alive():
                self._is_warm = False  # a start takes a new one
                _kill(self.process)  # it has nothing to lose
                self._climb()

    def start_training(
        self,
        config: TrainingConfig | Mapping[str, Any],
        resume: RunDirectory | str | Path | None = None,
        checkpoint: str | None = None,
    ) -> bool:
        """Start a run, or go on with one; return False if one runs already.

        When there is no environment `env_id`, or no such checkpoint, the run's
        directory cannot be written, or another process writes to it, the result is
        False too, and `status` is `failed` with the reason in `get_status()`.

        Args:
            config: of a new run. Of a run that is resumed: what is to be different,
                for example `{"total_timesteps": 5_000_000}`; `{}` changes nothing.
            resume: the run to go on with, in the same directory, from its newest
                checkpoint.
            checkpoint: the name of another checkpoint of it.

        Raises:
            ConfigError: `config` is a mapping that makes no valid TrainingConfig;
                `resume` is not the directory of a run, or cannot go on with `config`.
        """
        job: Message = {}
        if resume is None:
            if not isinstance(config, TrainingConfig):
                config = TrainingConfig(**config)
        else:
            run = resume if isinstance(resume, RunDirectory) else RunDirectory(resume)
            changes = config if isinstance(config, Mapping) else config.to_dict()
            config = run.config().for_resuming(changes)
            job["resume"] = {"checkpoint": checkpoint}
        with self._lock:
            if self.is_running():
                return False
            try:
                if config.env_id is not None:
                    check_env_id(config.env_id)
                if resume is None:
                    self._run = RunDirectory.create(config)
                else:
                    self._run = run
                    if checkpoint is not None:
                        run.named_checkpoint(checkpoint)
                    run.reopen(config)
            except OSError as error:
                self._run = None
                self._finish("failed", f"cannot write to {config.run_dir}: {error}")
            except (RunBusyError, ConfigError) as error:
                self._run = None
                self._finish("failed", str(error))
            else:
                try:
                    self._begin(self._run, job)
                    return True
                except OSError as error:
                    self._fail_to_begin(error)
        self._tell_end()
        return False

    def adopt(self, run: RunDirectory) -> bool:
        """Take a run that another process has made for one's own; False while one runs.

        `status` is how it ended. Go on with it by `start_training(…, resume=run)`.

        Raises:
            RunBusyError: a process still writes to its directory.
        """
        holder = run.holder()
        if holder is not None:
            raise RunBusyError(run.path, holder)
        with self._lock:
            if self.is_running():
                return False
            self._run = run
            recorded = run.state()
            if recorded.get("state") in TERMINAL:
                self._finish(recorded["state"], recorded.get("reason"))
            elif (end := _journalled_end(run, recorded)) is not None:
                names = ("state", "reason", "timesteps", "elapsed", "rung")
                _record_end(run, since=0, **{n: end[n] for n in names if n in end})
                self._finish(end["state"], end["reason"])
            else:
                reason = "its training process ended without a word"
                _record_end(run, run.last_seq(), "failed", reason)
                self._finish("failed", reason)
            return True

    def stop_training(self, timeout: float = 10.0) -> bool:
        """Stop the run and wait for its end; return whether it has ended.

        The process gets 4 s to end by itself, then SIGTERM, then SIGKILL.
        """
        self.request_stop()
        return self.wait(timeout)

    def request_stop(self) -> bool:
        """Ask the run to stop, and return at once; False if none runs."""
        with self._lock:
            if not self.is_running() or self.status == "stopping":
                return False
            self.status = "stopping"
            self._climb()
            return True

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until no run is under way, `timeout` seconds at most."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.is_running():
            left = 0.05 if deadline is None else deadline - time.monotonic()
            if left <= 0:
                return False
            self._ended.wait(min(left, 0.05))
        return True

    def close(self, timeout: float = 10.0) -> None:
        """End the process, whatever it does; the manager can start another one."""
        with self._lock:
            self.request_stop()
            process = self.process
            if process is not None and self._is_alive():
                if self._is_warm:
                    # It has nothing to lose, and may be busy for seconds.
                    _kill(process)
                self._climb()
            ladder = self._ladder
        if ladder is not None:
            ladder.join(timeout)

    # Steering

    def save_checkpoint(self, name: str) -> None:
        """Keep the run as it is now as a checkpoint of this name; an `info` says so.

        Raises:
            ValueError: no file can be called so.
        """
        self._command({"command": "save_checkpoint", "name": check_name(name)})

    def save_model(self) -> None:
        """Save the model as it is now as the run's `current_model_file`.

        An `info` of the kind `model` says when that is done.
        """
        self._command({"command": "save_model"})

    def pause_training(self) -> bool:
        """Pause; False unless running and not paused yet."""
        with self._lock:
            if not self.is_running() or self.status != "running":
                return False
            self.pause_event.clear()
            self.status = "paused"
            return True

    def resume_training(self) -> bool:
        """Go on; False unless paused."""
        with self._lock:
            if not self.is_running() or self.status != "paused":
                return False
            self.pause_event.set()
            self.status = "running"
            return True

    def set_mode(self, visual: bool) -> None:
        """Show env 0's own steps, slowed (True), or nothing (False).

        This and the other commands are for the process there is; without one they are
        lost. What a run begins with is in its configuration.
        """
        self._command({"command": "set_mode", "visual": bool(visual)})

    def set_view(self, view: str) -> None:
        """Show nothing (`headless`), a game of its own (`watch`), or env 0 (`step`).

        Raises:
            ValueError: `view` is none of these.
        """
        self._command({"command": "set_view", "view": check_view(view)})

    def set_speed(self, speed: float) -> None:
        """Set the pace of what is shown, clamped to 0.1–1.0.

        Raises:
            ValueError: `speed` is not a finite number.
        """
        self._command({"command": "set_speed", "speed": check_speed(speed)})

    def set_reward(self, reward: Mapping[str, float]) -> bool:
        """Change the weights of the reward's terms; False unless a run is under way.

        An `info` says so when it is done.

        Raises:
            ValueError: a term or a weight is not allowed.
        """
        weights = check_reward(reward)
        with self._lock:
            if not self.is_running():
                return False
            self._command({"command": "set_reward", "reward": weights})
            return True

    # State

    def is_running(self) -> bool:
        """Return whether a run is under way (starting, running, paused, stopping)."""
        with self._lock:
            if self._on_message is None:
                self._notice_death()
            return not self._ended.is_set()

    def get_status(self) -> Message:
        """Return `status`, what is really so (`effective`), `reason`, `run_dir`, ….

        `effective` changes only on the process's word, or its death. `phase` is what
        the process was doing at its last sign of life (see `ipc.PHASES`), and
        `silent_seconds` how long ago that was; `not_responding` has both, as `seconds`
        and `phase`, when it is too long, and is None otherwise. `rung` is how far up
        the stop ladder it went: `stop`, `SIGTERM` or `SIGKILL`.
        """
        with self._lock:
            self.is_running()
            process = self.process
            pulse = None if self._ended.is_set() else self.metrics_queue.pulse
            return {
                "phase": pulse and pulse.phase,
                "silent_seconds": pulse.silence if pulse else 0.0,
                "not_responding": self._not_responding(),
                "rung": self._rung,
                "status": self.status,
                "effective": self._effective,
                "reason": self._reason,
                "run_id": self._run.run_id if self._run else None,
                "run_dir": str(self._run.path) if self._run else None,
                "pid": process.pid if process and self._is_alive() else None,
                "is_warm": self._is_ready and self._is_warm and self._is_alive(),
            }

    # Inside

    def _new_channels(self) -> None:
        """Make fresh Events and queues: nothing of an old process can reach a new."""
        self.pause_event = SharedEvent(self._context, is_set=True)
        self.stop_event = SharedEvent(self._context)
        self.metrics_queue = BatchQueue(self._context)
        self.command_queue = BatchQueue(self._context, maxsize=0)
        self._are_unused = True
        # A dead process must not keep the kernel from ending.
        self.command_queue.cancel_join_thread()

    def _begin(self, run: RunDirectory, job: Message) -> None:
        # Its configuration is there, too: messages to a warm process are small.
        job = {"run_path": str(run.path), **job}
        self._ended.clear()
        self._reason = None
        self._rung = None
        last = run.last_seq()
        self._heard = _Heard(run, began_at=last, told=last)
        self._silence_told = 0
        self.status = "running"
        self._effective = "starting"
        is_warm = self._is_warm and self._is_alive()
        self._is_warm = False
        if not is_warm and not self._are_unused:
            self._new_channels()
        self.pause_event.set()
        self.stop_event.clear()
        if is_warm:
            self._command({"command": "start", **job})
        else:
            self._spawn(job)

    def _fail_to_begin(self, error: OSError) -> None:
        """Note that the system gave no process: it has no memory, or too many."""
        assert self._heard is not None
        reason = f"cannot start a training process: {error.strerror or error}"
        self.process = None
        _record_end(self._heard.run, self._heard.began_at, "failed", reason)
        self._finish("failed", reason)

    def _spawn(self, job: Message) -> None:
        arguments = (
            job,
            self.metrics_queue,
            self.command_queue,
            self.pause_event,
            self.stop_event,
        )
        self.process = self._context.Process(
            target=self._training_worker,
            args=arguments,
            name="tetris-widget-training",
            daemon=True,
        )
        self.metrics_queue.observer = self._observe
        self._are_unused = False
        # They may have waited for long; the process is only silent from now on.
        self.metrics_queue.pulse.beat("starting")
        with sigint_blocked():
            self.process.start()
        if os.name != "nt":
            threading.Thread(
                target=self._guard,
                args=(self.process,),
                name="training-guard",
                daemon=True,
            ).start()
        if self._on_message is not None:
            threading.Thread(
                target=self._read,
                args=(self.process, self.metrics_queue),
                name="training-reader",
                daemon=True,
            ).start()

    def _guard(self, process: SpawnProcess) -> None:
        """Let a process end this one if the kernel cannot; wait until that is over."""
        python, pid = spawn.get_executable(), process.pid
        assert pid is not None
        try:
            started = guard.start(python, pid, process.sentinel)
        except OSError as error:
            logger.warning("the training process has no guard: %s", error)
            return
        with contextlib.suppress(ChildProcessError):  # somebody waits for all children
            os.waitpid(started, 0)

    def _command(self, command: Message) -> None:
        with self._lock:
            if self._is_alive():
                self.command_queue.put(command)

    def _is_alive(self) -> bool:
        return self.process is not None and self.process.is_alive()

    def _read(self, process: SpawnProcess, messages: BatchQueue) -> None:
        """Deliver messages until the process is dead and its queue is empty."""
        while True:
            ready = wait([messages.connection, process.sentinel], READ_SECONDS)
            self._deliver_all(messages)
            # A child of its own, if it had one, would keep the sentinel quiet.
            has_died = process.sentinel in ready or not process.is_alive()
            if has_died and messages.connection not in ready:
                break
            self._tell_silence()
        process.join(KILL_SECONDS)
        with self._lock:
            # Once it has ended by its own word, another run may take its place at any
            # moment: what is found here is then nobody's. Until then none can.
            if self.process is not process or self._ended.is_set():
                return
            heard = self._heard
        assert heard is not None
        with self._telling:
            if self._catch_up(heard, None):
                return
            end = self._record_death(process, heard)
            with self._lock:
                self._finish(end["state"], end["reason"])
            # Outside the lock: the receiver may hold one of its own.
            self._tell_end(end)

    def _deliver_all(self, messages: BatchQueue) -> None:
        while True:
            with self._telling:
                # A run ends, for those who would start another, before that is told.
                heard = self._heard
                try:
                    message = messages.get_nowait()
                except queue.Empty:
                    return
                self._deliver_one(heard, message)

    def _deliver_one(self, heard: _Heard | None, message: Message) -> None:
        run_id = message.get("run_id")
        if run_id is None:
            self._tell(message)
            return
        for one in (heard, self._heard):
            if one is not None and run_id == one.run.run_id:
                self._deliver(one, message)
                return

    def _deliver(self, heard: _Heard, message: Message) -> None:
        """Tell a message, after those that the queue has lost, and none twice."""
        seq = message.get("seq")
        if seq is not None:
            if seq <= heard.told:
                return
            if seq > heard.told + 1:
                self._catch_up(heard, seq)
                if seq <= heard.told:
                    return
                # It may be of a state, and has been followed before the lost ones.
                self._observe(message)
            heard.told = seq
        self._tell(message)

    def _catch_up(self, heard: _Heard, before: int | None) -> bool:
        """Tell what was journalled before number `before` (None: all) and not heard.

        And what was after it, up to the next state: who is behind would read it at each
        gap again. A state that is still on its way must not come after a later one.

        Returns:
            Whether the run's end was among it.
        """
        last, found, has_ended = heard.told, 0, False
        while True:
            missing = self._read_journal(heard)
            if before is not None:
                found += sum(message["seq"] < before for message in missing)
                missing = [*_until_state(missing, before)]
            for message in missing:
                self._observe(message)
                heard.told = message["seq"]
                self._tell(message)
                has_ended |= _is_end(message)
            is_all = len(missing) < READ_AT_ONCE
            if is_all or (before is not None and heard.told >= before):
                break
        lost = 0 if before is None else before - last - 1 - found
        if lost > 0:
            self._tell(
                {
                    "type": "info",
                    "kind": "warning",
                    "text": f"{lost:,} reports are lost: the disk doesn't have them",
                    "run_id": heard.run.run_id,
                    "timesteps": None,
                    "elapsed": None,
                }
            )
        return has_ended

    def _read_journal(self, heard: _Heard) -> list[Message]:
        """Return the next messages that were journalled and not heard."""
        try:
            return heard.run.since(heard.told, READ_AT_ONCE)
        except OSError as error:
            logger.warning("%s cannot be read: %s", heard.run.path, error)
            return []

    def _tell(self, message: Message) -> None:
        if self._on_message is None:
            return
        try:
            self._on_message(message)
        except Exception:
            # A listener's mistake must not end the watch over the process.
            logger.exception("a listener failed at a %r message", message["type"])

    def _not_responding(self) -> Message | None:
        """Return for how long, and in which phase, a living run has been silent."""
        if self._ended.is_set() or not self._is_alive():
            return None
        pulse = self.metrics_queue.pulse
        phase, seconds = pulse.phase, pulse.silence
        limit = STARTING_SILENCE_SECONDS if phase == "starting" else SILENCE_SECONDS
        return {"seconds": seconds, "phase": phase} if seconds >= limit else None

    def _tell_silence(self) -> None:
        """Say that the process does not respond, each second; and when it does again.

        A `status` message with `not_responding` as in `get_status()`.
        """
        with self._lock:
            if self._ended.is_set():
                return
            found = self._not_responding()
            seconds = 0 if found is None else int(found["seconds"])
            if seconds == self._silence_told:
                return
            self._silence_told = seconds
            message = self._status_message(self._effective, None)
        if found is not None:
            text = f"not responding for {seconds} s ({found['phase']})"
            message["detail"] = text
        self._tell({**message, "not_responding": found})

    def _is_current(self, message: Message) -> bool:
        run_id = message.get("run_id")
        return run_id is None or (self._run is not None and run_id == self._run.run_id)

    def _observe(self, message: Message) -> None:
        """Follow the process's own word about its state."""
        if message["type"] != "status" or not self._is_current(message):
            return
        with self._lock:
            state = message["state"]
            self._is_ready |= state == "ready"
            if self._ended.is_set():
                return
            if state in TERMINAL:
                if message.get("run_id") is None and self._heard is not None:
                    # It never came to begin the run, nor to write anything there.
                    run, began_at = self._heard.run, self._heard.began_at
                    _record_end(run, began_at, state, message["reason"])
                self._finish(state, message["reason"])
            elif state in ("starting", "running", "paused"):
                self._effective = state

    def _finish(self, state: str, reason: str | None) -> None:
        self.status = self._effective = state
        self._reason = reason
        self._ended.set()

    def _notice_death(self) -> None:
        """End the run if its process died without a word."""
        if self._ended.is_set() or self._is_alive() or self.process is None:
            return
        assert self._heard is not None
        end = self._record_death(self.process, self._heard)
        self._finish(end["state"], end["reason"])

    def _record_death(self, process: SpawnProcess, heard: _Heard) -> Message:
        """Write down how the run ended, if its process could not; return that."""
        recorded = heard.run.state()
        rung = {}
        if recorded.get("state") in TERMINAL:
            state, reason = recorded["state"], recorded.get("reason")
        elif self.status == "stopping":
            state, reason = "stopped", f"by force: {_cause(process.exitcode)}"
            if self._rung == "SIGKILL":
                reason = DID_NOT_ANSWER
            # Known only where somebody listens; nothing was lost by that.
            if self._on_message is not None and self._effective == "starting":
                was_asked = process.exitcode == -signal.SIGTERM
                reason = WHILE_STARTING if was_asked else f"{WHILE_STARTING}, {reason}"
            rung = {"rung": self._rung}
        else:
            state, reason = "failed", _cause(process.exitcode)
        end = {**self._status_message(state, reason), **rung}
        return _record_end(heard.run, heard.began_at, state, reason, **rung) or end

    def _tell_end(self, end: Message | None = None) -> None:
        """Say, in the process's place, how the run ended."""
        self._tell(end or self._status_message(self.status, self._reason))

    def _status_message(self, state: str, reason: str | None) -> Message:
        unknown = dict.fromkeys(("detail", "timesteps", "elapsed"))
        run_id = self._run.run_id if self._run else None
        status = {"type": "status", "run_id": run_id, "state": state, "reason": reason}
        return {**status, **unknown}

    def _climb(self) -> None:
        """End the process by the stop ladder, on a thread of its own."""
        self.stop_event.set()
        self.pause_event.set()
        # One for each process: it goes all the way up.
        if self.process is None or self.process is self._climbed:
            return
        self._climbed = self.process
        self._ladder = threading.Thread(
            target=self._stop_ladder,
            args=(self.process, self.metrics_queue.pulse),
            name="stop-ladder",
            daemon=True,
        )
        self._ladder.start()

    def _stop_ladder(self, process: SpawnProcess, pulse: Pulse) -> None:
        self._note_rung(process, "stop")
        if _has_ended(process, STOP_SECONDS):
            return
        # A large replay buffer on a slow disk, as long as it goes on.
        if pulse.phase == "saving" and _has_ended(process, SAVING_SECONDS):
            return
        self._note_rung(process, "SIGTERM")
        process.terminate()
        self._kill_after(process, TERMINATE_SECONDS)

    def _kill_after(self, process: SpawnProcess, seconds: float) -> None:
        """Take the last rung, if the process has not ended by itself in time."""
        if _has_ended(process, seconds):
            return
        self._note_rung(process, "SIGKILL")
        _kill(process)
        _has_ended(process, KILL_SECONDS)

    def _ask_at_exit(self) -> None:
        """Ask the process to end, as multiprocessing would; see `_end_all`."""
        with self._lock:
            process = self.process
            if process is None or not self._is_alive():
                return
            if self._is_warm:
                _kill(process)
                return
            if not self._ended.is_set():
                self.status = "stopping"
            self._note_rung(process, "SIGTERM")
            process.terminate()

    def _end_at_exit(self) -> None:
        """Wait until the process has done so; if it does not, kill it."""
        process = self.process
        if process is None:
            return
        self._kill_after(process, EXIT_SECONDS)
        # What it could not write about its end is written.
        self.wait(KILL_SECONDS)

    def _note_rung(self, process: SpawnProcess, rung: str) -> None:
        with self._lock:
            if self.process is process:
                self._rung = rung


# No manager is forgotten while its process lives: its guard's thread knows it.
_managers: weakref.WeakSet[TrainingManager] = weakref.WeakSet()
if hasattr(os, "register_at_fork"):
    # In a forked child they are its parent's.
    os.register_at_fork(after_in_child=_managers.clear)


@atexit.register
def _end_all() -> None:
    """End all processes, within a time, when the interpreter ends.

    Multiprocessing does so next, and would wait for ever for one that hangs. No thread
    can be started any more, so it is not done by the ladder.
    """
    ending = list(_managers)
    for manager in ending:
        manager._ask_at_exit()
    for manager in ending:
        manager._end_at_exit()


def _until_state(messages: list[Message], seq: int) -> Iterator[Message]:
    """Yield messages up to the first state from number `seq` on.

    Or up to the first that is missing from there on: it may not be written yet.
    """
    for message in messages:
        if message["seq"] >= seq:
            if message["seq"] > seq or message["type"] == "status":
                return
            seq += 1
        yield message


def _is_end(message: Message) -> bool:
    return bool(message["type"] == "status" and message["state"] in TERMINAL)


def _journalled_end(run: RunDirectory, recorded: Message) -> Message | None:
    """Return the end that a run's journal has, but its run.json (`recorded`) not yet.

    None if there is none, or if the run was taken up again after it.
    """
    needed = {"state", "reason", "time"}
    statuses = [
        entry
        for entry in run.journal()
        if entry["type"] == "status" and needed <= entry.keys()
    ]
    if not statuses or not _is_end(statuses[-1]):
        return None
    end = statuses[-1]
    return end if end["time"] > recorded.get("changed_at", 0.0) else None


def _record_end(
    run: RunDirectory, since: int, state: str, reason: str | None, **fields: Any
) -> Message | None:
    """Write how a run ended, where its process could not; see `RunDirectory`."""
    try:
        return run.record_end(state, reason, since, **fields)
    except (OSError, RunBusyError) as error:
        # The end is shown anyway; a disk that fails here has failed before.
        logger.warning("the end of %s is not recorded: %s", run.path, error)
        return None


def _kill(process: SpawnProcess) -> None:
    """Kill a process with its children, if it leads a group of its own by now."""
    try:
        if os.name != "nt" and os.getpgid(process.pid or 0) == process.pid:
            os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return  # it has just ended
    process.kill()


def _has_ended(process: SpawnProcess, seconds: float) -> bool:
    return bool(wait([process.sentinel], seconds))


def _cause(exitcode: int | None) -> str:
    if exitcode is None:
        return "the training process ended"
    if exitcode < 0:
        name = signal.Signals(-exitcode).name
        hint = ", often for lack of memory" if name == "SIGKILL" else ""
        return f"the training process was killed by {name}{hint}"
    return f"the training process ended without a word (exit code {exitcode})"
