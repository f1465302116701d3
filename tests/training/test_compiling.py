"""Who compiles the game: a process that ends, where nobody has done it yet.

That it does, and that the run then needs no more memory than any other, is in
`test_worker`.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from tetris_widget.config import TrainingConfig
from tetris_widget.game import Games
from tetris_widget.training import compiling
from tetris_widget.training.compiling import compiled_elsewhere, is_compiled

CONFIG = TrainingConfig()


def helpers() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "-c" in child.cmdline()]


@pytest.fixture
def nothing_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "is_compiled", lambda: False)


def test_a_cache_that_has_the_game_needs_no_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(compiling, "is_compiled", lambda: True)
    with compiled_elsewhere(CONFIG, lambda: False) as compiles:
        assert not compiles
        assert not helpers()


@pytest.mark.usefixtures("nothing_compiled")
def test_another_environment_needs_none_of_it() -> None:
    with compiled_elsewhere(TrainingConfig(env_id="CartPole-v1"), lambda: False) as is_:
        assert not is_


@pytest.mark.usefixtures("nothing_compiled")
def test_the_block_goes_on_meanwhile_and_then_it_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    done = tmp_path / "done"
    slow = f"import time, pathlib; time.sleep(1); pathlib.Path({str(done)!r}).touch()"
    monkeypatch.setattr(compiling, "COMPILE", slow)
    with compiled_elsewhere(CONFIG, lambda: False) as compiles:
        assert compiles
        assert not done.exists()
    assert done.exists()
    assert not helpers()


@pytest.mark.usefixtures("nothing_compiled")
def test_a_process_that_fails_keeps_nobody_from_going_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(compiling, "COMPILE", "raise SystemExit(3)")
    with compiled_elsewhere(CONFIG, lambda: False) as compiles:
        assert compiles


@pytest.mark.usefixtures("nothing_compiled")
def test_who_is_stopped_waits_no_longer_and_leaves_nobody_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(compiling, "COMPILE", "import time; time.sleep(1000)")
    before = time.monotonic()
    with compiled_elsewhere(CONFIG, lambda: time.monotonic() > before + 0.5):
        assert len(helpers()) == 1
    assert time.monotonic() - before < 20
    assert not helpers()


def test_what_is_compiled_is_seen_in_the_cache() -> None:
    Games(1).step(np.zeros(1, np.int64))
    assert is_compiled()
