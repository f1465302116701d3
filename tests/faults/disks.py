"""The disk is full, read-only, gone, or what is on it is damaged."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from tests.faults.kills import FOREVER, assert_as_if_never_killed
from tests.faults.matrix import (
    Kernel,
    Measure,
    NotPossibleHere,
    case,
    check_told,
    wait_for,
)
from tests.faults.toy import REFUSAL, RefusingManager, ToyManager
from tests.training.test_worker import SMALL
from tetris_widget.config import TrainingConfig
from tetris_widget.manager import TrainingManager
from tetris_widget.run_directory import RunDirectory, read_metadata

REFUSALS = (errno.EROFS, errno.EIO, errno.ENOSPC)
# What a process may have written between our look and its.
MOST_IN_FLIGHT = 20_000
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


@case("disk full, then not", full=5, short=1)
def full_disk(times: int, home: Path) -> list[Measure]:
    held = Measure("faults survived", times, "")
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
            assert kernel.manager.stop_training()
            kernel.until_told("stopped")
            check_told(kernel)
            shutil.rmtree(kernel.run.path)
    held.add(times)
    return [held, kernel.calls]


def fill(path: Path) -> None:
    """Leave no byte."""
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(512))
        except OSError:
            return


@case("disk read-only, failing or full, then not", full=5, short=1)
def refusing_disk(times: int, home: Path) -> list[Measure]:
    held = Measure("faults survived", len(REFUSALS) * times + 1, "")
    word = home / "word"
    config = TrainingConfig(total_timesteps=FOREVER, run_dir=str(home))
    with (
        mock.patch.dict(os.environ, {REFUSAL: str(word)}),
        Kernel(ToyManager) as kernel,
        Kernel(RefusingManager) as real,
    ):
        kernel.start(config)
        for code in REFUSALS * times:
            kernel.until_trained()
            refuse_for_a_while(kernel, word, code, ["could not save to"])
        end_as_if_nothing_had_been(kernel)
        assert_as_if_never_killed(kernel.run)
        real.start(
            TrainingConfig(**{**SMALL, "checkpoint_seconds": 0.1}, run_dir=str(home))
        )
        real.until_trained()
        refuse_for_a_while(
            real,
            word,
            errno.EROFS,
            ["could not save to", "could not save a checkpoint"],
        )
        end_as_if_nothing_had_been(real)
    held.add(len(REFUSALS) * times + 1)
    return [held, kernel.calls, real.calls]


def refuse_for_a_while(
    kernel: Kernel, word: Path, code: int, warnings: list[str]
) -> None:
    """Let the disk refuse until that is said, and then until saving works again."""
    said, written = len(kernel.messages), kernel.run.monitor_file.stat().st_size

    def texts() -> list[str]:
        return [m.get("text", "") for m in kernel.messages[said:]]

    # At once: half a word is none.
    half = word.with_suffix(".half")
    half.write_text(str(code))
    half.replace(word)
    wait_for(lambda: all(any(words in t for t in texts()) for words in warnings))
    assert any(os.strerror(code) in text for text in texts())
    goes_on(kernel)
    grown = kernel.run.monitor_file.stat().st_size - written
    assert grown < MOST_IN_FLIGHT, "the disk did not refuse"
    word.unlink()
    wait_for(lambda: sum("works again" in t for t in texts()) >= len(warnings))
    assert not any("are lost" in text for text in texts())


def end_as_if_nothing_had_been(kernel: Kernel) -> None:
    """The run has everything, and can be gone on with."""
    assert kernel.manager.stop_training()
    kernel.until_told("stopped")
    check_told(kernel)
    kernel.start({}, resume=kernel.run)
    assert kernel.manager.stop_training()


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
        entries, episodes, metrics = [*run.journal()], run.episodes(), run.metrics()
        total = 0
        files = (run.journal_file, run.monitor_file, run.progress_file)
        for number, path in enumerate(files):
            whole = path.read_bytes()
            rows = len((entries, episodes, metrics)[number])
            other_lines = whole.count(b"\n") - rows
            # Of few metrics all but the names of the columns.
            for cut in range(1, min(200, len(whole) - whole.index(b"\n"))):
                path.write_bytes(whole[:-cut])
                torn = RunDirectory(run.path)
                with warnings.catch_warnings(record=True) as said:
                    warnings.simplefilter("always")
                    kept = [*torn.journal()], torn.episodes(), torn.metrics()
                assert len(said) == (whole[-cut - 1 : -cut] != b"\n")
                assert len(kept[number]) == whole[:-cut].count(b"\n") - other_lines
                assert kept[0] == entries[: len(kept[0])]
                assert len(kept[1]) == len(episodes) or path == run.monitor_file
                assert (kept[1] == episodes.iloc[: len(kept[1])]).all(axis=None)
                assert len(kept[2]) == len(metrics) or path == run.progress_file
                assert (kept[2] == metrics.iloc[: len(kept[2])]).all(axis=None)
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
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            kinds = [e["type"] for e in run.journal()]
        assert [str(one.message) for one in said] == [
            f"{run.journal_file}: 1 lines cannot be read"  # the torn one, not the next
        ]
        assert kinds[len(entries) - 1 :].count("resume") == 1
        again = [m for m in kernel.messages if m["type"] == "status"][-3:]
        kept_again = [e for e in run.since(0) if e["type"] == "status"][-3:]
        assert [m["seq"] for m in again] == [e["seq"] for e in kept_again]
        assert total, "no line was torn"
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
