"""The command line as a person types it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tetris_widget.run_directory import RunDirectory

pytestmark = pytest.mark.timeout(120)
COMMAND = [sys.executable, "-m", "tetris_widget.cli"]
SMALL = ["rows=8", "columns=6", "n_envs=4", "n_steps=32", "batch_size=128"]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, timeout=100, check=False
    )


def test_it_trains_to_the_end(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"run_dir": str(tmp_path / "runs")}))
    done = run("train", "--config", str(config), "--set", *SMALL, "total_timesteps=500")
    assert done.returncode == 0, done.stderr
    (path,) = (tmp_path / "runs").iterdir()
    assert f"Finished: {path}" in done.stdout.replace("\n", "")
    run_directory = RunDirectory(path)
    assert run_directory.state()["state"] == "finished"
    assert run_directory.config().rows == 8
    # Nobody sees a game here; who goes on with the run in a notebook does.
    assert run_directory.config().view == "watch"
    commands = [one for one in run_directory.journal() if one["type"] == "command"]
    assert [one["values"] for one in commands] == [{"view": "headless"}]


def test_a_file_changes_what_it_says_when_a_run_is_resumed(tmp_path: Path) -> None:
    runs, longer = tmp_path / "runs", tmp_path / "longer.json"
    options = [f"run_dir={runs}", "total_timesteps=500", "checkpoint_seconds=7"]
    assert run("train", "--set", *SMALL, *options).returncode == 0
    (path,) = runs.iterdir()
    longer.write_text(json.dumps({"total_timesteps": 1_000}))
    done = run("train", "--resume", str(path), "--config", str(longer))
    assert done.returncode == 0, done.stderr
    config = RunDirectory(path).config()
    assert (config.total_timesteps, config.rows) == (1_000, 8)
    assert config.checkpoint_seconds == 7


def test_it_trains_what_a_preset_describes(tmp_path: Path) -> None:
    options = [f"run_dir={tmp_path}", "total_timesteps=500"]
    done = run("train", "--preset", "board", "--set", *SMALL, *options)
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.iterdir()
    config = RunDirectory(path).config()
    assert (config.observation, config.policy) == ("board", "patterns")
    assert config.rows == 8


def test_it_ends_at_a_goal(tmp_path: Path) -> None:
    options = [f"run_dir={tmp_path}", "total_timesteps=100000000", "target_lines=0.5"]
    done = run("train", "--set", *SMALL, *options)
    assert done.returncode == 0, done.stderr
    assert "Finished (reached 0.5 lines per game)" in done.stdout.replace("\n", " ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "rowz=8"], "rowz: no such field; did you mean 'rows'?"),
        (["--set", "rows=200"], "rows: 200 is refused"),
        (["--set", "rows"], "--set rows: expected key=value"),
        (["--config", "nowhere.json"], "nowhere.json"),
        (["--resume", "nowhere"], "nowhere/config.json"),
        (["--checkpoint", "early"], "--checkpoint: needs --resume RUN"),
        (
            ["--resume", "nowhere", "--preset", "board"],
            "--preset board: does not go with --resume",
        ),
    ],
)
def test_bad_input_is_a_sentence_and_code_2(arguments: list[str], message: str) -> None:
    done = run("train", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_ctrl_c_stops_cleanly_and_the_run_can_be_resumed(tmp_path: Path) -> None:
    arguments = ["train", "--set", *SMALL, f"run_dir={tmp_path}"]
    # A shell that runs the tests in the background lets them ignore Ctrl-C.
    with subprocess.Popen(
        [*COMMAND, *arguments],
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob("*/monitor.csv")):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(20) == 130
    (path,) = tmp_path.iterdir()
    stopped = RunDirectory(path)
    assert stopped.state()["state"] == "stopped"
    assert stopped.last_model_file.exists()
    done = run("train", "--resume", str(path), "--set", "total_timesteps=1")
    assert done.returncode == 0, done.stderr
    assert stopped.state()["state"] == "finished"
    named = stopped.named_checkpoint_file("first")
    named.parent.mkdir()
    shutil.copy(stopped.checkpoints()[-1], named)
    for name, code in (("first", 0), ("second", 1)):
        done = run("train", "--resume", str(path), "--checkpoint", name)
        assert done.returncode == code, done.stderr
    assert "no 'second'; allowed: first" in done.stdout.replace("\n", " ")


def test_lab_without_notebooks_says_where_to_run_it(tmp_path: Path) -> None:
    done = run("lab", "--directory", str(tmp_path))
    assert done.returncode == 2
    assert "no such notebook" in done.stderr
