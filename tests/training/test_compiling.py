"""Who compiles the game: a process that ends, where nobody has done it yet.

That the run then needs no more memory than any other is in `test_worker`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.processes import command_line, has_ended
from tetris_widget.config import TrainingConfig
from tetris_widget.training import compiling
from tetris_widget.training.compiling import compile_elsewhere, is_compiled

SMALL: dict[str, Any] = {"n_envs": 2, "n_steps": 4, "batch_size": 8}
CONFIG = TrainingConfig(**SMALL)


def helpers(owner: psutil.Process | None = None) -> list[psutil.Process]:
    children = (owner or psutil.Process()).children()
    return [child for child in children if compiling.COMPILE in command_line(child)]


@pytest.fixture
def marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where it is said that a run was compiled; nothing was."""
    path = tmp_path / "cache" / "marker"
    monkeypatch.setattr(compiling, "_marker", lambda config: path)
    return path


def test_each_kind_of_run_is_compiled_for_itself() -> None:
    kinds: list[dict[str, Any]] = [
        {},
        {"policy": "mlp"},
        {"algorithm": "dqn"},
        {"observation": "board", "policy": "patterns"},
        {"observation": "heights", "policy": "tuples"},
        {"observation": "flat", "policy": "mlp"},
        {"action": "keys", "observation": "flat", "policy": "mlp"},
    ]
    markers = [compiling._marker(TrainingConfig(**SMALL, **kind)) for kind in kinds]
    assert len(set(markers)) == len(kinds)
    other = TrainingConfig(**SMALL, rows=12, seed=5, randomizer="uniform")
    assert compiling._marker(other) == markers[0]


@pytest.mark.timeout(240)
def test_it_is_compiled_once_and_nobody_is_left(tmp_path: Path) -> None:
    # A cache of its own: what other tests have compiled says nothing here.
    code = (
        "from tetris_widget.training.compiling import *\n"
        f"config = TrainingConfig(**{SMALL})\n"
        "assert not is_compiled(config)\n"
        "compile_elsewhere(config)\n"
        "assert is_compiled(config)\n"
        "from tetris_widget.training.policies import warm_up\n"
        "from tetris_widget.game import kernels\n"
        "warm_up(config)\n"
        "assert not sum(kernels.step.stats.cache_misses.values())\n"
        "assert not sum(kernels.play_greedy.stats.cache_misses.values())\n"
        "assert sum(kernels.play_greedy.stats.cache_hits.values())\n"
    )
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    ended = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert "error" not in ended.stderr.lower(), ended.stderr


def test_a_cache_that_cannot_be_written_is_left_alone(
    marker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker.parent.mkdir()
    assert not is_compiled(CONFIG)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert is_compiled(CONFIG)


@pytest.mark.usefixtures("marker")
def test_it_is_waited_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    done = tmp_path / "done"
    slow = f"import time, pathlib; time.sleep(1); pathlib.Path({str(done)!r}).touch()"
    monkeypatch.setattr(compiling, "COMPILE", slow)
    compile_elsewhere(CONFIG)
    assert done.exists()
    assert not helpers()


@pytest.mark.usefixtures("marker")
def test_a_process_that_fails_keeps_nobody_from_going_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(compiling, "COMPILE", "raise SystemExit(3)")
    compile_elsewhere(CONFIG)
    assert not is_compiled(CONFIG)
    assert not helpers()


@pytest.mark.usefixtures("marker")
def test_a_system_that_gives_no_process_keeps_nobody_from_going_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    compile_elsewhere(CONFIG)
    assert "no process compiles the game" in capsys.readouterr().err


@pytest.mark.usefixtures("marker")
def test_who_is_stopped_waits_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "COMPILE", "import time; time.sleep(1000)")
    seen: list[int] = []

    def is_stopped() -> bool:
        seen.append(len(helpers()))
        return len(seen) > 5

    before = time.monotonic()
    compile_elsewhere(CONFIG, is_stopped)
    assert time.monotonic() - before < 20
    assert max(seen) == 1
    assert not helpers()


def test_nobody_is_left_when_the_owner_is_killed(tmp_path: Path) -> None:
    code = (
        "from tetris_widget.training.compiling import *\n"
        f"compile_elsewhere(TrainingConfig(**{SMALL}))\n"
    )
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    owner = subprocess.Popen([sys.executable, "-c", code], env=environment)
    process = psutil.Process(owner.pid)
    deadline = time.monotonic() + 60
    while not (found := helpers(process)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    owner.kill()
    owner.wait()
    while not has_ended(found[0]):
        assert time.monotonic() < deadline
        time.sleep(0.05)
