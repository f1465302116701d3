"""A run that ended, however it did, is shown again and goes on."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.test_run_directory import read_only_view
from tetris_widget import TrainingConfig, TrainingPanel
from tetris_widget.config import ConfigError
from tetris_widget.run_directory import (
    DamagedRunWarning,
    RunBusyError,
    RunDirectory,
)

pytestmark = pytest.mark.timeout(180)

SMALL: dict[str, Any] = {
    "rows": 10,
    "columns": 6,
    "n_envs": 4,
    "n_steps": 32,
    "batch_size": 128,
    "total_timesteps": 1_000_000_000,
    "evaluation_games": 4,
    "evaluation_max_pieces": 100,
}


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
def config(tmp_path: Path) -> TrainingConfig:
    return TrainingConfig(**SMALL, run_dir=str(tmp_path / "runs"))


def train(panel: TrainingPanel, episodes: int = 100) -> None:
    panel.start()
    wait_for(lambda: panel._history.episodes >= episodes)


def test_a_new_panel_shows_a_stopped_run_and_goes_on_with_it(
    panels: ExitStack, config: TrainingConfig
) -> None:
    first = panels.enter_context(TrainingPanel(config))
    assert not first._status()["can_resume"]
    train(first)
    first.set_reward({"lines": 1.0, "holes": -0.5})
    wait_for(lambda: first._status()["marks"])
    ((changed_at, label),) = first._status()["marks"]
    assert label == "reward"
    # What a stop keeps may be a second old.
    wait_for(lambda: "evaluation/lines" in first._history.names())
    until = first._status()["elapsed"] + 2
    wait_for(lambda: first._status()["elapsed"] > until)
    first.stop()
    wait_for(lambda: first.status == "Stopped")
    wait_for(lambda: first._status()["can_resume"])
    first.close()

    second = panels.enter_context(TrainingPanel.attach(first.run_dir))
    assert second.status == "Stopped"
    assert second.config == first.config
    names = set(second._history.names())
    assert {"episode/lines", "running/lines", "evaluation/lines"} <= names
    for name in ("episode/lines", "episode/reward", "running/lines"):
        shown = second._history.series(name), first._history.series(name)
        np.testing.assert_allclose(*shown)
    status = second._status()
    assert status["episodes"] == first._history.episodes
    assert status["best_lines"] == first._history.best_lines
    assert status["timesteps"] == first._status()["timesteps"]
    assert status["marks"] == [[changed_at, "reward"]]

    second.resume()
    wait_for(lambda: len(second._status()["marks"]) > 1)
    changed, (resumed_at, label) = second._status()["marks"]
    assert changed == [changed_at, "reward"]
    assert (label, changed_at < resumed_at <= status["timesteps"]) == ("resumed", True)
    wait_for(lambda: second._status()["timesteps"] > status["timesteps"] + 500)
    second.stop()
    wait_for(lambda: second.status == "Stopped")
    second.close()
    third = panels.enter_context(TrainingPanel.attach(first.run_dir))
    assert third._status()["marks"] == second._status()["marks"]
    numbers = second.episodes["episode"].tolist()
    assert numbers == list(range(1, len(numbers) + 1))
    assert second.run_dir == first.run_dir
    x = second._history.series("running/reward")[0]
    assert (np.diff(x) >= 0).all()


def test_a_killed_run_goes_on_from_its_last_checkpoint(
    panels: ExitStack, config: TrainingConfig
) -> None:
    panel = panels.enter_context(TrainingPanel(config))
    train(panel)
    panel.pause()  # which takes a checkpoint
    wait_for(lambda: panel.status == "Paused")
    wait_for(lambda: panel._need_run().checkpoints())
    before = panel._status()["timesteps"]
    panel.resume()
    wait_for(lambda: panel._status()["timesteps"] > before + 1_000)
    os.kill(panel._manager.get_status()["pid"], signal.SIGKILL)
    wait_for(lambda: panel.status == "Failed")
    wait_for(lambda: panel._status()["can_resume"])
    panel.resume()
    wait_for(lambda: panel._status()["marks"])
    wait_for(lambda: panel.status == "Training")
    wait_for(lambda: panel._status()["timesteps"] > before + 1_000)
    panel.stop()
    wait_for(lambda: panel.status == "Stopped")
    told = panel._history.series("episode/lines")
    assert told.shape[1] <= len(panel.episodes)
    assert panel._history.episodes == len(panel.episodes)


def test_a_finished_run_goes_on_for_as_long_again(
    panels: ExitStack, config: TrainingConfig
) -> None:
    config = config.replace(total_timesteps=2_048)
    panel = panels.enter_context(TrainingPanel(config))
    panel.start()
    wait_for(lambda: panel.status == "Finished")
    wait_for(lambda: panel._status()["can_resume"])
    panel.resume()
    wait_for(lambda: panel.status == "Finished" and panel._status()["marks"])
    assert panel._status()["timesteps"] >= 4_096
    assert panel._status()["total_timesteps"] == 4_096
    wait_for(lambda: panel._status()["can_resume"])
    with pytest.raises(ConfigError, match=r"gamma: 0\.5 is refused"):
        panel.resume(gamma=0.5)
    assert panel.status == "Finished"


def test_a_run_goes_back_to_a_checkpoint_with_a_name(
    panels: ExitStack, config: TrainingConfig
) -> None:
    panel = panels.enter_context(TrainingPanel(config))
    with pytest.raises(ValueError, match="name: 'a/b' is refused"):
        panel.save_checkpoint("a/b")
    panel.save_checkpoint("nothing")
    train(panel)
    panel.save_checkpoint("early")
    run = panel._need_run()
    wait_for(lambda: run.named_checkpoints() == ["early"])
    with pytest.raises(ValueError, match="'early'; the run has to be stopped first"):
        panel.resume(checkpoint="early")
    wait_for(lambda: panel._status()["elapsed"] > 2)
    panel.stop()
    wait_for(lambda: panel.status == "Stopped")
    stopped_at = panel._status()["timesteps"]
    with pytest.raises(ValueError, match="no 'late'; allowed: early"):
        panel.resume(checkpoint="late")
    panel.resume(checkpoint="early")
    wait_for(lambda: panel.status == "Training")
    panel.stop()
    wait_for(lambda: panel.status == "Stopped")
    ((resumed_at, label),) = panel._status()["marks"]
    assert (label, resumed_at < stopped_at) == ("resumed", True)
    for axes in panel.plot().axes:
        marks = [line for line in axes.lines if line.get_linestyle() == "--"]
        assert [line.get_xdata()[0] for line in marks] == [resumed_at]
    texts = [note["text"] for note in panel._history.since(0)[2]]
    assert "no run to save" in texts
    assert any("saved as 'early'" in text for text in texts)


def test_a_run_in_use_is_refused_by_name(
    panels: ExitStack, config: TrainingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tetris_widget.panel.panel.LEAVE_SECONDS", 0.3)
    panel = panels.enter_context(TrainingPanel(config))
    train(panel, episodes=1)
    pid = panel._manager.get_status()["pid"]
    with pytest.raises(RunBusyError, match=f"process {pid}"):
        TrainingPanel.attach(panel.run_dir)


def test_attaching_without_a_name_takes_the_latest_run(
    panels: ExitStack,
    config: TrainingConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="no run"):
        TrainingPanel.attach()
    panel = panels.enter_context(TrainingPanel(config.replace(total_timesteps=256)))
    panel.start()
    wait_for(lambda: panel.status == "Finished")
    latest = panels.enter_context(TrainingPanel.attach())
    assert latest.run_dir == panel.run_dir


def test_a_run_of_another_version_says_so(
    panels: ExitStack, config: TrainingConfig
) -> None:
    run = RunDirectory.create(config)
    fields = {**config.to_dict(), "gravity": 9.81}
    run.config_file.write_text(json.dumps(fields))
    with pytest.raises(ConfigError, match=r"config\.json: gravity: no such field"):
        TrainingPanel.attach(run.path)
    run.write_state("stopped", versions={"tetris-widget": "99.0"})
    with pytest.raises(ConfigError, match=r"tetris-widget 99\.0 made this run"):
        TrainingPanel.attach(run.path)


def test_a_run_with_another_games_config_loses_nothing(
    panels: ExitStack, config: TrainingConfig
) -> None:
    first = panels.enter_context(TrainingPanel(config.replace(total_timesteps=2_048)))
    first.start()
    wait_for(lambda: first.status == "Finished")
    run = first._need_run()
    files = {path: path.read_bytes() for path in run.path.rglob("*.zip")}
    other = {**run.config().to_dict(), "columns": 8}
    run.config_file.write_text(json.dumps(other))
    second = panels.enter_context(TrainingPanel.attach(run.path))
    assert second._status()["episodes"] == first._status()["episodes"]
    second.resume()
    wait_for(lambda: second.status == "Failed")
    assert "the checkpoint doesn't fit this run" in second._status()["reason"]
    assert {path: path.read_bytes() for path in run.path.rglob("*.zip")} == files
    assert len(run.episodes()) == first._status()["episodes"]


def test_entries_of_the_journal_that_are_not_whole_are_left_out_and_said(
    panels: ExitStack, config: TrainingConfig
) -> None:
    run = RunDirectory.create(config)
    note = {"type": "info", "kind": "note", "text": "whole", "elapsed": 1.0}
    torn = [{"type": "info", "elapsed": 2.0}, {"type": "resume"}, {"type": "status"}]
    lines = [json.dumps(entry) + "\n" for entry in [note, *torn]]
    run.journal_file.write_text("".join(lines))
    panel = panels.enter_context(TrainingPanel.attach(run.path))
    texts = [entry["text"] for entry in panel._history.since(0)[2]]
    assert "whole" in texts
    assert "3 entries of the journal are not whole, and left out" in texts


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config\.json"):
        TrainingPanel.attach(tmp_path)


def notes(panel: TrainingPanel) -> list[str]:
    return [entry["text"] for entry in panel._history.since(0)[2]]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    home = tmp_path_factory.mktemp("runs")
    options = {**SMALL, "total_timesteps": 2_048}
    config = TrainingConfig(**options, run_dir=str(home))
    with ExitStack() as stack:
        panel = stack.enter_context(TrainingPanel(config))
        panel.start()
        wait_for(lambda: panel.status == "Finished")
        return panel._need_run()


def test_a_run_that_can_only_be_read_is_shown_and_not_gone_on_with(
    panels: ExitStack, finished: RunDirectory, tmp_path: Path
) -> None:
    copy = RunDirectory(shutil.copytree(finished.path, tmp_path / "run"))
    with copy.monitor_file.open("a") as file:
        file.write("1.5,12")
    before = {path: path.stat().st_mtime_ns for path in copy.path.rglob("*")}
    with read_only_view(copy.path, tmp_path / "view") as view:
        with pytest.warns(DamagedRunWarning, match=r"monitor\.csv ends in half"):
            panel = panels.enter_context(TrainingPanel.attach(view))
        assert panel.status == "Finished"
        assert panel._status()["episodes"] == len(finished.episodes()) > 0
        assert panel._status()["best_lines"] == finished.episodes()["lines"].max()
        assert not panel._status()["can_resume"]
        refusal = f"{view} cannot be written to; allowed: to read the run"
        assert any(refusal in text for text in notes(panel))
        with pytest.raises(ConfigError, match="view cannot be written to"):
            panel.resume()
        assert panel.status == "Finished"
        panel.close()
    after = {path: path.stat().st_mtime_ns for path in copy.path.rglob("*")}
    assert after == before


def test_a_run_that_was_killed_is_shown_where_nothing_can_be_written(
    panels: ExitStack, finished: RunDirectory, tmp_path: Path
) -> None:
    copy = RunDirectory(shutil.copytree(finished.path, tmp_path / "run"))
    copy.write_state("running")
    with read_only_view(copy.path, tmp_path / "view") as view:
        panel = panels.enter_context(TrainingPanel.attach(view))
        assert panel.status == "Failed"
        assert panel._status()["episodes"] == len(finished.episodes())
        panel.close()


@pytest.mark.parametrize("torn", [None, b"", b'{"format": 1, "see'])
def test_a_run_whose_run_json_was_lost_is_shown_and_goes_on(
    torn: bytes | None, panels: ExitStack, finished: RunDirectory, tmp_path: Path
) -> None:
    copy = RunDirectory(shutil.copytree(finished.path, tmp_path / "run"))
    copy.state_file.unlink()
    if torn is not None:
        copy.state_file.write_bytes(torn)
    panel = panels.enter_context(TrainingPanel.attach(copy.path))
    assert panel.status == "Finished"
    assert panel._status()["can_resume"]
    with ExitStack() as told:
        if torn is not None:
            told.enter_context(pytest.warns(DamagedRunWarning, match="was damaged"))
        panel.resume()
    wait_for(lambda: panel.status == "Finished" and panel._status()["marks"])
    assert panel._status()["timesteps"] >= 4_096
    state = RunDirectory(copy.path).state()
    assert (state["format"], state["state"]) == (1, "finished")


def test_a_run_whose_files_were_deleted_meanwhile_goes_on(
    panels: ExitStack, config: TrainingConfig
) -> None:
    panel = panels.enter_context(TrainingPanel(config))
    train(panel)
    run = RunDirectory(panel._need_run().path)
    versions = run.state()["versions"]
    run.config_file.unlink()
    run.state_file.unlink()
    panel.stop()
    wait_for(lambda: panel.status == "Stopped" and panel._status()["can_resume"])
    assert run.config() == panel.config
    before = panel._status()["timesteps"]
    panel.resume()
    wait_for(lambda: panel._status()["timesteps"] > before + 500)
    panel.stop()
    wait_for(lambda: panel.status == "Stopped")
    assert run.state()["format"] == 1
    assert run.state()["versions"] == versions


def test_a_run_whose_configuration_was_damaged_is_not_offered_to_go_on(
    panels: ExitStack, config: TrainingConfig
) -> None:
    panel = panels.enter_context(TrainingPanel(config))
    train(panel)
    panel._need_run().config_file.write_text("{")
    panel.stop()
    wait_for(lambda: any("cannot be resumed" in text for text in notes(panel)))
    assert not panel._status()["can_resume"]
    assert panel._need_run().checkpoints()
    assert "config.json: " in notes(panel)[-1]
    with pytest.raises(ConfigError, match=r"config\.json: "):
        panel.resume()
    assert panel.status == "Stopped"


def test_a_run_is_attached_to_by_a_path_from_where_one_is(
    panels: ExitStack,
    finished: RunDirectory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(finished.path.parent)
    monkeypatch.setenv("HOME", str(finished.path.parent))
    for path in (finished.run_id, f"~/{finished.run_id}"):
        panel = panels.enter_context(TrainingPanel.attach(path))
        monkeypatch.chdir(tmp_path)
        assert panel.run_dir == str(finished.path)
        assert len(panel.episodes) == panel._status()["episodes"] > 0
