"""Other processes, as the system shows them."""

from __future__ import annotations

import psutil

from tetris_widget import guard


def has_ended(process: psutil.Process) -> bool:
    """Whether it has; an orphan may be a zombie until the system looks after it."""
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def guards_of(kernel: psutil.Process) -> list[psutil.Process]:
    """Return the guards of a kernel's training processes."""
    children = kernel.children()
    return [child for child in children if guard.__file__ in command_line(child)]


def command_line(process: psutil.Process) -> str:
    """Return how it was started; nothing if it has ended."""
    try:
        return " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return ""
