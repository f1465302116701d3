"""The notebook's kernel is interrupted, restarted, shut down or killed: a real one."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import psutil
from jupyter_client.manager import KernelManager

from tests.faults.matrix import Measure, case, episodes_on_disk, wait_for
from tests.faults.toy import FAULT, FULL_SPEED, ToyManager
from tests.processes import guards_of, has_ended
from tetris_widget.manager import DID_NOT_ANSWER
from tetris_widget.panel import panel as panel_module
from tetris_widget.panel.panel import TrainingPanel
from tetris_widget.run_directory import RunDirectory

GONE_SECONDS = 5.0
# One that hangs has the time that one which doesn't may take, and is killed.
ORPHAN_SECONDS = 7.0
SLOWER_SECONDS = 0.5
# A kernel that ends in good order asks its children to end; one that is killed can't.
REASONS = (
    "the notebook's kernel ended",
    "the process was asked to end (SIGTERM)",
)
# With the toy trainer, so that it takes no longer than needed.
SHOW = """
from tests.faults.toy import ToyManager
import tetris_widget.panel.panel
tetris_widget.panel.panel.TrainingManager = ToyManager
from tetris_widget import TrainingConfig, TrainingPanel
panel = TrainingPanel(TrainingConfig(total_timesteps=10**9, run_dir={home!r}))
panel.start()
import time
while panel.status != "Training": time.sleep(0.01)
"""


BUSY = "import time; end = time.time() + {seconds}\nwhile time.time() < end: pass"
# As many episodes as are told in it are told for longer.
FULL_SPEED_SECONDS = 3
AT_FULL_SPEED = "import tetris_widget.panel.panel as p; p.PUSH_SECONDS = 0.001"


class Notebook:
    """A kernel and what it said."""

    def __init__(self) -> None:
        self.manager = KernelManager()
        self.manager.start_kernel(
            env={**os.environ, "PYTHONPATH": str(Path.cwd())}, cwd=str(Path.cwd())
        )
        self.client = self.manager.blocking_client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=60)

    def execute(self, code: str) -> str:
        """Run a cell; return what it printed."""
        said: list[str] = []

        def hear(message: dict[str, Any]) -> None:
            if message["msg_type"] == "stream":
                said.append(message["content"]["text"])

        reply = self.client.execute_interactive(code, timeout=60, output_hook=hear)
        assert reply["content"]["status"] == "ok", reply["content"]
        return "".join(said)

    @property
    def pid(self) -> int:
        assert self.manager.provisioner is not None
        return int(self.manager.provisioner.pid)  # type: ignore[attr-defined]

    def close(self) -> None:
        self.client.stop_channels()
        if self.manager.is_alive():
            self.manager.shutdown_kernel(now=True)
        self.manager.cleanup_resources()


@contextmanager
def notebook() -> Iterator[Notebook]:
    made = Notebook()
    try:
        yield made
    finally:
        made.close()


def show(book: Notebook, home: Path) -> tuple[int, RunDirectory]:
    """Train in a notebook; return the training process's id and the run."""
    book.execute(SHOW.format(home=str(home)))
    said = book.execute("print(panel._manager.process.pid, panel.run_dir)")
    pid, _, run_dir = said.strip().partition(" ")
    run = RunDirectory(run_dir)
    wait_for(lambda: len(run.episodes()) > 100)
    return int(pid), run


def is_gone(pid: int) -> bool:
    """Whether a process has ended; a zombie has not."""
    return not psutil.pid_exists(pid)


def end(book: Notebook, how: str) -> None:
    if how == "restart":
        book.manager.restart_kernel(now=False)
    elif how == "shutdown":
        book.manager.shutdown_kernel()
    else:
        os.kill(book.pid, signal.SIGKILL)


def check_attached(run: RunDirectory) -> None:
    """A panel in another kernel shows all of the run, and goes on with it."""
    recorded = run.state()
    assert recorded["state"] == "stopped", recorded
    assert recorded["reason"] in REASONS, recorded
    # It was taken at the end, and the run goes on from there.
    assert run.checkpoints()[0] == run.checkpoint_file(recorded["timesteps"])
    check_it_goes_on(run, "Stopped")


