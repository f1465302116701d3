"""The training process's way out: disk first, then the queue.

Owns batching and back-pressure. The training thread appends to a deque, and writes by
itself only what a death of the process must not take; if nobody reads at the other end,
training goes on at the same speed and what is lossless is on disk. Deliberately doesn't
know what the messages mean beyond which of them may be dropped.
"""

from __future__ import annotations

import queue
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from typing import Any

from tetris_widget.ipc import BatchQueue, MessageTooLargeError, fits, pack
from tetris_widget.training.journal import Journal

Message = dict[str, Any]

# Each flush takes Python's lock from the training thread for a moment. Numbers are on
# disk as soon as boards, but wait longer until they are sent: they need not move.
FLUSH_SECONDS = 0.1
NUMBERS_SECONDS = 0.25
# So many do not wait: a reader would have to take them from the disk.
MANY = 500
# What waits for a reader who is away; the disk has all of it but the boards.
MAX_WAITING = 5_000
MAX_FRAMES_WAITING = 60
URGENT = ("status", "error", "evaluation")
# What writing at once may take of the training: so many seconds, and this share of the
# time. What ends while it has taken more is written by the thread, a little later.
KEEP_SECONDS = 0.5
KEEP_SHARE = 0.05
# Their texts, if any, are ours and short.
PLAIN = ("episode", "metrics", "board")
# Of one text; a message has two long ones at most.
MAX_TEXT_BYTES = 1_500


class Outbox:
    """A queue's sending half (`put`), which never blocks and never fails.

    Args:
        metrics_queue: where the messages go.
        run_id: put on every message, so that a stale one can be told.
        journal: where they are written first; None: nowhere (a worker that warms up).
    """

    def __init__(
        self, metrics_queue: BatchQueue, run_id: str | None, journal: Journal | None
    ) -> None:
        self.run_id = run_id
        self.journal = journal
        self._queue = metrics_queue
        self._inbox: deque[Message] = deque()
        self._written: deque[Message] = deque(maxlen=MAX_WAITING)
        self._waiting: deque[Message] = deque(maxlen=MAX_WAITING)
        self._wake = threading.Event()
        self._has_boards = False
        # Who sends may have to wait; who writes must not wait for that.
        self._turn = threading.Lock()
        self._pen = threading.Lock()
        self._begun = time.monotonic()
        self._keeping = 0.0
        self._closing = False
        self._thread = threading.Thread(target=self._loop, name="outbox", daemon=True)
        self._thread.start()

    def put(
        self, message: Message, block: bool = True, timeout: float | None = None
    ) -> None:
        """Take a message; `block` and `timeout` are there for a queue's signature."""
        message["run_id"] = self.run_id
        self._inbox.append(message)
        if message["type"] in URGENT:
            self._wake.set()
        elif message["type"] == "board":
            self._has_boards = True

    def put_nowait(self, message: Message) -> None:
        """Take a message."""
        self.put(message)

    def flush(self) -> None:
        """Write everything taken so far to disk and to the queue, if it is read."""
        with self._turn:
            self._write()
            self._send()

    def keep(self) -> None:
        """Write everything taken so far to disk, at once, unless the disk is slow.

        What is written is safe from whatever ends this process at its next step.
        """
        before = time.monotonic()
        if self._keeping > KEEP_SECONDS + KEEP_SHARE * (before - self._begun):
            return
        try:
            self._write()
        except Exception:
            # As on the thread: reporting must not end the training.
            traceback.print_exc()
        self._keeping += time.monotonic() - before
        if self._has_many():
            self._wake.set()

    def _has_many(self) -> bool:
        waiting = (self._inbox, self._written, self._waiting)
        return sum(map(len, waiting)) >= MANY

    def sync(self) -> None:
        """Write everything taken so far to disk, for good; wait for nobody's reading.

        Raises:
            OSError: it cannot be written.
        """
        with self._pen:
            self._write_down()
            if self.journal is not None:
                self.journal.sync()

    def close(
        self,
        seconds: float,
        last: Message | None = None,
        on_disk: Callable[[], None] | None = None,
    ) -> None:
        """Write and send what is left, and wait until the other side has it all.

        Args:
            seconds: how long to wait.
            last: a last message.
            on_disk: called when all is written and nothing more will be, before anybody
                hears the last message.
        """
        self._closing = True
        self._wake.set()
        self._thread.join(seconds)
        if last is not None:
            self.put(last)
        with self._pen:
            self._write_down()
            if self.journal is not None:
                self.journal.close()
                self.journal = None
        if on_disk is not None:
            on_disk()
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.flush()
            if not self._waiting and self._queue.is_sent:
                break
            time.sleep(0.005)

    def _loop(self) -> None:
        sent_at = time.monotonic()
        while not self._closing:
            is_urgent = self._wake.wait(FLUSH_SECONDS) or self._has_boards
            self._wake.clear()
            now = time.monotonic()
            is_late = now - sent_at >= NUMBERS_SECONDS
            is_due = is_urgent or is_late or self._has_many()
            try:
                if is_due:
                    sent_at, self._has_boards = now, False
                    self.flush()
                else:
                    self._write()
            except Exception:
                # Into worker.log: what comes next is to be reported all the same.
                traceback.print_exc()

    def _write(self) -> None:
        with self._pen:
            self._write_down()

    def _write_down(self) -> None:
        """Write what was taken; by whom the pen is held."""
        messages = [self._inbox.popleft() for _ in range(len(self._inbox))]
        for message in messages:
            if message["type"] not in PLAIN:
                _shorten(message)
        if messages and self.journal is not None:
            self.journal.write(messages)
        self._written.extend(messages)

    def _send(self) -> None:
        """Send what waits, until the other side takes no more."""
        # One by one: meanwhile the training's thread may add to them.
        taken = [self._written.popleft() for _ in range(len(self._written))]
        self._waiting.extend(_coalesce(taken))
        timeout = 0.0 if self._closing else FLUSH_SECONDS
        try:
            for batch in pack(list(self._waiting)):
                self._queue.put(batch, timeout=timeout)
                for _ in batch:
                    self._waiting.popleft()
        except queue.Full:
            return
        except MessageTooLargeError as error:
            # Whatever it is, it must not keep the others from being told.
            print(f"not sent: {error}", file=sys.stderr, flush=True)
            sendable = [message for message in self._waiting if fits(message)]
            self._waiting.clear()
            self._waiting.extend(sendable)


def _shorten(message: Message) -> None:
    """Cut texts that are too long for a message, and make them encodable."""
    for key, value in message.items():
        if isinstance(value, str):
            # Of an error's text anything may be part: half of a surrogate pair, too.
            data = value.encode("utf-8", "backslashreplace")
            message[key] = data[:MAX_TEXT_BYTES].decode("utf-8", "ignore")


def _coalesce(messages: list[Message]) -> list[Message]:
    """Keep the last metrics and the newest boards; everything else stays, in order."""
    last_metrics = None
    boards: list[Message] = []
    kept = []
    for message in messages:
        if message["type"] == "metrics":
            last_metrics = message
        elif message["type"] == "board":
            boards.append(message)
        else:
            kept.append(message)
    if last_metrics is not None:
        kept.append(last_metrics)
    return kept + boards[-MAX_FRAMES_WAITING:]
