"""A run on disk: written atomically, read back whole even when torn."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
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
    assert [message["seq"] for message in run.since(1, before=4)] == [2, 3]
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
