"""The panel without a browser: what is sent, what is refused, what stays alive."""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
import traitlets

from tests.toy import ToyManager
from tetris_widget import TrainingConfig, TrainingPanel
from tetris_widget.panel import panel as panel_module
from tetris_widget.panel.panel import NoModelError
from tetris_widget.panel.widget import BadMessageError, TrainingWidget, parse

pytestmark = pytest.mark.timeout(60)


def wait_for(condition: Callable[[], Any], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.01)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []

    def send(self: Any, content: dict[str, Any], buffers: Any = None) -> None:
        messages.append({**content, "buffers": buffers})

    monkeypatch.setattr(TrainingWidget, "send", send)
    monkeypatch.setattr(panel_module, "TrainingManager", ToyManager)
    return messages


@pytest.fixture
def panel(sent: list[dict[str, Any]], tmp_path: Path) -> Iterator[TrainingPanel]:
    made = TrainingPanel(TrainingConfig(run_dir=str(tmp_path)))
    yield made
    made.close()


def receive(panel: TrainingPanel, content: Any, buffers: Any = ()) -> None:
    panel.widget._handle(None, content, list(buffers))


def notes(panel: TrainingPanel) -> list[str]:
    return [note["text"] for note in panel._history.since(0)[2]]


def test_buttons_and_methods_do_the_same(panel: TrainingPanel) -> None:
    assert panel.status == "Idle"
    receive(panel, {"type": "command", "id": 1, "command": "start"})
    wait_for(lambda: panel.status == "Training")
    panel.pause()
    wait_for(lambda: panel.status == "Paused")
    receive(panel, {"type": "command", "id": 2, "command": "resume"})
    wait_for(lambda: panel.status == "Training")
    panel.stop()
    wait_for(lambda: panel.status == "Stopped")
    panel.start()
    wait_for(lambda: panel.status == "Training")


def test_what_makes_no_sense_is_a_note_and_no_exception(panel: TrainingPanel) -> None:
    for action in (panel.pause, panel.resume, panel.stop):
        action()
    assert panel.status == "Idle"
    panel.start()
    run = panel.run_dir
    panel.start()
    assert panel.run_dir == run
    panel.stop()
    panel.stop()
    wait_for(lambda: panel.status == "Stopped")
    assert "nothing to pause" in notes(panel)
    assert "training runs already" in notes(panel)


def test_a_reward_needs_a_run_and_right_terms(panel: TrainingPanel) -> None:
    panel.set_reward({"lines": 1.0, "holes": -0.5})
    assert "no run to reward" in notes(panel)
    with pytest.raises(ValueError, match="did you mean 'holes'"):
        panel.set_reward({"hole": -0.5})


def test_start_returns_at_once(panel: TrainingPanel) -> None:
    before = time.monotonic()
    panel.start()
    assert time.monotonic() - before < 1


@pytest.mark.parametrize(
    "content",
    [
        None,
        "start",
        {},
        {"type": "command"},
        {"type": "command", "command": "explode"},
        {"type": "command", "command": ["start"]},
        {"type": "command", "command": "set_view", "view": "sideways"},
        {"type": "command", "command": "set_speed", "speed": float("nan")},
        {"type": "command", "command": "set_speed", "speed": float("inf")},
        {"type": "command", "command": "set_speed", "speed": "fast"},
        {"type": "command", "command": "set_speed"},
        {"type": "command", "command": "set_speed", "speed": 10**400},
        {"type": "sync", "since": -1},
        {"type": "sync", "since": 1.5},
        {"type": "command", "command": "start", "filler": "x" * 1_000_000},
    ],
)
def test_bad_messages_are_answered_and_change_nothing(
    content: Any, panel: TrainingPanel
) -> None:
    with pytest.raises(BadMessageError):
        parse(content, [])
    before = panel._status()
    receive(panel, content)
    assert panel._status() == before
    (note,) = panel._history.since(0)[2]
    assert note["level"] == "error"
    assert len(note["text"]) < 300


def test_commands_are_acknowledged(
    panel: TrainingPanel, sent: list[dict[str, Any]]
) -> None:
    receive(panel, {"type": "command", "id": 7, "command": "set_speed", "speed": 0.5})
    receive(panel, {"type": "command", "id": 8, "command": "explode"})
    acks = {m["id"]: m["ok"] for m in sent if m["type"] == "ack"}
    assert acks == {7: True, 8: False}
    assert panel._speed == 0.5


