"""The disk is full, read-only, gone, or what is on it is damaged."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults.kills import FOREVER
from tests.faults.matrix import (
    Kernel,
    Measure,
    NotPossibleHere,
    case,
    check_told,
    wait_for,
)
from tests.faults.toy import ToyManager
from tests.training.test_worker import SMALL
from tetris_widget.config import TrainingConfig
from tetris_widget.manager import TrainingManager
from tetris_widget.run_directory import RunDirectory, read_metadata

DISK_BYTES = 400_000
CUT_BYTES = 1_000


@contextmanager
def small_disk(home: Path) -> Iterator[Path]:
    """A file system of its own.

    Raises:
        NotPossibleHere: nobody may mount one.
    """
    path = home / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(path)]
    if subprocess.run(mount, capture_output=True).returncode:
        raise NotPossibleHere("only root may mount a small disk")
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def warned(kernel: Kernel, words: str) -> bool:
    return any(words in text for text in kernel.texts())


def goes_on(kernel: Kernel) -> None:
    """Training is under way, whatever the disk does."""
    kernel.until_trained(200)
    assert kernel.status()["effective"] == "running"


@case("disk full, then not; read-only, then not", full=5, short=1)
def full_disk(times: int, home: Path) -> list[Measure]:
    held = Measure("faults survived", 2 * times, "")
    with small_disk(home) as disk, Kernel(ToyManager) as kernel:
        config = TrainingConfig(total_timesteps=FOREVER, run_dir=str(disk))
        for _ in range(times):
            kernel.messages.clear()
            kernel.start(config)
            kernel.until_trained()
            filler = disk / "filler"
            fill(filler)
            wait_for(lambda: warned(kernel, "could not save to"))
            goes_on(kernel)
            filler.unlink()
            wait_for(lambda: warned(kernel, "works again"))
            kernel.messages[:] = [m for m in kernel.messages if "seq" in m]
            remount(disk, "ro")
            try:
                kernel.until_trained(200)
            finally:
                remount(disk, "rw")
            goes_on(kernel)
            assert kernel.manager.stop_training()
            kernel.until_told("stopped")
            check_told(kernel)
            shutil.rmtree(kernel.run.path)
    held.add(2 * times)
    return [held, kernel.calls]


def fill(path: Path) -> None:
    """Leave no byte."""
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(512))
        except OSError:
            return


def remount(path: Path, how: str) -> None:
    # Files that are open for writing keep a disk from being read-only.
    command = ["mount", "-o", f"remount,{how}", str(path)]
    subprocess.run(command, capture_output=True)


@case("directory deleted", full=5, short=1)
def deleted(times: int, home: Path) -> list[Measure]:
    held = Measure("faults survived", times, "")
    config = TrainingConfig(total_timesteps=FOREVER, run_dir=str(home))
    with Kernel(ToyManager) as kernel:
        for _ in range(times):
            kernel.messages.clear()
            kernel.start(config)
            kernel.until_trained()
            shutil.rmtree(kernel.run.path, ignore_errors=True)
            wait_for(lambda: [m for m in kernel.of_type("info") if _is_warning(m)])
            goes_on(kernel)
            assert kernel.manager.stop_training()
            kernel.until_told("stopped")
            numbers = [m["episode"] for m in kernel.of_type("episode")]
            assert numbers == list(range(1, len(numbers) + 1))
    held.add(times)
    return [held, kernel.calls]


def _is_warning(message: dict[str, object]) -> bool:
    return message["kind"] == "warning"


@case("journal, episodes and metrics cut at every byte of their ends", full=1, short=1)
def torn_tables(times: int, home: Path) -> list[Measure]:
    config = TrainingConfig(total_timesteps=2_000, run_dir=str(home))
    cuts = Measure("cuts", 10_000, "")
    with Kernel(ToyManager) as kernel:
        assert kernel.call("start_training", config)
        assert kernel.manager.wait(60)
        run = kernel.run
        entries, episodes = list(run.journal()), run.episodes()
        total = 0
        for path in (run.journal_file, run.monitor_file):
            whole = path.read_bytes()
            for cut in range(1, 200):
                path.write_bytes(whole[:-cut])
                kept = [*run.journal()], run.episodes()
                assert kept[0] == entries[: len(kept[0])]
                assert len(kept[1]) == len(episodes) or path == run.monitor_file
                assert (kept[1] == episodes.iloc[: len(kept[1])]).all(axis=None)
                assert run.since(0)[0]["seq"] == 1
                total += 1
            path.write_bytes(whole)
        # Go on with the last of them: nothing is glued to half a line.
        run.journal_file.write_bytes(run.journal_file.read_bytes()[:-7])
        run.monitor_file.write_bytes(run.monitor_file.read_bytes()[:-7])
        assert kernel.call("start_training", {"total_timesteps": 4_000}, resume=run)
        assert kernel.manager.wait(60)
        numbers = run.episodes()["episode"].tolist()
        # The checkpoint counts an episode whose line has been cut: it stays lost.
        assert numbers == [*range(1, 400), *range(401, 801)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the torn line
            assert [e for e in run.journal() if e["type"] == "resume"]
        cuts.add(total)
        return [cuts]


@case("a checkpoint cut at every 1 kB; another zip's metadata", full=1, short=1)
def damaged_files(times: int, home: Path) -> list[Measure]:
    from tetris_widget.training.checkpointer import last_checkpoint

    config = TrainingConfig(**{**SMALL, "checkpoint_seconds": 0.1}, run_dir=str(home))
    cuts = Measure("cuts", 10_000, "")
    with Kernel(TrainingManager) as kernel:
        kernel.start(config)
        wait_for(lambda: len(kernel.run.checkpoints()) > 1)
        wait_for(kernel.run.best_model_file.exists)
        assert kernel.manager.stop_training()
        run = kernel.run
        newest, before, *_ = run.checkpoints()
        whole = newest.read_bytes()
        for size in range(0, len(whole), CUT_BYTES):
            newest.write_bytes(whole[:size])
            said: list[str] = []
            path, _ = last_checkpoint(run, None, said.append)
            assert path == before
            assert len(said) == 1
            assert any(newest.name in text for text in run.verify())
            cuts.add(size // CUT_BYTES + 1)
        # It still goes on, with a warning.
        kernel.start({}, resume=run)
        kernel.until_trained()
        assert warned(kernel, "going on from the checkpoint before it")
        assert kernel.manager.stop_training()
        beside = run.best_model_file.with_name("metadata.json")
        beside.write_text(json.dumps({"best_lines": 10**6, "sha256": "another"}))
        found = read_metadata(run.best_model_file)
        assert found is not None
        assert found["best_lines"] < 10**6
        assert any("metadata.json" in text for text in run.verify())
        return [cuts, kernel.calls]


@case("a directory that cannot be written", full=1, short=1)
def unwritable(times: int, home: Path) -> list[Measure]:
    with Kernel(ToyManager) as kernel:
        for place in (Path("/proc/nowhere"), Path("/dev/null")):
            config = TrainingConfig(run_dir=str(place))
            assert not kernel.call("start_training", config)
            status = kernel.status()
            assert status["status"] == "failed"
            assert f"cannot write to {place}" in status["reason"]
        kernel.start(TrainingConfig(total_timesteps=FOREVER, run_dir=str(home)))
        assert RunDirectory(kernel.run.path).holder() == kernel.pid
        assert os.getpid() != kernel.pid
        return [kernel.calls]
