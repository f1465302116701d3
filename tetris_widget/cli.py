"""The command line: train in a terminal, open the quickstart.

Owns arguments, the progress bar and exit codes. Deliberately doesn't know notebooks or
how training is done: it is one more user of `TrainingManager`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from tetris_widget.config import PRESETS, ConfigError, TrainingConfig
from tetris_widget.manager import TrainingManager
from tetris_widget.run_directory import RunDirectory

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130
STOP_SECONDS = 10.0
NOTEBOOK = "quickstart.ipynb"


def main(arguments: list[str] | None = None) -> int:
    """Run `tetris-widget`; return the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        if options.command == "lab":
            return _lab(options.directory)
        changes = values(options.config, options.set)
        if options.resume is None:
            if options.checkpoint is not None:
                raise ConfigError("--checkpoint: needs --resume RUN, whose it is")
            if options.preset is not None:
                return _train(TrainingConfig.preset(options.preset, **changes))
            return _train(TrainingConfig(**changes))
        if options.preset is not None:
            raise ConfigError(
                f"--preset {options.preset}: does not go with --resume, for a run "
                "keeps its fields; allowed: --set, for those that can be changed"
            )
        run = RunDirectory(options.resume)
        return _train(run.config().for_resuming(changes), run, options.checkpoint)
    except (ConfigError, FileNotFoundError) as error:
        print(f"tetris-widget: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tetris-widget")
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser(
        "train",
        help="train in the terminal",
        description="Train in the terminal. Ctrl-C stops, and saves what --resume "
        "goes on from.",
    )
    base = train.add_mutually_exclusive_group()
    base.add_argument("--config", metavar="FILE", help="a JSON file of fields")
    base.add_argument(
        "--preset", metavar="NAME", help=f"a kind of learner: {', '.join(PRESETS)}"
    )
    train.add_argument(
        "--set",
        metavar="KEY=VALUE",
        nargs="+",
        action="extend",
        default=[],
        help="fields of TrainingConfig, for example rows=10 seed=1",
    )
    train.add_argument(
        "--resume",
        metavar="RUN",
        help="go on with the run in this directory, from its last checkpoint",
    )
    train.add_argument(
        "--checkpoint",
        metavar="NAME",
        help="with --resume: go on from the checkpoint of this name",
    )
    lab = commands.add_parser("lab", help="open the quickstart in JupyterLab")
    lab.add_argument("--directory", default="notebooks", help="where notebooks are")
    return parser


def values(path: str | None, settings: list[str]) -> dict[str, Any]:
    """Return the fields of a file, or none, changed by texts of the form key=value.

    Raises:
        ConfigError: the file makes no configuration, or a text has another form.
    """
    file = TrainingConfig.from_file(path) if path else None
    found = file.model_dump(mode="json", exclude_unset=True) if file else {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise ConfigError(f"--set {setting}: expected key=value")
        found[key] = _value(text)
    return found


def _value(text: str) -> Any:
    """Read a value as JSON where it is, else as text: 3, true, null, bag."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _train(
    config: TrainingConfig,
    resume: RunDirectory | None = None,
    checkpoint: str | None = None,
) -> int:
    progress = _Progress(config.total_timesteps)
    manager = TrainingManager(progress)
    with progress:
        try:
            manager.start_training(config, resume, checkpoint)
            manager.set_view("headless")  # nobody sees a game; the run keeps its own
            manager.wait()
            interrupted = False
        except KeyboardInterrupt:
            interrupted = True
            # Once more changes nothing: it ends within this time.
            with contextlib.suppress(KeyboardInterrupt):
                manager.stop_training(STOP_SECONDS)
    manager.close()
    status = manager.get_status()
    reason = f" ({status['reason']})" if status["reason"] else ""
    where = f": {status['run_dir']}" if status["run_dir"] else ""
    print(f"{status['status'].capitalize()}{reason}{where}")
    if status["status"] == "failed":
        return 1
    return EXIT_INTERRUPTED if interrupted else 0


class _Progress:
    """A rich progress bar that is fed with the run's messages."""

    def __init__(self, total_timesteps: int) -> None:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        self._bar = Progress(
            TextColumn("{task.fields[state]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[fps]}"),
            TextColumn("{task.fields[lines]}"),
            TimeRemainingColumn(),
        )
        self._task = self._bar.add_task(
            "training", total=total_timesteps, state="starting", fps="", lines=""
        )

    def __enter__(self) -> _Progress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind == "status":
            self._bar.update(self._task, state=message["state"])
        elif kind == "metrics":
            fps = f"{message['fps']:,.0f} timesteps/s"
            self._bar.update(self._task, completed=message["timesteps"], fps=fps)
        elif kind == "evaluation":
            lines = f"{message['mean_lines']:,.0f} lines per game"
            if message["capped"]:
                lines = f"at least {message['lower']:,.0f} lines per game"
            self._bar.update(self._task, lines=lines)
        elif kind == "error" or (kind == "info" and message["kind"] == "warning"):
            self._bar.console.print(message["text"])


def _lab(directory: str) -> int:
    notebook = Path(directory) / NOTEBOOK
    if not notebook.exists():
        raise FileNotFoundError(
            f"{notebook}: no such notebook; run this in the project's directory"
        )
    beside_python = Path(sys.executable).with_name("jupyter-lab")
    lab = str(beside_python) if beside_python.exists() else shutil.which("jupyter-lab")
    if lab is None:
        raise FileNotFoundError(
            "JupyterLab is not installed: pip install 'tetris-widget[lab]'"
        )
    command = [lab, str(notebook)]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        # In a container one is; JupyterLab would refuse.
        command.append("--allow-root")
    try:
        return subprocess.run(command, check=False).returncode
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
