"""A run on disk: written atomically, read back whole even when torn."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import subprocess
import sys
import tempfile
import threading
import warnings
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tetris_widget.config import ConfigError, TrainingConfig
from tetris_widget.run_directory import (
    EPISODE_COLUMNS,
    DamagedRunWarning,
    RunBusyError,
    RunDirectory,
    atomic_file,
    check_name,
    to_jsonable,
    without_superseded,
    write_atomically,
)
from tetris_widget.training.journal import Journal

pytestmark = pytest.mark.timeout(60)
NOBODY = 65_534


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory.create(TrainingConfig(run_dir=str(tmp_path), seed=7))


def episode(number: int, lines: int | None = 3) -> dict[str, object]:
    return {
        "type": "episode",
        "episode": number,
        "env": 0,
        "reward": 1.5,
        "lines": lines,
        "length": 12,
        "timesteps": number * 12,
        "elapsed": 0.25,
    }


def test_it_knows_its_config_state_and_versions(run: RunDirectory) -> None:
    assert run.config().seed == 7
    assert run.state()["state"] == "starting"
    assert run.state()["versions"]["stable-baselines3"]
    run.write_state("finished", reason=None)
    assert run.state()["state"] == "finished"
    assert run.state()["seed"] == 7


def test_it_knows_the_run_that_its_first_model_is_from(
    run: RunDirectory, tmp_path: Path
) -> None:
    assert run.state()["parent"] is None
    kept = tmp_path / "models" / "a.zip"
    for path in (run.best_model_file, kept):
        path.parent.mkdir()
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("metadata.json", "{}")

    def parent(path: Path) -> Any:
        config = TrainingConfig(run_dir=str(tmp_path), initial_model=str(path))
        return RunDirectory.create(config).state()["parent"]

    assert parent(run.best_model_file) == run.run_id
    assert parent(kept) is None
    with zipfile.ZipFile(kept, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"run_id": run.run_id}))
    assert parent(kept) == run.run_id
    for forged in (3, "x" * 1_000_000):
        with zipfile.ZipFile(kept, "w") as archive:
            archive.writestr("metadata.json", json.dumps({"run_id": forged}))
        assert parent(kept) is None


def test_episodes_are_read_back(run: RunDirectory) -> None:
    journal = Journal(run, pytest.fail)
    journal.write([episode(1), episode(2, None)])
    journal.close()
    frame = run.episodes()
    assert frame["episode"].tolist() == [1, 2]
    assert frame["reward"].tolist() == [1.5, 1.5]
    assert frame["lines"].isna().tolist() == [False, True]


def info(text: str) -> dict[str, object]:
    return {"type": "info", "text": text, "timesteps": 1, "elapsed": 0.1}


def test_what_must_not_be_lost_is_numbered_and_found_again(run: RunDirectory) -> None:
    journal = Journal(run, pytest.fail)
    told: list[Any] = [episode(1), info("a"), episode(2, None), info("b"), episode(3)]
    metrics = {"type": "board", "frames": []}
    journal.write([told[0], metrics, told[1]])
    journal.write(told[2:])
    journal.close()
    assert [message["seq"] for message in told] == [1, 2, 3, 4, 5]
    assert "seq" not in metrics
    assert run.last_seq() == 5
    found = run.since(1)
    assert [message["seq"] for message in found] == [2, 3, 4, 5]
    for message in found:
        original = told[message["seq"] - 1]
        assert {name: message[name] for name in original} == original
    # A later writer goes on counting, also after half a line.
    with run.monitor_file.open("a") as file:
        file.write("1.5,12,0.250,4,0,3,48,99")
    again = Journal(run, pytest.fail)
    again.write([info("c")])
    again.close()
    assert run.last_seq() == 6


def test_the_end_of_a_long_file_is_found_without_reading_it(run: RunDirectory) -> None:
    journal = Journal(run, pytest.fail)
    journal.write([episode(number) for number in range(1, 20_001)])
    journal.close()
    assert run.last_seq() == 20_000
    assert [m["episode"] for m in run.since(19_990)] == [*range(19_991, 20_001)]
    assert len(run.since(0)) == 20_000


@pytest.mark.parametrize("torn", [b"", b"1.5,12,0.2", b"\xff" * 100_000 + b"\n" * 9])
def test_what_comes_next_is_found_anywhere(run: RunDirectory, torn: bytes) -> None:
    journal = Journal(run, pytest.fail)
    count = 12_000
    for first in range(1, count, 1_000):
        journal.write([episode(number) for number in range(first, first + 999)])
        journal.write([info("a")])  # takes a number, too
    journal.close()
    with run.monitor_file.open("ab") as file:
        file.write(torn)
    for seq in (*range(0, count, 487), count - 2, count - 1):
        found = [message["seq"] for message in run.since(seq, at_most=7)]
        assert found == [*range(seq + 1, min(seq + 7, count) + 1)]
    assert run.since(count, at_most=7) == []
    assert len(run.since(count - 4_321)) == 4_321


def test_the_end_is_recorded_once_in_the_place_of_a_process(run: RunDirectory) -> None:
    journal = Journal(run, pytest.fail)
    journal.write([info("a")])
    journal.close()
    with run.journal_file.open("a") as file:
        file.write('{"type": "sta')
    entry = run.record_end("stopped", "by force", 0, rung="SIGKILL")
    assert entry is not None
    assert (entry["seq"], entry["rung"]) == (2, "SIGKILL")
    with pytest.warns(DamagedRunWarning, match="1 lines cannot be read"):
        assert [*run.journal()][-1] == entry
    assert run.state()["state"] == "stopped"
    assert run.record_end("stopped", "by force", 0) is None
    # Of a later process it is the first.
    later = run.record_end("failed", "killed", run.last_seq())
    assert later is not None
    assert later["seq"] == 3


def test_a_number_that_was_cut_is_no_number(run: RunDirectory) -> None:
    journal = Journal(run, pytest.fail)
    journal.write([episode(1), episode(2)])
    journal.close()
    whole = run.monitor_file.read_bytes()
    for cut in range(1, 12):
        run.monitor_file.write_bytes(whole[:-cut])
        with pytest.warns(DamagedRunWarning, match=r"monitor\.csv ends in half"):
            assert RunDirectory(run.path).episodes()["timesteps"].tolist() == [12]


def test_metadata_of_another_model_are_told(run: RunDirectory) -> None:
    best = run.best_model_file
    best.parent.mkdir()
    with zipfile.ZipFile(best, "w") as archive:
        archive.writestr("data", "1")
    assert run.verify() == []
    best.with_name("metadata.json").write_text('{"sha256": "of another"}')
    assert "describes another model" in run.verify()[0]


@pytest.mark.parametrize("changes", [{"format": 99}, {"format": None}])
def test_a_run_of_another_version_is_left_alone(
    changes: dict[str, Any], run: RunDirectory
) -> None:
    run.write_state("stopped", **changes)
    before = run.config_file.read_bytes()
    with pytest.raises(ConfigError, match="version"):
        run.reopen(run.config())
    assert run.config_file.read_bytes() == before
    if changes["format"]:
        with pytest.raises(ConfigError, match="allowed: up to 1"):
            run.config()


def test_sb3_reads_the_monitor_file(run: RunDirectory) -> None:
    from stable_baselines3.common.monitor import load_results

    journal = Journal(run, pytest.fail)
    journal.write([episode(1), episode(2)])
    assert load_results(str(run.path))["r"].tolist() == [1.5, 1.5]


def test_a_new_run_has_empty_tables(run: RunDirectory) -> None:
    assert run.episodes().empty
    assert run.metrics().empty
    assert run.evaluations().empty
    assert "mean_lines" in run.evaluations()


def test_torn_last_lines_are_skipped_and_told_once(run: RunDirectory) -> None:
    journal = Journal(run, pytest.fail)
    journal.write([episode(1), {"type": "info", "text": "hello"}])
    journal.close()
    run.progress_file.write_text("timesteps,elapsed,fps\n12,1.0,9.0\n24,2.")
    with run.monitor_file.open("a") as file:
        file.write("1.5,12")
    with run.journal_file.open("a") as file:
        file.write('{"type": "in')

    def read() -> None:
        assert run.episodes()["episode"].tolist() == [1]
        assert run.metrics()["timesteps"].tolist() == [12]
        assert [entry["text"] for entry in run.journal()] == ["hello"]

    with run.lock():  # a living writer is in the middle of these lines
        read()
    with pytest.warns(DamagedRunWarning, match="ends in half a line") as told:
        read()
    files = run.monitor_file, run.progress_file, run.journal_file
    assert [str(one.message).split()[0] for one in told] == [str(f) for f in files]
    read()


def test_garbage_in_the_middle_gives_one_warning(run: RunDirectory) -> None:
    run.journal_file.write_text('{"type": "a"}\nnonsense\n{"type": "b"}\n')
    with pytest.warns(DamagedRunWarning, match="1 lines cannot be read"):
        assert len(list(run.journal())) == 2
    rows = ["1.5,12,0.2,1,0,3,12,1", "1.5,12", "x,12,0.2,2,0,3,24,2", ",,,,,,,,,,,,"]
    rows += ["1.5,12,0.2,inf,0,3,24,2", "1.5,12,0.2,3,0,,36,3"]
    header = ",".join(EPISODE_COLUMNS)
    for first in ('#{"t_start": 0}\n' + header, header, "r,l\xff"):
        text = "\n".join([first, *rows, "\xff\0\u2028", ""])
        run.monitor_file.write_bytes(text.encode("latin-1", "replace"))
        with pytest.warns(DamagedRunWarning, match=r"monitor\.csv: [56] lines"):
            assert RunDirectory(run.path).episodes()["episode"].tolist() == [1, 3]
    # Nobody knows the columns of metrics without their header.
    run.progress_file.write_text("12,1.0,1,9.0\n24,2.0,2,9.0\n")
    with pytest.warns(DamagedRunWarning, match=r"progress\.csv: 2 lines"):
        assert run.metrics().empty


def test_other_ends_of_lines_in_a_text_are_no_ends_of_lines(run: RunDirectory) -> None:
    texts = ["a\u2028b", "a\u0085b", "a\x0cb", "a\rb\r\nc"]
    journal = Journal(run, pytest.fail)
    journal.write([info(text) for text in texts])
    journal.close()
    assert [entry["text"] for entry in run.journal()] == texts


def test_missing_files_are_told_and_the_rest_is_read(run: RunDirectory) -> None:
    assert not [*run.journal(), *run.episodes()["episode"], *run.metrics()["fps"]]
    journal = Journal(run, pytest.fail)
    journal.write([info("a"), episode(1), info("b")])
    journal.close()
    run.write_state("stopped", timesteps=12)
    assert run.verify() == [f"{run.progress_file} is missing"]
    with pytest.warns(DamagedRunWarning, match=r"progress\.csv is missing"):
        assert run.metrics().empty
    run.monitor_file.unlink()
    with pytest.warns(DamagedRunWarning, match=r"monitor\.csv is missing"):
        assert run.episodes().empty
    assert len([*run.journal()]) == 2
    run.journal_file.unlink()
    with pytest.warns(DamagedRunWarning, match=r"journal\.jsonl is missing"):
        assert run.evaluations().empty


def test_a_disk_that_refuses_is_reported_once_and_nothing_is_lost(
    run: RunDirectory,
) -> None:
    warnings: list[str] = []
    journal = Journal(run, warnings.append)
    run.monitor_file.mkdir()  # in the way of the file
    journal.write([episode(1)])
    journal.write([episode(2)])
    assert len(warnings) == 1
    assert "could not save" in warnings[0]
    run.monitor_file.rmdir()
    journal.write([episode(3)])
    assert "works again" in warnings[-1]
    assert run.episodes()["episode"].tolist() == [1, 2, 3]


def test_runs_are_found_the_newest_first(tmp_path: Path) -> None:
    assert RunDirectory.runs(tmp_path / "nowhere") == []
    names = ("2026-01-02_00-00-00_aaaa", "2026-01-10_00-00-00_aaaa")
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    (tmp_path / "something else").mkdir()
    assert [run.run_id for run in RunDirectory.runs(tmp_path)] == [*names[::-1]]


def test_a_whole_run_has_no_problems_and_a_torn_one_says_which(
    run: RunDirectory,
) -> None:
    journal = Journal(run, pytest.fail)
    journal.write([episode(1), {"type": "info", "text": "hello"}])
    journal.close()
    assert run.verify() == []
    with run.monitor_file.open("a") as file:
        file.write("1.5,12")
    run.checkpoint_file(5).parent.mkdir()
    run.checkpoint_file(5).write_bytes(b"half")
    run.config_file.write_text("{}}")
    run.state_file.unlink()
    told = " / ".join(run.verify())
    assert len(run.verify()) == 4
    for part in ("configuration", "run.json", "monitor.csv ends in half", "is damaged"):
        assert part in told


def test_only_runs_that_nobody_writes_to_are_deleted(
    run: RunDirectory, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError, match="is no run"):
        RunDirectory(tmp_path).delete()
    with run.lock(), pytest.raises(RunBusyError):
        run.delete()
    assert run.config_file.exists()
    run.delete()
    assert not run.path.exists()


def test_one_process_writes_to_a_run(run: RunDirectory) -> None:
    assert run.holder() is None
    with run.lock():
        assert run.holder() == os.getpid()
        with pytest.raises(RunBusyError, match=f"in use by process {os.getpid()}"):
            run.reopen(run.config())
    assert run.holder() is None
    with run.lock():
        pass


def test_the_lock_of_a_dead_process_is_nobodys(run: RunDirectory) -> None:
    code = (
        "import sys, time; from tetris_widget.run_directory import RunDirectory\n"
        "with RunDirectory(sys.argv[1]).lock(): print('has it', flush=True); "
        "time.sleep(100)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(run.path)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(RunBusyError) as refusal, run.lock():
            pass
        assert refusal.value.pid == run.holder() == process.pid
        process.kill()
        process.wait()
        assert run.holder() is None
        with run.lock():
            assert run.lock_file.read_text() == f"{os.getpid()}\n"


def test_a_rewound_run_goes_on_without_gap_or_double(run: RunDirectory) -> None:
    def metrics(timesteps: int) -> dict[str, object]:
        values = {"train/loss": 0.5} if timesteps > 12 else {}
        row = {"type": "metrics", "timesteps": timesteps, "elapsed": 1.0, "fps": 9.0}
        return {**row, "episodes": 1, "values": values}

    def write(numbers: range) -> None:
        journal = Journal(run, pytest.fail)
        for number in numbers:
            journal._progress_due = 0.0
            journal.write([episode(number), metrics(number * 12)])
        journal.close()

    write(range(1, 6))
    with run.monitor_file.open("a") as file:
        file.write("1.5,12")  # torn
    run.rewind(timesteps=36, episodes=3)
    assert run.episodes()["episode"].tolist() == [1, 2, 3]
    assert run.metrics()["timesteps"].tolist() == [12, 24, 36]
    write(range(4, 7))
    assert run.episodes()["episode"].tolist() == [1, 2, 3, 4, 5, 6]
    assert run.metrics()["timesteps"].tolist() == [12, 24, 36, 48, 60, 72]
    assert run.metrics()["train/loss"].isna().tolist() == [True] + 5 * [False]
    (kept,) = run.superseded_directory.glob("*/monitor.csv")
    assert [row.split(",")[3] for row in kept.read_text().splitlines()[:2]] == [
        "4",
        "5",
    ]
    run.rewind(timesteps=72, episodes=6)
    assert len(list(run.superseded_directory.iterdir())) == 1


def test_a_torn_journal_is_gone_on_with_on_a_line_of_its_own(run: RunDirectory) -> None:
    run.journal_file.write_text('{"type": "a"}\n{"type": "in')
    journal = Journal(run, pytest.fail)
    # The process says that it starts before it knows what it goes on from.
    journal.write([{"type": "status", "state": "starting"}])
    run.rewind(timesteps=0, episodes=0)
    journal.write([{"type": "resume", "timesteps": 0}])
    journal.close()
    with pytest.warns(DamagedRunWarning, match="1 lines cannot be read"):
        assert [e["type"] for e in run.journal()] == ["a", "status", "resume"]


def test_leftovers_are_deleted_and_what_only_sounds_like_it_is_kept(
    run: RunDirectory,
) -> None:
    kept = [run.named_checkpoint_file(name) for name in ("a.tmp.b", "a.tmp.1-1")]
    left = [kept[0].with_name(f"a.zip.tmp.{end}") for end in ("1-1", "12-34")]
    kept[0].parent.mkdir(parents=True)
    for path in (*kept, *left):
        path.touch()
    run.remove_leftovers()
    assert sorted(kept[0].parent.iterdir()) == sorted(kept)


def test_what_a_resume_took_back_is_not_counted_twice(run: RunDirectory) -> None:
    journal = Journal(run, pytest.fail)
    always = {"elapsed": 1.0, "lower": 0, "upper": 1, "games": 1}
    for timesteps in (10, 20, 30):
        item = {"type": "evaluation", "timesteps": timesteps, "mean_lines": 1.0}
        journal.write([{**item, **always}])
    journal.write([{"type": "status", "state": "stopped", "timesteps": None}])
    journal.write([{"type": "resume", "timesteps": 15}])
    journal.write([{"type": "evaluation", "timesteps": 25, "mean_lines": 2.0}])
    assert run.evaluations()["timesteps"].tolist() == [10, 25]
    assert len(list(run.journal())) == 6
    kinds = [entry["type"] for entry in without_superseded(run.journal())]
    assert kinds == ["evaluation", "status", "resume", "evaluation"]


@pytest.mark.parametrize(
    "name", ["a", "Before the change (2)", "γ=0.98", "模型", "मॉडल", "x" * 50, "é"]
)
def test_names_of_any_alphabet_are_allowed(name: str, tmp_path: Path) -> None:
    fit = check_name(name)
    (tmp_path / f"{fit}.zip.tmp.1234567-1234567").touch()
    assert check_name(fit) == fit


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "..", "a/b", "a\\b", "x" * 51, "x" * 300, "a.", "a ", " a", "-a"),
        *("a\n", "a\0", ".hidden", "a:b", "*", "🙂", None, 3),
    ],
)
def test_names_that_files_cannot_have_are_refused(name: Any) -> None:
    with pytest.raises(ValueError, match="is refused; allowed: 1 to 50 letters"):
        check_name(name)


@pytest.mark.parametrize("fault", ["os.fsync", "pathlib.Path.replace"])
def test_a_fault_at_any_step_leaves_the_old_file_and_nothing_else(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "file"
    write_atomically(path, "old")
    with monkeypatch.context() as broken:
        broken.setattr(fault, fail)
        with pytest.raises(OSError, match="No space"):
            write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_disk_that_refuses_for_long_costs_the_oldest_lines_not_the_memory(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tetris_widget.training.journal.MAX_UNWRITTEN", 2)
    warnings: list[str] = []
    journal = Journal(run, warnings.append)
    run.monitor_file.mkdir()  # in the way of the file
    for number in range(1, 6):
        journal.write([episode(number)])
    run.monitor_file.rmdir()
    journal.write([])
    assert "works again; 3 lines are lost" in warnings[-1]
    assert run.episodes()["episode"].tolist() == [4, 5]


def test_a_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, "old")
    in_the_way = f"{path.name}.tmp.{os.getpid()}-{threading.get_native_id()}"
    path.with_name(in_the_way).mkdir()
    with pytest.raises(OSError):
        write_atomically(path, "new")
    assert path.read_text() == "old"


def test_threads_that_write_a_file_leave_the_whole_of_one_of_them(
    tmp_path: Path,
) -> None:
    path = tmp_path / "file"
    texts = [str(number) * 10_000 for number in range(8)]

    def write(text: str) -> None:
        for _ in range(50):
            write_atomically(path, text, sync=False)

    with ThreadPoolExecutor() as pool:
        list(pool.map(write, texts))
    assert path.read_text() in texts
    assert list(tmp_path.iterdir()) == [path]


def test_numpy_and_nan_become_json() -> None:
    value = {"a": np.float32(1.5), "b": [np.int64(2), float("nan")], "c": (True, None)}
    assert json.dumps(to_jsonable(value)) == (
        '{"a": 1.5, "b": [2, null], "c": [true, null]}'
    )


def test_two_threads_may_write_one_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with atomic_file(path) as file:
        file.write(b"one")
        other = threading.Thread(target=write_atomically, args=(path, "another"))
        other.start()
        other.join(10)
        assert path.read_text() == "another"
    assert path.read_text() == "one"
    assert list(tmp_path.iterdir()) == [path]


def status(state: str, reason: str | None = None) -> dict[str, object]:
    return {"type": "status", "state": state, "reason": reason, "timesteps": 12}


def write_journal(run: RunDirectory, messages: list[Any]) -> None:
    journal = Journal(run, pytest.fail)
    journal.write(messages)
    journal.close()


TORN = [b"", b"[" * 99_999, b'{"format": 1, "se', b"\xff\0", b"[]"]


@pytest.mark.parametrize("torn", TORN, ids=range(len(TORN)))
def test_a_torn_run_json_is_kept_aside_and_made_anew_from_the_rest(
    torn: bytes, run: RunDirectory
) -> None:
    write_journal(run, [status("running"), status("stopped", "by hand"), info("a")])
    run.state_file.write_bytes(torn)
    found = RunDirectory(run.path)
    known = {"format": 1, "seed": 7, "parent": None}
    end = {"state": "stopped", "reason": "by hand", "timesteps": 12}
    assert found.state() == {**known, **end}
    assert "run.json is missing or cannot be read" in run.verify()[0]
    with pytest.warns(DamagedRunWarning, match=r"run\.json was damaged") as told:
        found.reopen(found.config())
        found.write_state("finished")
    assert len(told) == 1
    assert run.path.joinpath("run.json.damaged").read_bytes() == torn
    state = RunDirectory(run.path).state()
    assert (state["format"], state["seed"], state["state"]) == (1, 7, "finished")


def test_the_first_damaged_run_json_is_not_written_over(run: RunDirectory) -> None:
    for torn in (b"first", b"second"):
        run.state_file.write_bytes(torn)
        with pytest.warns(DamagedRunWarning, match=r"run\.json was damaged"):
            RunDirectory(run.path).write_state("stopped")
    assert run.path.joinpath("run.json.damaged").read_bytes() == b"first"


@pytest.mark.parametrize("torn", [None, *TORN], ids=range(len(TORN) + 1))
def test_what_a_process_knows_of_run_json_outlives_the_file(
    torn: bytes | None, run: RunDirectory
) -> None:
    before = run.state()
    if torn is None:
        run.state_file.unlink()
    else:
        run.state_file.write_bytes(torn)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        run.write_state("stopped", timesteps=3)
    assert len(told) == (torn is not None)
    changed = {"state": "stopped", "timesteps": 3}
    after = RunDirectory(run.path).state()
    assert after == {**before, **changed, "changed_at": after["changed_at"]}


@pytest.mark.parametrize("left", [None, "{}", '{"state": "failed"}'])
def test_a_run_without_what_run_json_told_is_gone_on_with(
    left: str | None, run: RunDirectory
) -> None:
    if left is None:
        run.state_file.unlink()
    else:
        run.state_file.write_text(left)
    RunDirectory(run.path).reopen(run.config())
    state = RunDirectory(run.path).state()
    assert (state["format"], state["seed"], state["state"]) == (1, 7, "starting")


@pytest.mark.parametrize("is_state_there", [False, True])
@pytest.mark.parametrize("torn", [None, b"", b'{"seed": '])
def test_a_run_without_a_whole_configuration_says_so(
    torn: bytes | None, is_state_there: bool, run: RunDirectory
) -> None:
    config = run.config()
    if torn is None:
        run.config_file.unlink()
    else:
        run.config_file.write_bytes(torn)
    if not is_state_there:
        run.state_file.unlink()
    for call in (lambda: run.reopen(config), run.check_resumable):
        with pytest.raises(ConfigError, match=r"config\.json: ") as refusal:
            call()
        assert "version" not in str(refusal.value)


def test_files_that_were_deleted_under_a_run_are_there_again_at_its_end(
    run: RunDirectory,
) -> None:
    config, before = run.config(), run.state()
    of_the_process = RunDirectory(run.path)
    of_the_process.config()
    for writer in (run, of_the_process):
        run.config_file.unlink()
        run.state_file.unlink()
        writer.write_state("stopped")
        again = RunDirectory(run.path)
        again.check_resumable()
        assert again.config() == config
        assert again.state()["versions"] == before["versions"]


def test_a_configuration_that_somebody_changes_meanwhile_is_left_alone(
    run: RunDirectory,
) -> None:
    run.config_file.write_text("{")
    run.write_state("stopped")
    assert run.config_file.read_text() == "{"


@contextmanager
def read_only_view(path: Path, at: Path) -> Iterator[Path]:
    """Show a directory at another place, where nobody can write, be it root."""
    at.mkdir()
    if subprocess.run(["mount", "--bind", path, at], capture_output=True).returncode:
        pytest.skip("only root may mount")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", at], check=True)
        yield at
    finally:
        subprocess.run(["umount", "--lazy", at], check=True)


def call_as_nobody(function: Callable[[], Any]) -> Any:
    """Return what a function returns to a user who may do only what all may do."""

    def work() -> None:
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        try:
            theirs.send(function())
        except Exception as error:
            theirs.send(error)

    # Forked: another user need not reach the interpreter.
    context: Any = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=work)
    process.start()
    assert ours.poll(30), "nobody answered"
    answer = ours.recv()
    process.join(30)
    return answer


@pytest.fixture
def torn_run() -> Iterator[RunDirectory]:
    """A run of somebody else's, with torn tables, in a place that all can read."""
    with tempfile.TemporaryDirectory() as home:
        Path(home).chmod(0o755)
        run = RunDirectory.create(TrainingConfig(run_dir=home))
        write_journal(run, [status("running"), episode(1), status("stopped")])
        run.write_state("stopped", reason=None)
        for path in (run.monitor_file, run.journal_file):
            with path.open("ab") as file:
                file.write(b"1.5,12")
        for path in (run.path, *run.path.iterdir()):
            path.chmod(0o755 if path.is_dir() else 0o644)
        yield run