def test_a_sync_sends_everything_again(
    panel: TrainingPanel, sent: list[dict[str, Any]]
) -> None:
    panel._on_message(
        {
            "type": "episode",
            "episode": 1,
            "timesteps": 10,
            "reward": 1.0,
            "length": 10,
            "lines": 1,
        }
    )
    wait_for(lambda: any(m["type"] == "update" and m["series"] for m in sent))
    sent.clear()
    receive(panel, {"type": "sync", "since": 0})
    update = next(m for m in sent if m["type"] == "update" and m["sync"])
    assert update["since"] == 0
    assert "episode/lines" in {series["name"] for series in update["series"]}
    for series in update["series"]:
        assert len(update["buffers"][series["buffer"]]) == series["length"] * 32


def test_an_answer_has_the_newest_board_and_leaves_it_to_be_pushed(
    panel: TrainingPanel, sent: list[dict[str, Any]]
) -> None:
    """Hosts that lose what is pushed show the boards of answers."""
    receive(panel, {"type": "sync", "since": 0})
    assert sent[-1]["frames"] is None
    frames = [{"cells": bytes([n] * 200), "piece": n, "next": []} for n in (1, 2)]
    sent.clear()
    with panel._lock:  # no push comes between
        panel._on_message({"type": "board", "view": panel._view, "frames": frames})
        receive(panel, {"type": "sync", "since": 0})
    wait_for(lambda: len([m for m in sent if m["type"] == "update"]) > 1)
    answer, push = (m for m in sent if m["type"] == "update")
    assert (answer["sync"], answer["frames"]["count"]) == (True, 1)
    assert answer["frames"]["moves"][0]["piece"] == 2
    assert (push["sync"], push["frames"]["count"]) == (False, 2)
    receive(panel, {"type": "sync", "since": 0})
    assert sent[-1]["frames"]["moves"][0]["piece"] == 2


def test_boards_of_low_games_stand_on_the_same_floor() -> None:
    low = {"cells": bytes([1] * 6), "piece": 1, "row": 0}
    whole = {"cells": bytes([2] * 12), "piece": 2, "row": 3}
    shown = {"cells": bytes([0] * 6 + [1] * 6), "piece": 1, "row": 2}
    assert panel_module._on_the_floor(low, 4, 3) == shown
    assert panel_module._on_the_floor(whole, 4, 3) == whole


def info(timesteps: int, text: str, **fields: Any) -> dict[str, Any]:
    always = {"type": "info", "kind": "note", "elapsed": timesteps / 1000}
    return {**always, "timesteps": timesteps, "text": text, **fields}


def test_several_bests_a_second_are_one_line(panel: TrainingPanel) -> None:
    for number in range(20):
        panel._on_message(info(100 * number, f"new best: {number}", kind="best"))
    panel._on_message(info(2_500, "could not save", kind="warning"))
    assert notes(panel) == ["new best: 19", "could not save"]


def test_what_changes_the_learning_leaves_marks(panel: TrainingPanel) -> None:
    panel._on_message(info(500, "Reward: lines × 2", mark="reward"))
    panel._on_message(info(800, "Reward: lines × 3", mark="reward"))
    assert panel._status()["marks"] == [[500, "reward"], [800, "reward"]]
    # It goes on from before the second change, which so has not happened.
    resume = {"type": "resume", "timesteps": 600, "elapsed": 1.0, "checkpoint": "c"}
    panel._on_message(resume)
    assert panel._status()["marks"] == [[500, "reward"], [600, "resumed"]]
    for number in range(300):
        panel._on_message(info(1000 + number, "Reward", mark="reward"))
    assert len(panel._status()["marks"]) == panel_module.MAX_MARKS
    panel.start()
    assert panel._status()["marks"] == []