def check_it_goes_on(run: RunDirectory, status: str) -> None:
    """A panel in another kernel attaches to a run, and resumes it."""
    # The toy's checkpoints are no zips.
    problems = [text for text in run.verify() if ".zip" not in text]
    assert not problems, problems
    kept = len(run.episodes())
    with (
        mock.patch.object(panel_module, "TrainingManager", ToyManager),
        TrainingPanel.attach(run.path) as panel,
    ):
        assert panel._history.episodes == kept
        assert panel.status == status
        panel.resume()
        wait_for(lambda: panel._history.episodes > kept)
    numbers = run.episodes()["episode"].tolist()
    assert numbers == list(range(1, len(numbers) + 1))


@case("kernel: Interrupt", full=5, short=1)
def interrupt(times: int, home: Path) -> list[Measure]:
    done = Measure("interrupts", times, "")
    with notebook() as book:
        pid, run = show(book, home)
        for _ in range(times):
            asked = book.client.execute("import time; time.sleep(100)")
            time.sleep(0.3)
            book.manager.interrupt_kernel()
            reply = book.client.get_shell_msg(timeout=10)
            assert reply["parent_header"]["msg_id"] == asked
            assert reply["content"]["ename"] == "KeyboardInterrupt"
            assert book.execute("print(panel.status)").strip() == "Training"
            before = len(run.episodes())
            wait_for(lambda seen=before: len(run.episodes()) > seen)
            assert psutil.pid_exists(pid)
        done.add(times)
    return [done]


@case("kernel: Restart, Shutdown, SIGKILL", full=3, short=1)
def ends_of_kernels(times: int, home: Path) -> list[Measure]:
    gone = Measure("training process gone after", GONE_SECONDS)
    for how in ("restart", "shutdown", "kill") * times:
        with notebook() as book:
            pid, run = show(book, home)
            tree = [p.pid for p in psutil.Process(pid).children(recursive=True)]
            began = time.monotonic()
            end(book, how)
            wait_for(lambda one=pid: is_gone(one))
            gone.add(time.monotonic() - began)
            assert all(map(is_gone, tree))
            check_attached(run)
    return [gone]


@case("kernel: SIGKILL, while native code hangs, and while SIGSTOPped", 3, 1)
def kernels_of_hanging_training(times: int, home: Path) -> list[Measure]:
    gone = Measure("training process gone after", ORPHAN_SECONDS)
    for fault in ("hang", "SIGSTOP") * times:
        with hanging(fault, home) as (book, worker, run):
            assert run.holder() == worker.pid
            (beside,) = guards_of(psutil.Process(book.pid))
            end(book, "kill")
            # With the last of its threads, a moment after the first, its lock is free.
            gone.add(
                wait_for(
                    lambda one=worker, its=run: has_ended(one) and its.holder() is None
                )
            )
            wait_for(lambda one=beside: has_ended(one))
            check_it_goes_on(run, "Failed")
            assert [*run.journal()][-1]["state"] == "stopped"
            reasons = [entry.get("reason") for entry in run.journal()]
            assert "its training process ended without a word" in reasons
    return [gone]


@case("kernel: exit(), while native code hangs, and while SIGSTOPped", 3, 1)
def ends_of_hanging_training(times: int, home: Path) -> list[Measure]:
    gone = Measure("training process gone after", ORPHAN_SECONDS)
    for fault in ("deaf", "SIGSTOP") * times:
        with hanging(fault, home) as (book, worker, run):
            asked = time.monotonic()
            book.client.execute("exit()")
            wait_for(lambda one=worker: has_ended(one))
            gone.add(time.monotonic() - asked)
            wait_for(lambda one=book: not one.manager.is_alive())
            recorded = run.state()
            assert recorded["state"] == "stopped"
            assert recorded["reason"] == DID_NOT_ANSWER
            check_it_goes_on(run, "Stopped")
    return [gone]


@contextmanager
def hanging(
    fault: str, home: Path
) -> Iterator[tuple[Notebook, psutil.Process, RunDirectory]]:
    """Train in a notebook, until that is silent."""
    environment = {} if fault == "SIGSTOP" else {FAULT: fault}
    with mock.patch.dict(os.environ, environment), notebook() as book:
        pid, run = show(book, home)
        worker = psutil.Process(pid)
        if fault == "SIGSTOP":
            worker.suspend()
        silence = "print(panel._manager.get_status()['silent_seconds'])"
        wait_for(lambda: float(book.execute(silence)) > 1.0)
        with mock.patch.dict(os.environ):
            # Whoever goes on with the run has no fault.
            os.environ.pop(FAULT, None)
            try:
                yield book, worker, run
            finally:
                if not has_ended(worker):
                    worker.kill()