def read_all(path: Path) -> tuple[Any, ...]:
    run = RunDirectory(path)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        episodes = run.episodes()["episode"].tolist()
        states = [entry.get("state") for entry in run.journal()]
    problems = len(run.verify())
    return run.holder(), episodes, states, run.last_seq(), len(told), problems


WHAT_IS_THERE = (None, [1], ["running", "stopped"], 3, 2, 2)


@pytest.mark.parametrize("has_lock_file", [False, True])
def test_a_run_is_read_where_nothing_can_be_written(
    has_lock_file: bool, torn_run: RunDirectory, tmp_path: Path
) -> None:
    if has_lock_file:
        with torn_run.lock():
            pass
    files = {path: path.stat().st_mtime_ns for path in torn_run.path.iterdir()}
    with read_only_view(torn_run.path, tmp_path / "view") as view:
        assert read_all(view) == WHAT_IS_THERE
        with torn_run.lock():
            assert RunDirectory(view).holder() == os.getpid()
        assert RunDirectory(view).holder() is None
        with pytest.raises(ConfigError, match="view cannot be written to"):
            RunDirectory(view).reopen(torn_run.config())
    torn_run.lock_file.unlink()
    files.pop(torn_run.lock_file, None)
    now = {path: path.stat().st_mtime_ns for path in torn_run.path.iterdir()}
    assert now == files


