"""The environment fails in one way or another."""

from __future__ import annotations

import os
from pathlib import Path
from unittest import mock

from tests.faults.matrix import Kernel, Measure, case, check_told, wait_for
from tests.training.test_worker import SMALL
from tetris_widget.config import TrainingConfig

REASONS = {
    "raise": "RuntimeError: the board is on fire",
    "leave": "the training process ended without a word (exit code 0)",
    "exit": "SystemExit: 0",
    "interrupt": "KeyboardInterrupt",
    "hunger": "MemoryError",
    "segfault": "the training process was killed by SIGSEGV",
}


@case("env raises, os._exit(0), sys.exit, KeyboardInterrupt, memory, SIGSEGV", 3)
def failing_envs(times: int, home: Path) -> list[Measure]:
    # Not above: each training process imports this file, and that would be torch.
    from tests.training.faults import COUNT_FILE, FAULT, FailingManager

    config = TrainingConfig(**SMALL, run_dir=str(home))
    faults = Measure("faults told by their reason", len(REASONS) * times, "")
    told = 0
    count = home / "count"
    with Kernel(FailingManager) as kernel:
        for fault, reason in [*REASONS.items()] * times:
            kernel.messages.clear()
            variables = {FAULT: fault, COUNT_FILE: str(count)}
            with mock.patch.dict(os.environ, variables):
                assert kernel.call("start_training", config)
            wait_for(lambda: not kernel.call("is_running"))
            status = kernel.status()
            assert (status["status"], status["reason"]) == ("failed", reason)
            kernel.until_told("failed")
            if fault != "leave":  # that one does end without a word
                check_told(kernel)
            assert kernel.of_type("episode"), f"{fault}: no episode was told"
            kept, ended = len(kernel.run.episodes()), count.read_text().count("\n")
            assert kept == ended, f"{fault}: {kept} of {ended} episodes are kept"
            told += 1
    faults.add(told)
    return [faults, kernel.calls]