def test_a_pause_while_a_run_starts_is_shown_and_can_be_taken_back(
    panel: TrainingPanel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOY_FAULT", "asleep")
    panel.start()
    assert panel.status == "Starting"
    panel.pause()
    assert panel.status == "Pausing"
    panel.resume()
    assert panel.status == "Starting"
    panel.stop()
    panel.start()
    assert notes(panel)[-1] == "still stopping"
    panel._manager.process.kill()


def test_boards_of_another_environment_are_not_shown(
    sent: list[dict[str, Any]], tmp_path: Path
) -> None:
    config = TrainingConfig(env_id="tetris_widget/Tetris-v0", run_dir=str(tmp_path))
    panel = TrainingPanel(config)
    for frame in ({"cells": bytes(48), "row": 3}, {"cells": bytes(200)}):
        panel._on_message({"type": "board", "view": "watch", "frames": [frame]})
    receive(panel, {"type": "sync", "since": 0})
    wait_for(lambda: any(m["type"] == "update" for m in sent))
    assert not any(m.get("frames") for m in sent)
    panel.close()


def test_nothing_is_sent_when_nothing_happens(
    panel: TrainingPanel, sent: list[dict[str, Any]]
) -> None:
    time.sleep(0.4)
    sent.clear()
    time.sleep(0.5)
    assert sent == []


def test_the_snapshot_shows_the_board_as_it_stood(
    panel: TrainingPanel, sent: list[dict[str, Any]]
) -> None:
    frame = {"cells": bytes(range(200)), "piece": 1, "next": [2], "lines": 3}
    panel._on_message({"type": "board", "view": panel._view, "frames": [frame]})
    wait_for(lambda: any(m["type"] == "update" and m["frames"] for m in sent))
    panel._update_snapshot()
    kept = panel.widget.snapshot["frame"]
    assert kept == {**frame, "cells": list(range(200))}
    json.dumps(panel.widget.snapshot)


def test_a_state_is_shown_before_its_snapshot_is_made(
    panel: TrainingPanel,
    sent: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def keep(self: Any, snapshot: dict[str, Any]) -> None:
        sent.append({"type": "snapshot", "status": snapshot["status"]})

    monkeypatch.setattr(TrainingWidget, "keep", keep)
    panel.start()
    wait_for(lambda: panel.status == "Training")
    for act, state in ((panel.pause, "paused"), (panel.stop, "stopped")):
        sent.clear()
        act()
        wait_for(lambda: any(m["type"] == "snapshot" for m in sent))
        told = [m["type"] for m in sent if m["status"]["state"] == state]
        assert told[0] == "update"
        assert "snapshot" in told


def test_who_has_waited_for_the_end_can_save_it(panel: TrainingPanel) -> None:
    panel.start()
    wait_for(lambda: panel.status == "Training")
    panel.stop()
    assert panel.wait(20)
    assert panel.widget.snapshot["status"]["state"] == "stopped"


def test_at_most_thirty_messages_a_second(
    panel: TrainingPanel, sent: list[dict[str, Any]]
) -> None:
    frame = {"cells": b"\0" * 200, "piece": 1, "next": []}
    sent.clear()
    until = time.monotonic() + 1.0
    while time.monotonic() < until:
        panel._on_message({"type": "board", "view": "watch", "frames": [dict(frame)]})
        panel._wake.set()
        time.sleep(0.002)
    assert 5 <= len(sent) <= 33


def test_a_send_that_fails_does_not_end_the_pump(
    panel: TrainingPanel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise LookupError("shell_parent")

    monkeypatch.setattr(TrainingWidget, "send", broken)
    monkeypatch.setattr(TrainingWidget, "send_state", broken)
    panel.set_speed(0.4)
    panel._snapshot_due = 0.0
    wait_for(lambda: panel._snapshot_due > 0)
    time.sleep(0.3)
    assert panel._pump.is_alive()


class Shell(traitlets.HasTraits):
    """What IPython's shell is to the widget."""

    exit_now = traitlets.Bool(False)


def test_a_kernel_that_ends_hears_no_more_of_the_panel(
    panel: TrainingPanel, sent: list[dict[str, Any]]
) -> None:
    panel.start()
    wait_for(lambda: panel.status == "Training")
    panel.widget._on_exit({"new": True})
    said, snapshot = len(sent), panel.widget.snapshot
    panel.stop()
    wait_for(lambda: panel.status == "Stopped")
    wait_for(lambda: not panel._manager._is_alive())
    panel._prepare()
    assert not panel._manager._is_alive()
    assert len(sent) == said
    assert panel.widget.snapshot == snapshot
    # One that was told to end, and stays, is heard again.
    panel.widget._on_exit({"new": False})
    panel.start()
    wait_for(lambda: len(sent) > said)


def test_the_widget_listens_for_the_kernels_end_until_it_is_closed(
    sent: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    shell = Shell()
    monkeypatch.setattr("tetris_widget.panel.widget.get_ipython", lambda: shell)
    panel = TrainingPanel()
    shell.exit_now = True
    assert panel.widget.is_over
    panel.close()
    shell.exit_now = False
    assert panel.widget.is_over


def test_numbers_before_the_first_run_say_what_to_do(panel: TrainingPanel) -> None:
    with pytest.raises(NoModelError, match="press Start"):
        _ = panel.episodes
    with pytest.raises(NoModelError):
        panel.best_model()


def test_a_failure_is_shown_and_start_works_again(
    panel: TrainingPanel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOY_FAULT", "exit")
    panel.start()
    wait_for(lambda: panel.status == "Failed")
    assert any("exit code 0" in text for text in notes(panel))
    monkeypatch.delenv("TOY_FAULT")
    panel.start()
    wait_for(lambda: panel.status == "Training")


def test_a_start_that_fails_keeps_what_is_shown(
    panel: TrainingPanel, tmp_path: Path
) -> None:
    panel.start()
    wait_for(lambda: panel._history.series("speed/fps").shape[1])
    panel.stop()
    wait_for(lambda: panel.status == "Stopped")
    run_dir, points = panel.run_dir, panel._history.series("speed/fps").shape[1]
    before = panel.config
    (tmp_path / "file").touch()
    panel.config = before.replace(run_dir=str(tmp_path / "file"))
    panel.start()
    assert panel.status == "Failed"
    assert any("cannot write to" in text for text in notes(panel))
    assert panel._history.series("speed/fps").shape[1] >= points
    assert panel.run_dir == run_dir
    panel.config = before
    panel.start()
    wait_for(lambda: panel.status == "Training")
    assert panel.run_dir != run_dir


def test_a_closed_panel_starts_nothing(panel: TrainingPanel) -> None:
    panel.close()
    with pytest.raises(RuntimeError, match="closed"):
        panel.start()
    assert not panel._manager.is_running()


def test_a_figure_for_a_paper(panel: TrainingPanel, tmp_path: Path) -> None:
    panel.start()
    wait_for(lambda: panel.status == "Training")
    figure = panel.plot()
    figure.savefig(tmp_path / "figure.pdf")
    assert [axes.get_ylabel() for axes in figure.axes] == [
        "Lines per game",
        "Reward per game",
    ]


def test_it_displays_as_a_widget_with_a_text_fallback(panel: TrainingPanel) -> None:
    bundle = panel._repr_mimebundle_()
    data = bundle[0] if isinstance(bundle, tuple) else bundle
    assert data["text/plain"].startswith("TrainingPanel: Idle")
    assert "application/vnd.jupyter.widget-view+json" in data


def test_of_panels_that_wait_the_last_one_shown_has_a_process(
    panel: TrainingPanel, sent: list[dict[str, Any]], tmp_path: Path
) -> None:
    def is_warm(panel: TrainingPanel) -> bool:
        return bool(panel._manager.get_status()["is_warm"])

    panel._repr_mimebundle_()
    wait_for(lambda: is_warm(panel))
    process = panel._manager.process
    assert process is not None
    with TrainingPanel(TrainingConfig(run_dir=str(tmp_path))) as again:
        again._repr_mimebundle_()
        wait_for(lambda: is_warm(again))
        wait_for(lambda: not process.is_alive())
        assert panel.status == "Idle"
        # Both can be started, and a run is let alone.
        panel.start()
        wait_for(lambda: panel.status == "Training")
        again._repr_mimebundle_()
        # One that runs, or is closed, needs no process to wait.
        panel._repr_mimebundle_()
        assert is_warm(again)
        again.start()
        wait_for(lambda: again.status == "Training")
        assert panel.status == "Training"


def test_who_waits_hears_when_no_run_is_under_way(panel: TrainingPanel) -> None:
    assert panel.wait(0)
    panel.start()
    assert not panel.wait(0.05)
    wait_for(lambda: panel.status == "Training")
    panel.stop()
    assert panel.wait(20)
    # On a thread: a browser's tests leave a loop that runs on this one.
    with ThreadPoolExecutor() as pool:
        finished = pool.submit(lambda: asyncio.run(panel.finished()))
        assert finished.result(20) == "Stopped"


def test_close_ends_the_process_and_frees_the_panel(
    sent: list[dict[str, Any]], tmp_path: Path
) -> None:
    def use() -> tuple[int, weakref.ref[TrainingPanel]]:
        with TrainingPanel(TrainingConfig(run_dir=str(tmp_path))) as panel:
            panel.start()
            wait_for(lambda: panel.status == "Training")
            return panel._manager.get_status()["pid"], weakref.ref(panel)

    pid, reference = use()
    wait_for(lambda: not psutil.pid_exists(pid))

    def is_freed() -> bool:
        gc.collect()
        return reference() is None

    wait_for(is_freed)


def test_importing_the_package_is_light() -> None:
    code = (
        "import sys, tetris_widget; tetris_widget.TrainingConfig(); "
        "bad = {'torch', 'numba', 'pandas', 'anywidget'} & set(sys.modules); "
        "sys.exit(str(bad) if bad else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_the_panel_needs_no_torch_in_the_kernel() -> None:
    code = (
        "import sys; from tetris_widget import TrainingPanel; TrainingPanel(); "
        "bad = {'torch', 'numba', 'pandas', 'matplotlib'} & set(sys.modules); "
        "sys.exit(str(bad) if bad else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