@case("kernel: Shutdown, against a kernel that trains nothing", full=5, short=1)
def slower_shutdown(times: int, home: Path) -> list[Measure]:
    slower = Measure("slower by (median)", SLOWER_SECONDS)
    seconds: dict[bool, list[float]] = {False: [], True: []}
    # By turns: the machine has other things to do, too.
    for trains in (False, True) * times:
        with notebook() as book:
            book.execute("import tetris_widget.panel.panel")
            if trains:
                show(book, home)
            began = time.monotonic()
            end(book, "shutdown")
            seconds[trains].append(time.monotonic() - began)
    slower.add(median(seconds[True]) - median(seconds[False]))
    return [slower]


@case(
    "kernel: Shutdown, while messages go to the browser at full speed", full=10, short=1
)
def last_messages(times: int, home: Path) -> list[Measure]:
    mixed = Measure("messages mixed up", 0, "")
    for _ in range(times):
        with notebook() as book:
            book.execute(AT_FULL_SPEED)
            show(book, home)
            with Ear(book) as ear:
                wait_for(lambda ear=ear: len(ear.heard) > 20)
                # The manager would close the ear's socket as well.
                book.client.shutdown()
                wait_for(lambda ear=ear: "shutdown_reply" in ear.heard, 10)
            mixed.add(ear.mixed)
    return [mixed]


class Ear:
    """Hears all that a kernel broadcasts, and checks that each message is one."""

    def __init__(self, book: Notebook) -> None:
        self.heard: list[str] = []
        self.mixed = 0
        self._session = book.client.session
        self._socket = book.manager.connect_iopub()
        self._is_closed = threading.Event()
        self._thread = threading.Thread(target=self._hear)

    def __enter__(self) -> Ear:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_closed.set()
        self._thread.join()
        self._socket.close(0)

    def _hear(self) -> None:
        while not self._is_closed.is_set():
            if not self._socket.poll(50):
                continue
            _, parts = self._session.feed_identities(self._socket.recv_multipart())
            try:
                message = self._session.deserialize(parts)
            except ValueError:  # its signature is not that of its parts
                self.mixed += 1
            else:
                self.heard.append(message["header"]["msg_type"])


@case("seconds that a cell keeps the kernel busy", full=60, short=3)
def busy_kernel(times: int, home: Path) -> list[Measure]:
    grown = Measure("memory +", 20, "MB")
    slowed = Measure("training slower by", 0.2, "of its speed")
    with notebook() as book:
        pid, run = show(book, home)

        def speed(seconds: float) -> float:
            before, began = len(run.episodes()), time.monotonic()
            time.sleep(seconds)
            return (len(run.episodes()) - before) / (time.monotonic() - began)

        kernel = int(book.execute("import os; print(os.getpid())"))
        sizes = {one: psutil.Process(one).memory_info().rss for one in (pid, kernel)}
        free = speed(2.0)
        book.client.execute(BUSY.format(seconds=times))
        while_busy = speed(times)
        slowed.add(1 - while_busy / min(free, speed(2.0)))
        for one, size in sizes.items():
            grown.add((psutil.Process(one).memory_info().rss - size) / 1e6)
        # Of the process that will wait for the next run, too.
        book.execute(f"os.environ.update({FULL_SPEED})")
        stop_and_check(book, run)
        return [slowed, slower_at_full_speed(book), grown]


def slower_at_full_speed(book: Notebook) -> Measure:
    """Train again, without naps, and keep the kernel busy for some seconds."""
    slowed = Measure("at full speed by", 0.3, "of its speed")
    book.execute("panel.start()")
    run = RunDirectory(book.execute("print(panel.run_dir)").strip())
    wait_for(lambda: len(run.episodes()) > 1_000)
    free = episodes_on_disk(run, FULL_SPEED_SECONDS)
    book.client.execute(BUSY.format(seconds=FULL_SPEED_SECONDS))
    while_busy = episodes_on_disk(run, FULL_SPEED_SECONDS)
    slowed.add(1 - while_busy / min(free, episodes_on_disk(run, FULL_SPEED_SECONDS)))
    stop_and_check(book, run)
    return slowed


def stop_and_check(book: Notebook, run: RunDirectory) -> None:
    """Stop a run; the panel then has every episode."""
    book.execute("panel.stop()")
    book.execute("panel.wait(20)")
    wait_for(lambda: run.state()["state"] == "stopped")
    shown = int(book.execute("time.sleep(0.5); print(panel._history.episodes)"))
    assert shown == len(run.episodes())