@pytest.mark.parametrize("has_lock_file", [False, True])
def test_a_run_of_somebody_elses_is_read(
    has_lock_file: bool, torn_run: RunDirectory
) -> None:
    if has_lock_file:
        with torn_run.lock():
            pass
    torn_run.path.chmod(0o555)
    path, config = torn_run.path, torn_run.config()
    # What is imported late, is by now.
    assert read_all(path) == WHAT_IS_THERE
    assert call_as_nobody(lambda: read_all(path)) == WHAT_IS_THERE
    if has_lock_file:
        with torn_run.lock():
            holder = call_as_nobody(lambda: RunDirectory(path).holder())
            assert holder == os.getpid()
    refusal = call_as_nobody(lambda: RunDirectory(path).reopen(config))
    assert isinstance(refusal, ConfigError)
    assert f"{path} cannot be written to" in str(refusal)


def test_files_that_may_not_be_read_are_told_and_the_rest_is_read(
    torn_run: RunDirectory,
) -> None:
    if os.geteuid() == 0:
        torn_run.path.chmod(0o777)
    with torn_run.lock():
        pass
    for path in (torn_run.journal_file, torn_run.lock_file):
        path.chmod(0)
    path = torn_run.path

    def read() -> tuple[Any, ...]:
        run = RunDirectory(path)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            episodes = run.episodes()["episode"].tolist()
            entries = [*run.journal()]
        said = [str(one.message) for one in told]
        return run.holder(), episodes, entries, said, run.verify()

    holder, episodes, entries, said, problems = call_as_nobody(read)
    assert (holder, episodes, entries) == (None, [1], [])
    unreadable = f"{torn_run.journal_file} cannot be read: Permission denied"
    assert unreadable in said
    assert unreadable in problems


