"""Events and queues between kernel and training process that survive a kill.

Owns the two primitives that differ from multiprocessing's own, and why: a process
killed inside a stock Event or in the middle of a message leaves the other side hanging
for ever (https://github.com/python/cpython/issues/75158, …/issues/87971). And the pulse
that tells a process which is silent from one that is dead, and how a process of ours
is kept from the kernel's signals. Deliberately doesn't know what the messages mean.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.queues
import multiprocessing.synchronize
import os
import queue
import select
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from ctypes import c_bool, c_byte, c_double
from multiprocessing import resource_tracker, spawn
from multiprocessing.context import SpawnContext
from multiprocessing.reduction import ForkingPickler
from typing import TYPE_CHECKING, Any

# A pipe writes up to PIPE_BUF bytes whole or not at all (4096 on Linux), of which
# multiprocessing takes 4 for the length. A message within this limit is never torn.
MAX_MESSAGE_BYTES = 4092
# What pickling adds around the messages of a batch.
LIST_BYTES = 64
EVENT_POLL_SECONDS = 0.002
# Messages under way at most; beyond that the sender feels that nobody reads.
QUEUE_LENGTH = 64

# What a training process may be doing while it gives its sign of life.
PHASES = (
    "starting",
    "rollout",
    "update",
    "evaluation",
    "saving",
    "paused",
    "ending",
)

Message = dict[str, Any]


class MessageTooLargeError(ValueError):
    """A message that could be torn if its sender were killed while writing it."""


class SharedEvent(multiprocessing.synchronize.Event):
    """A multiprocessing Event that is one byte of shared memory, without any lock.

    A process that is killed while it waits or polls cannot block the others, at the
    price that `wait` polls every 2 ms.
    """

    def __init__(self, context: SpawnContext, *, is_set: bool = False) -> None:
        # The base class would make the very locks that this class exists to avoid.
        self._shared = context.RawValue(c_bool, is_set)

    def is_set(self) -> bool:
        """Return whether the event is set."""
        return bool(self._shared.value)

    def set(self) -> None:
        """Set the event."""
        self._shared.value = True

    def clear(self) -> None:
        """Clear the event."""
        self._shared.value = False

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the event is set, or `timeout` seconds; return whether it is."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self.is_set():
            left = EVENT_POLL_SECONDS
            if deadline is not None:
                left = min(left, deadline - time.monotonic())
                if left <= 0:
                    return False
            time.sleep(left)
        return True


class Pulse:
    """A process's sign of life in shared memory: when it gave it, and in which phase.

    One process gives it, others look; neither ever waits, whatever became of the other
    and of the queues between them.
    """

    def __init__(self, context: SpawnContext) -> None:
        # Both are written whole: an aligned double, a byte. The clock is the system's.
        self._time = context.RawValue(c_double, time.monotonic())
        self._phase = context.RawValue(c_byte, 0)

    def beat(self, phase: str | None = None) -> None:
        """Give a sign of life; `phase` is what begins now, None: the same goes on."""
        if phase is not None:
            self._phase.value = PHASES.index(phase)
        self._time.value = time.monotonic()

    @contextlib.contextmanager
    def during(self, phase: str) -> Iterator[None]:
        """Be in `phase` for some time, and then in the same one as before."""
        before = self._phase.value
        self.beat(phase)
        try:
            yield
        finally:
            self._phase.value = before
            self.beat()

    @property
    def phase(self) -> str:
        """What the process was doing at its last sign of life, one of PHASES."""
        return PHASES[self._phase.value]

    @property
    def silence(self) -> float:
        """Seconds since the last sign of life."""
        return max(0.0, time.monotonic() - float(self._time.value))


if TYPE_CHECKING:
    _Queue = multiprocessing.queues.Queue[Any]
else:  # not subscriptable before Python 3.12
    _Queue = multiprocessing.queues.Queue


class BatchQueue(_Queue):
    """A multiprocessing Queue of dicts, several of which may travel as one message.

    `get` returns one dict at a time, whichever way they came. Every message stays
    under `MAX_MESSAGE_BYTES`.

    Attributes:
        observer: called with each message that is taken out.
        pulse: the sign of life of the process that puts messages in.
    """

    def __init__(self, context: SpawnContext, maxsize: int = QUEUE_LENGTH) -> None:
        super().__init__(maxsize, ctx=context)
        self._unpacked: deque[Message] = deque()
        self._poller: Any = None
        self.observer: Callable[[Message], None] | None = None
        self.pulse = Pulse(context)

    def __getstate__(self) -> Any:
        return super().__getstate__(), self.pulse

    def __setstate__(self, state: Any) -> None:
        queue_state, self.pulse = state
        super().__setstate__(queue_state)
        self._unpacked = deque()
        self._poller = None
        self.observer = None

    def put(self, obj: Any, block: bool = True, timeout: float | None = None) -> None:
        """Put a message, or a list of messages.

        Raises:
            MessageTooLargeError: it is larger than can be sent whole.
            queue.Full: the other side does not read.
        """
        size = _size(obj)
        if size > MAX_MESSAGE_BYTES:
            raise MessageTooLargeError(
                f"a message of {size} bytes; allowed: {MAX_MESSAGE_BYTES}"
            )
        super().put(obj, block, timeout)

    def get(self, block: bool = True, timeout: float | None = None) -> Message:
        """Return the next message.

        Raises:
            queue.Empty: there is none (within `timeout` seconds).
        """
        if not self._unpacked:
            if not block and not self._is_readable():
                raise queue.Empty
            item = super().get(block, timeout)
            self._unpacked.extend(item if isinstance(item, list) else [item])
        message = self._unpacked.popleft()
        if self.observer is not None:
            self.observer(message)
        return message

    def empty(self) -> bool:
        """Return whether nothing is waiting to be read."""
        return not self._unpacked and super().empty()

    def _is_readable(self) -> bool:
        # The base class makes a new selector each time: as slow as a training step.
        if not hasattr(select, "poll"):  # Windows
            return True
        if self._poller is None:
            self._poller = select.poll()
            self._poller.register(self.connection, select.POLLIN)
        return bool(self._poller.poll(0))

    @property
    def connection(self) -> Any:
        """The reading end, for `multiprocessing.connection.wait`."""
        return self._reader  # type: ignore[attr-defined]

    @property
    def is_sent(self) -> bool:
        """Whether everything put by this process has been handed to the pipe."""
        queue: Any = self
        if queue._thread is None:
            return True
        # The thread that feeds the pipe takes a message out before it is sent; it has
        # sent all when it waits for another.
        with queue._notempty:
            return not queue._buffer and bool(queue._notempty._waiters)


@contextlib.contextmanager
def sigint_blocked() -> Iterator[None]:
    """Let a process start with Interrupt blocked, until it calls `leave_session`."""
    if os.name == "nt":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def leave_session() -> None:
    """Leave the kernel's session: its Interrupt and Restart aren't for this process."""
    with contextlib.suppress(PermissionError):  # already a session leader
        os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def start_resource_tracker() -> None:
    """Start multiprocessing's own helper process, outside of this process's group.

    A kernel that ends waits for all children in its group, and this one ignores
    SIGTERM: each restart would take two seconds longer. Without effect when it runs.
    """
    tracker: Any = resource_tracker._resource_tracker
    if os.name == "nt" or tracker._fd is not None:
        return
    reader, writer = os.pipe()
    try:
        os.set_inheritable(reader, True)
        command = f"from multiprocessing.resource_tracker import main; main({reader})"
        # Its stderr, too: a kernel reads that, and would send it while it ends.
        nothing = [
            (os.POSIX_SPAWN_OPEN, descriptor, os.devnull, os.O_RDWR, 0)
            for descriptor in (0, 1, 2)
        ]
        python = spawn.get_executable()
        pid = os.posix_spawn(
            python,
            [python, "-c", command],
            os.environ,
            file_actions=nothing,
            setpgroup=0,
        )
    finally:
        os.close(reader)
    tracker._fd, tracker._pid = writer, pid


def pack(messages: Iterable[Message]) -> Iterator[list[Message]]:
    """Split `messages`, in order, into batches that a BatchQueue can send.

    Raises:
        MessageTooLargeError: one message alone is too large (see `fits`).
    """
    batch: list[Message] = []
    room = MAX_MESSAGE_BYTES - LIST_BYTES
    for message in messages:
        # Pickled together they need less than the sum.
        size = _size(message)
        if size > MAX_MESSAGE_BYTES - LIST_BYTES:
            raise MessageTooLargeError(
                f"a {message.get('type')!r} message of {size} bytes; "
                f"allowed: {MAX_MESSAGE_BYTES - LIST_BYTES}"
            )
        if size > room and batch:
            yield batch
            batch = []
            room = MAX_MESSAGE_BYTES - LIST_BYTES
        batch.append(message)
        room -= size
    if batch:
        yield batch


def fits(message: Message) -> bool:
    """Return whether `pack` takes a message."""
    return _size(message) <= MAX_MESSAGE_BYTES - LIST_BYTES


def _size(obj: Any) -> int:
    return len(ForkingPickler.dumps(obj))
