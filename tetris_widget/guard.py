"""A small process beside each training process, for when the kernel is gone.

A training process notices its kernel's death by itself and leaves, but not while native
code keeps Python's lock, nor while a signal has stopped it: nobody would end it then,
and it would keep its run for ever. Owns that process: its start, what it waits for, the
kill. It runs as a file and imports nothing that takes long. Deliberately doesn't know
what it guards, nor anything else of this package.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys

# How often it looks whether its parent is still there.
LOOK_SECONDS = 0.5
# What a training process needs at most to notice its kernel's death, and to leave.
PATIENCE_SECONDS = 6.0
SENTINEL = 0


def start(
    python: str, worker: int, sentinel: int, patience: float = PATIENCE_SECONDS
) -> int:
    """Start a guard of a child of this process; return the guard's pid.

    When this process is gone, the worker has `patience` seconds to end before it is
    killed with its group. The guard ends when the worker has.

    Args:
        python: the interpreter.
        worker: the child's pid.
        sentinel: a descriptor that is readable when the child has ended.
        patience: seconds.

    Raises:
        OSError: the system gives no process.
    """
    arguments = [str(os.getpid()), str(worker), str(patience)]
    # Not the kernel's stdout and stderr: who reads those waits for all who have them.
    descriptors = [
        (os.POSIX_SPAWN_DUP2, sentinel, SENTINEL),
        *((os.POSIX_SPAWN_OPEN, one, os.devnull, os.O_WRONLY, 0) for one in (1, 2)),
    ]
    # A group of its own: an Interrupt isn't for it, and a kernel that ends waits for
    # the children in its own group.
    return os.posix_spawn(
        python,
        [python, "-I", "-S", __file__, *arguments],
        os.environ,
        file_actions=descriptors,
        setpgroup=0,
    )


def watch(parent: int, worker: int, patience: float) -> None:
    """Be the guard: return when the worker has ended, or was killed."""
    signs = [SENTINEL]
    # A process that was forked meanwhile may keep the sentinel quiet; and a number that
    # is another process's by now must never be killed.
    if hasattr(os, "pidfd_open"):
        with contextlib.suppress(OSError):
            signs.append(os.pidfd_open(worker))
    # Unlike a pipe's end, a parent's number is not kept by those whom it has forked.
    while os.getppid() == parent:
        if _has_ended(signs, LOOK_SECONDS):
            return
    if not _has_ended(signs, patience):
        _kill(worker)


def _has_ended(signs: list[int], seconds: float) -> bool:
    return bool(select.select(signs, [], [], seconds)[0])


def _kill(worker: int) -> None:
    """Kill a process with its children, if it leads a group of its own by now."""
    with contextlib.suppress(ProcessLookupError):  # it has just ended
        leads = os.getpgid(worker) == worker
        (os.killpg if leads else os.kill)(worker, signal.SIGKILL)


if __name__ == "__main__":
    watch(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