def test_a_run_json_that_may_not_be_read_is_not_replaced(
    torn_run: RunDirectory,
) -> None:
    torn_run.path.chmod(0o777)
    before = torn_run.state_file.read_bytes()
    torn_run.state_file.chmod(0)
    path = torn_run.path
    refusal = call_as_nobody(lambda: RunDirectory(path).write_state("failed"))
    assert isinstance(refusal, PermissionError)
    torn_run.state_file.chmod(0o644)
    assert torn_run.state_file.read_bytes() == before


def test_rewards_that_are_no_finite_numbers_are_read_back(run: RunDirectory) -> None:
    rewards = [math.nan, math.inf, -math.inf, np.float64("nan"), np.float32("inf"), 2.0]
    told = [{**episode(n), "reward": r} for n, r in enumerate(rewards, 1)]
    write_journal(run, told)
    found = run.episodes()
    assert found["episode"].tolist() == [1, 2, 3, 4, 5, 6]
    np.testing.assert_array_equal(found["reward"], rewards)
    assert found["reward"].dtype == np.float64
    assert len(run.since(0)) == len(rewards)


@pytest.mark.parametrize(
    ("text", "reward"),
    [
        *((f"{sign}{text}", math.nan) for sign in ("", "-") for text in ("nan", "NaN")),
        *((text, math.inf) for text in ("inf", "Inf", "Infinity", "INF", "+inf")),
        *((text, -math.inf) for text in ("-inf", "-Infinity")),
    ],
)
def test_any_spelling_of_a_reward_is_read(
    text: str, reward: float, run: RunDirectory
) -> None:
    write_journal(run, [episode(1), episode(2)])
    with run.monitor_file.open("a") as file:
        file.write(f"{text},12,0.250,3,0,3,36,3\n")
    np.testing.assert_array_equal(run.episodes()["reward"], [1.5, 1.5, reward])


@pytest.mark.parametrize("torn", ["", "n", "na", "i", "-", "1.5e", "1.5n"])
def test_half_a_reward_is_none(torn: str, run: RunDirectory) -> None:
    write_journal(run, [episode(1), {**episode(2), "reward": math.nan}])
    with run.monitor_file.open("a") as file:
        file.write(f"{torn},12,0.250,3,0,3,36,3\n")
    with pytest.warns(DamagedRunWarning, match=r"monitor\.csv: 1 lines"):
        assert run.episodes()["episode"].tolist() == [1, 2]


def test_a_relative_path_stays_the_same_directory_wherever_one_goes(
    run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    found = [RunDirectory(run.run_id), RunDirectory(f"~/{run.run_id}")]
    monkeypatch.chdir("/")
    for one in found:
        assert one.path == run.path
        assert one.config() == run.config()
