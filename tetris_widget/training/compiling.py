"""The first run of its kind on a machine: the game is compiled by a process that ends.

Owns whether that is needed, and that process. numba and LLVM keep about 100 MB where
they have compiled; what they have left in their cache is loaded without. Deliberately
doesn't know what a run does.
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from tetris_widget.config import TrainingConfig

POLL_SECONDS = 0.05
PACKAGE = Path(__file__).parents[1]
# What numba compiles, and how.
SOURCES = (
    "game/compiler.py",
    "game/instructions.py",
    "game/kernels.py",
    "game/guideline_kernels.py",
    "training/linear.py",
    "training/network.py",
    "training/patterns.py",
    "training/tuples.py",
    "training/dense.py",
)
# Of a configuration: which of it a run needs.
KIND = ("action", "observation", "policy", "algorithm")
# With the path of the modules of who asks, not that of a shell.
COMPILE = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[2]); "
    "from tetris_widget.training.compiling import main; main()"
)


def is_compiled(config: TrainingConfig) -> bool:
    """Return whether nothing is left to compile for a run of our own game.

    So it is, too, where the cache cannot be written: nothing would be kept there.
    """
    marker = _marker(config)
    return marker.exists() or not os.access(marker.parent, os.W_OK)


def compile_elsewhere(
    config: TrainingConfig, is_stopped: Callable[[], bool] = lambda: False
) -> None:
    """Compile what a run needs, in a process that leaves it in numba's cache.

    What that process cannot do, the run does itself.

    Args:
        config: of the run.
        is_stopped: looked at while it is waited for; then it is waited for no longer.
    """
    _marker(config).parent.mkdir(parents=True, exist_ok=True)
    arguments = [json.dumps(config.to_dict()), json.dumps([str(p) for p in sys.path])]
    try:
        process = subprocess.Popen(
            [sys.executable, "-c", COMPILE, *arguments], stdin=subprocess.PIPE
        )
    except OSError as error:
        print(f"no process compiles the game: {error}", file=sys.stderr, flush=True)
        return
    with process:
        while process.poll() is None and not is_stopped():
            time.sleep(POLL_SECONDS)
        process.kill()


def main() -> None:
    """Be that process: compile what the configuration in the arguments needs."""
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    from tetris_widget.training import opencv

    opencv.leave_out()
    from tetris_widget.training.policies import warm_up

    config = TrainingConfig(**json.loads(sys.argv[1]))
    # It would look through all that torch has loaded, again and again.
    gc.disable()
    warm_up(config)
    _marker(config).touch()


def _leave_with_parent() -> None:
    """End the process when the one that asked is gone, however that ended."""
    # Not by `sys.stdin`: Python ends with an error where a thread is reading that.
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(1)


def _marker(config: TrainingConfig) -> Path:
    """Return the file in numba's cache that says that a kind of run was compiled."""
    import llvmlite.binding
    import numba

    from tetris_widget.game import kernels

    stamps = [(PACKAGE / name).stat() for name in SOURCES]
    made_of = [
        *(getattr(config, name) for name in KIND),
        *((stamp.st_mtime_ns, stamp.st_size) for stamp in stamps),
        *(numba.__version__, sys.version, llvmlite.binding.get_host_cpu_name()),
    ]
    name = hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:16]
    directory: str = kernels.step.stats.cache_path
    return Path(directory) / f"tetris-widget-{name}.compiled"
