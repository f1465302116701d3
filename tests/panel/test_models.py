"""The library in the panel: models of the run are kept, played, and trained on."""

from __future__ import annotations

import base64
import json
import os
import pickle
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from stable_baselines3 import PPO

from tests.panel.test_attach import SMALL
from tests.test_library import forge
from tests.training import runs
from tests.training.test_checkpoint import assert_equal_parameters
from tetris_widget import TrainingConfig, TrainingPanel
from tetris_widget.panel.panel import NoModelError
from tetris_widget.panel.shelf import Shelf
from tetris_widget.panel.widget import (
    MAX_PART_BYTES,
    BadMessageError,
    TrainingWidget,
    parse,
)
from tetris_widget.run_directory import RunDirectory

pytestmark = pytest.mark.timeout(180)


def wait_for(condition: Callable[[], Any], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.01)


@pytest.fixture
def panels() -> Iterator[ExitStack]:
    """Closes every panel that enters it."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []

    def send(self: Any, content: dict[str, Any], buffers: Any = None) -> None:
        messages.append({**content, "buffers": buffers})

    monkeypatch.setattr(TrainingWidget, "send", send)
    return messages


@pytest.fixture
def config(tmp_path: Path) -> TrainingConfig:
    return TrainingConfig(**SMALL, run_dir=str(tmp_path / "runs"))


@pytest.fixture
def panel(
    panels: ExitStack,
    config: TrainingConfig,
    tmp_path: Path,
    sent: list[dict[str, Any]],
) -> TrainingPanel:
    return panels.enter_context(TrainingPanel(config, tmp_path / "models"))


def ask(panel: TrainingPanel, *buffers: bytes, **job: Any) -> None:
    content = {"type": "command", "id": 1, "command": "library", "job": job}
    panel.widget._handle(None, content, [memoryview(data) for data in buffers])


def told(panel: TrainingPanel) -> str:
    said = panel._shelf.shown()["told"]
    return str(said["text"]) if said else ""


def names(panel: TrainingPanel) -> list[str]:
    return [entry["name"] for entry in panel._shelf.shown()["entries"]]


def test_the_model_of_now_is_kept_while_training_and_afterwards(
    panel: TrainingPanel,
) -> None:
    with pytest.raises(NoModelError):
        panel.save_model("a")
    ask(panel, do="save", name="a", which="current", notes="")
    assert "press Start" in told(panel)
    panel.start()
    wait_for(lambda: panel._history.episodes > 20)
    ask(panel, do="save", name="a", which="current", notes="early")
    wait_for(lambda: told(panel) == "“a” is saved")
    panel.pause()
    wait_for(lambda: panel.status == "Paused")
    panel.save_model("b")
    wait_for(lambda: told(panel) == "“b” is saved")
    at = panel._status()["timesteps"]
    panel.stop()
    wait_for(lambda: panel.status == "Stopped")
    panel.save_model("c")
    wait_for(lambda: told(panel) == "“c” is saved")
    by_name = panel.library.models().set_index("name")
    assert by_name["timesteps"]["a"] < by_name["timesteps"]["b"] == at
    assert by_name["timesteps"]["c"] == at
    assert by_name["notes"]["a"] == "early"
    assert by_name["mean_lines"].notna().all()
    assert sorted(names(panel)) == ["a", "b", "c"]


@pytest.mark.parametrize("name", ["a/b", "..", "x" * 300, "", "\u202e"])
def test_a_bad_name_is_a_sentence_and_changes_nothing(
    name: str, panel: TrainingPanel, config: TrainingConfig
) -> None:
    panel.start()
    ask(panel, do="save", name=name, which="current", notes="")
    assert "is refused; allowed: 1 to 50 letters" in told(panel)
    ask(panel, do="train", name=name)
    assert "is refused; allowed: 1 to 50 letters" in told(panel)
    assert panel.library.names() == []


def test_a_run_begins_with_a_model_and_the_next_does_not(
    panel: TrainingPanel,
) -> None:
    panel.start()
    wait_for(lambda: panel._history.episodes > 20)
    panel.save_model("a")
    wait_for(lambda: told(panel) == "“a” is saved")
    panel.stop()
    wait_for(lambda: panel.status == "Stopped")
    first = panel.run_dir
    panel.config = panel.config.replace(policy="mlp")
    ask(panel, do="train", name="a")
    wait_for(lambda: panel.status == "Training")
    assert panel.run_dir != first
    assert panel.config.initial_model == str(panel.library.file("a"))
    assert panel.config.policy == "linear"
    panel.stop()
    wait_for(lambda: panel.status == "Stopped")
    panel.start()
    assert panel.config.initial_model is None
    assert panel.config.policy == "mlp"


def test_models_on_show_are_sent_to_the_browser_while_training_goes_on(
    panel: TrainingPanel, sent: list[dict[str, Any]]
) -> None:
    panel.start()
    wait_for(lambda: panel._history.episodes > 20)
    for name in ("a", "b"):
        panel.save_model(name)
        wait_for(lambda name=name: told(panel) == f"“{name}” is saved")
    ask(panel, do="demo", names=["a", "b"])
    shown = [m for m in sent if m["type"] == "update" and m.get("demo")]
    wait_for(
        lambda: shown or [m for m in sent if m["type"] == "update" and m.get("demo")]
    )
    wait_for(lambda: {0, 1} <= boards(sent))
    update = next(m for m in sent if m["type"] == "update" and m["demo"])
    block = update["demo"][0]
    assert block["view"] == "demo"
    assert len(update["buffers"][block["buffer"]]) == block["count"] * 10 * 6
    assert block["moves"][0]["game"] == 1
    assert panel.status == "Training"
    libraries = [m["library"] for m in sent if m["type"] == "update" and m["library"]]
    assert [board["name"] for board in libraries[-1]["boards"]] == ["a", "b"]
    # Some hosts lose what is pushed: an answer has each one's newest move.
    panel.widget._handle(None, {"type": "sync", "since": 0}, [])
    answer = next(m for m in sent if m["type"] == "update" and m["sync"])
    assert [(one["board"], one["count"]) for one in answer["demo"]] == [(0, 1), (1, 1)]
    ask(panel, do="end_demo")
    wait_for(lambda: panel._shelf.shown()["boards"] == [])


def boards(sent: list[dict[str, Any]]) -> set[int]:
    updates = [message for message in sent if message["type"] == "update"]
    return {block["board"] for update in updates for block in update["demo"]}


def test_a_file_goes_out_to_who_asked_and_comes_in_by_parts(
    panel: TrainingPanel, sent: list[dict[str, Any]]
) -> None:
    panel.start()
    wait_for(lambda: panel._history.episodes > 20)
    panel.save_model("a")
    wait_for(lambda: told(panel) == "“a” is saved")
    ask(panel, do="export", name="a")
    wait_for(lambda: [m for m in sent if m["type"] == "file"])
    file = next(m for m in sent if m["type"] == "file")
    assert (file["id"], file["name"]) == (1, "a.zip")
    (data,) = file["buffers"]
    half = len(data) // 2
    job = {"do": "import", "name": "b", "file": "a.zip", "parts": 2}
    ask(panel, data[half:], **job, part=1)
    assert "a part is missing" in told(panel)
    ask(panel, data[:half], **job, part=0)
    ask(panel, data[half:], **job, part=1)
    wait_for(lambda: told(panel) == "“b” is imported")
    assert panel.library.config("b") == panel.library.config("a")


def test_a_sync_brings_the_library_again(
    panel: TrainingPanel, sent: list[dict[str, Any]]
) -> None:
    panel._shelf.tell("info", "hello")
    sent.clear()
    panel.widget._handle(None, {"type": "sync", "since": 0}, [])
    update = next(m for m in sent if m["type"] == "update" and m["sync"])
    assert update["library"]["told"]["text"] == "hello"


@pytest.mark.parametrize(
    ("job", "buffers"),
    [
        (None, []),
        ({"do": "burn"}, []),
        ({"do": ["save"]}, []),
        ({"do": "save", "name": 1, "which": "best", "notes": ""}, []),
        ({"do": "delete"}, []),
        ({"do": "delete", "name": "a"}, [b"x"]),
        ({"do": "demo", "names": []}, []),
        ({"do": "demo", "names": ["a", "b", "c"]}, []),
        ({"do": "demo", "names": "ab"}, []),
        ({"do": "demo", "names": [1]}, []),
        ({"do": "import", "name": "a", "file": "a", "part": 0, "parts": 1}, []),
        ({"do": "import", "name": "a", "file": "a", "part": 1, "parts": 1}, [b"x"]),
        ({"do": "import", "name": "a", "file": "a", "part": True, "parts": 2}, [b"x"]),
        (
            {"do": "import", "name": "a", "file": "a", "part": 0, "parts": 1},
            [bytes(MAX_PART_BYTES + 1)],
        ),
    ],
)
def test_what_cannot_be_asked_of_the_library_is_refused(
    job: Any, buffers: list[bytes]
) -> None:
    content = {"type": "command", "id": 1, "command": "library", "job": job}
    with pytest.raises(BadMessageError):
        parse(content, buffers)


def test_the_best_model_and_the_goal_are_told_and_a_finished_run_goes_on(
    panels: ExitStack, config: TrainingConfig, sent: list[dict[str, Any]]
) -> None:
    panel = panels.enter_context(TrainingPanel(config.replace(target_lines=0.5)))
    assert panel._status()["target_lines"] == 0.5
    assert panel._status()["best_eval"] is None
    panel.start()
    wait_for(lambda: panel.status == "Finished")
    status = panel._status()
    assert status["reason"] == "reached 0.5 lines per game"
    best = status["best_eval"]
    assert best["lo"] <= best["mean"] <= best["hi"]
    again = panels.enter_context(TrainingPanel.attach(panel.run_dir))
    assert again._status()["best_eval"] == best
    assert again._status()["reason"] == status["reason"]
    wait_for(lambda: again._status()["can_resume"])
    again.resume()
    wait_for(lambda: again.status == "Training")
    assert again.config.target_lines is None
    wait_for(lambda: again._status()["timesteps"] > status["timesteps"])


def test_silence_is_told_with_its_phase_and_is_no_death(panel: TrainingPanel) -> None:
    panel.start()
    wait_for(lambda: panel._history.episodes > 20)
    pid = panel._manager.get_status()["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_for(lambda: panel._status()["not_responding"])
        silence = panel._status()["not_responding"]
        assert isinstance(silence["seconds"], int)
        assert silence["phase"]
        assert panel.status == "Training"
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_for(lambda: panel._status()["not_responding"] is None)


def info(**fields: Any) -> dict[str, Any]:
    return {"type": "info", "timesteps": 1, "elapsed": 1.0, **fields}


def test_answers_of_long_ago_are_not_given_again(
    panels: ExitStack, config: TrainingConfig, tmp_path: Path
) -> None:
    run = RunDirectory.create(config)
    entry = info(kind="model", text="could not save the model of now", is_saved=False)
    run.journal_file.write_text(json.dumps(entry) + "\n")
    panel = panels.enter_context(TrainingPanel.attach(run.path, tmp_path / "models"))
    assert panel._shelf.shown()["told"] is None


def test_marks_are_the_same_live_and_attached(
    panels: ExitStack, panel: TrainingPanel, config: TrainingConfig, tmp_path: Path
) -> None:
    run = RunDirectory.create(config)
    resumes = [
        {"type": "resume", "timesteps": at, "elapsed": 1.0, "checkpoint": f"{at}.zip"}
        for at in (300, 500, 900, 500)
    ]
    run.journal_file.write_text("".join(json.dumps(one) + "\n" for one in resumes))
    for one in resumes:
        panel._on_message({**one, "episode": 0})
    marks = [[300, "resumed"], [500, "resumed"], [500, "resumed"]]
    assert panel._status()["marks"] == marks
    other = panels.enter_context(TrainingPanel.attach(run.path, tmp_path / "other"))
    assert other._status()["marks"] == marks


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_the_best_model_is_the_runs_own_and_brings_no_code(
    panels: ExitStack, tmp_path: Path
) -> None:
    options = {**runs.SMALL, "total_timesteps": 1_000, "run_dir": str(tmp_path)}
    session = runs.new_run(TrainingConfig(**options))
    session.train()
    run = session.run
    expected = PPO.load(run.best_model_file, device="cpu")
    code = pickle.dumps(Trap(tmp_path / "sprung"), protocol=2)
    encoded = base64.b64encode(code).decode()
    data = json.dumps({"policy_class": {":type:": "x", ":serialized:": encoded}})
    original = run.best_model_file.rename(tmp_path / "model.zip")
    forge(original, run.best_model_file, "data", data.encode())

    panel = panels.enter_context(TrainingPanel.attach(run.path, tmp_path / "models"))
    panel.config = TrainingConfig.preset("classic", rows=12)
    model = panel.best_model()
    assert isinstance(model, PPO)
    assert model.num_timesteps == expected.num_timesteps
    assert_equal_parameters(model.get_parameters(), expected.get_parameters())
    assert not (tmp_path / "sprung").exists()

    forge(original, run.best_model_file, "policy.pth", code)
    with pytest.raises(ValueError, match="holds more than weights"):
        panel.best_model()
    assert not (tmp_path / "sprung").exists()


def test_the_list_is_sent_however_early_it_is_read(
    panels: ExitStack,
    config: TrainingConfig,
    sent: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    changed = Shelf.__init__

    def at_once(self: Any, library: Any, on_change: Any, send_file: Any) -> None:
        changed(self, library, on_change, send_file)
        on_change(False)

    monkeypatch.setattr(Shelf, "__init__", at_once)
    panel = panels.enter_context(TrainingPanel(config))
    panel.widget._handle(None, {"type": "sync", "since": 0}, [])
    (update, *_) = [m for m in sent if m["type"] == "update" and m["sync"]]
    assert update["library"] is not None


def test_a_file_that_is_too_large_is_told_once(
    panel: TrainingPanel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tetris_widget.panel.shelf.MAX_IMPORT_BYTES", 3)
    job = {"do": "import", "name": "b", "file": "a.zip", "parts": 3}
    for part in range(3):  # they are on their way already
        ask(panel, b"1234", **job, part=part)
    assert told(panel).startswith("a.zip: 4 bytes; allowed: 3; call panel.library.imp")
    # The next one begins anew.
    ask(panel, b"1", **{**job, "parts": 2}, part=0)
    ask(panel, b"2", **{**job, "parts": 2}, part=1)
    wait_for(lambda: "allowed: 3;" not in told(panel))
