"""The first run on a machine: the game is compiled by a process that ends.

Owns whether that is needed, and that process. numba and LLVM keep about 100 MB where
they have compiled; what they have left in their cache is loaded without. Deliberately
doesn't know what a run does.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tetris_widget.config import TrainingConfig

POLL_SECONDS = 0.05
COMPILE = "from tetris_widget.training.compiling import main; main()"


def is_compiled() -> bool:
    """Return whether numba's cache has the game, if only an older one."""
    from tetris_widget.game import kernels

    directory: str = kernels.step.stats.cache_path  # type: ignore[assignment]
    return any(Path(directory).glob("kernels.step-*.nbi"))


@contextlib.contextmanager
def compiled_elsewhere(
    config: TrainingConfig, is_stopped: Callable[[], bool]
) -> Iterator[bool]:
    """See that the cache has what a run needs when the block ends.

    The block goes on meanwhile, and knows whether something is being compiled. What the
    process cannot do, the run does itself, as it does where the cache is an older one.

    Args:
        config: of the run.
        is_stopped: looked at while it is waited for; then it is waited for no longer.
    """
    if config.env_id is not None or is_compiled():
        yield False
        return
    process = subprocess.Popen(
        [sys.executable, "-c", COMPILE, json.dumps(config.to_dict())],
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, sys.path))},
    )
    try:
        yield True
        while process.poll() is None and not is_stopped():
            time.sleep(POLL_SECONDS)
    finally:
        process.kill()
        process.wait()


def main() -> None:
    """Be that process: compile what the configuration in the arguments needs."""
    from tetris_widget.training import opencv

    opencv.leave_out()
    from tetris_widget.training.policies import warm_up

    warm_up(TrainingConfig(**json.loads(sys.argv[1])))
