"""Writes files on a thread of its own, so that the training waits for no disk.

Owns that thread, and the order of what it does. Deliberately doesn't know what is
written: a job is a function, which tells by itself what the disk refuses.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

Job = Callable[[], None]


class Writer:
    """Does one job after another, in the order in which they came."""

    def __init__(self) -> None:
        self._jobs: queue.Queue[Job] = queue.Queue()
        self._error: Exception | None = None
        threading.Thread(target=self._work, name="writer", daemon=True).start()

    def put(self, job: Job) -> None:
        """Have a job done, and return at once."""
        self._jobs.put(job)

    def flush(self) -> None:
        """Wait until every job is done.

        Raises:
            Exception: what one of them has raised; the others were done.
        """
        self._jobs.join()
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _work(self) -> None:
        while True:
            job = self._jobs.get()
            try:
                job()
            except Exception as error:  # raised by `flush`
                self._error = error
            finally:
                self._jobs.task_done()
