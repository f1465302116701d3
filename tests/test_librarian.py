"""A library's desk: jobs are done elsewhere, and told of; models play side by side."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from stable_baselines3 import PPO

from tests.test_library import forge
from tests.training.runs import SMALL, new_run
from tetris_widget.config import TrainingConfig
from tetris_widget.librarian import CLOSE_SECONDS, Librarian
from tetris_widget.library import ModelLibrary
from tetris_widget.run_directory import RunDirectory
from tetris_widget.training.best import model_zip

pytestmark = pytest.mark.timeout(90)


class Told(list[dict[str, Any]]):
    """What a librarian has said."""

    def of_type(self, kind: str) -> list[dict[str, Any]]:
        return [message for message in self if message["type"] == kind]

    def wait_for_text(self, text: str) -> dict[str, Any]:
        def found() -> list[dict[str, Any]]:
            return [m for m in self.of_type("told") if text in m["text"]]

        wait_for(found)
        return found()[-1]


def wait_for(condition: Callable[[], Any], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.01)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    directory = str(tmp_path_factory.mktemp("runs"))
    options = {**SMALL, "total_timesteps": 1_000}
    session = new_run(TrainingConfig(**options, run_dir=directory))
    session.train()
    return session.run


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def library(tmp_path: Path) -> ModelLibrary:
    return ModelLibrary(tmp_path / "models")


@pytest.fixture
def librarian(library: ModelLibrary, told: Told) -> Iterator[Librarian]:
    made = Librarian(library, told.append)
    yield made
    made.close()


def names(told: Told) -> list[str]:
    return [entry["name"] for entry in told.of_type("models")[-1]["entries"]]


def test_a_model_is_saved_listed_renamed_deleted_and_restored(
    librarian: Librarian, told: Told, run: RunDirectory
) -> None:
    job = {"run_dir": str(run.path), "which": "last", "notes": "mine"}
    librarian.request({"do": "save", "name": "a", **job})
    told.wait_for_text("“a” is saved")
    (entry,) = told.of_type("models")[-1]["entries"]
    assert (entry["name"], entry["notes"]) == ("a", "mine")
    librarian.request({"do": "rename", "name": "a", "new_name": "b"})
    told.wait_for_text("“a” is now “b”")
    assert names(told) == ["b"]
    librarian.request({"do": "notes", "name": "b", "notes": "yours"})
    told.wait_for_text("are saved")
    assert told.of_type("models")[-1]["entries"][0]["notes"] == "yours"
    librarian.request({"do": "delete", "name": "b"})
    assert told.wait_for_text("is deleted")["undo"] == "b"
    assert names(told) == []
    librarian.request({"do": "restore", "name": "b"})
    told.wait_for_text("is back")
    assert names(told) == ["b"]


def test_what_somebody_else_does_is_seen(
    librarian: Librarian, told: Told, library: ModelLibrary, run: RunDirectory
) -> None:
    library.save("a", run, "last")
    wait_for(lambda: told.of_type("models") and names(told) == ["a"])


@pytest.mark.parametrize("name", ["a/b", "..", "x" * 300, "", "nul\0", None])
def test_a_bad_name_is_a_sentence(
    name: Any, librarian: Librarian, told: Told, run: RunDirectory
) -> None:
    job = {"run_dir": str(run.path), "which": "last", "notes": ""}
    librarian.request({"do": "save", "name": name, **job})
    assert told.wait_for_text("is refused; allowed: 1 to 50")["level"] == "error"


def test_a_model_goes_out_and_comes_in(
    librarian: Librarian, told: Told, library: ModelLibrary, run: RunDirectory
) -> None:
    library.save("a", run, "last")
    librarian.request({"do": "export", "name": "a", "id": 7})
    wait_for(lambda: told.of_type("export"))
    (sent,) = told.of_type("export")
    assert (sent["id"], sent["name"]) == (7, "a.zip")
    job = {"do": "import", "file": "a.zip", "data": sent["data"]}
    librarian.request({**job, "name": "a"})
    told.wait_for_text("'a' is taken")
    librarian.request({**job, "name": "模型 2"})
    told.wait_for_text("“模型 2” is imported")
    assert names(told) == ["a", "模型 2"]
    assert list((library.path / "incoming").iterdir()) == []


def test_a_foreign_model_is_refused_and_python_is_offered(
    librarian: Librarian, told: Told, library: ModelLibrary, tmp_path: Path
) -> None:
    foreign = tmp_path / "foreign.zip"
    PPO("MlpPolicy", "CartPole-v1", n_steps=8, batch_size=8, device="cpu").save(foreign)
    for data, reason in {
        foreign.read_bytes(): "b.zip is not a model that a library has saved",
        b"nonsense": "b.zip is not a model, or damaged",
    }.items():
        job = {"do": "import", "name": "b", "file": "b.zip", "data": data}
        librarian.request(job)
        refused = told.wait_for_text(reason)
        assert refused["level"] == "error"
        # Nonsense becomes no model by being trusted.
        offer = "panel.library.import_model(file, trust=True)"
        assert (offer in refused["text"]) == (data != b"nonsense")
        assert ("trust" in refused["text"]) == (data != b"nonsense")
        told.clear()
    assert library.names() == []
    assert list((library.path / "incoming").iterdir()) == []


def test_two_models_play_the_same_pieces_side_by_side(
    librarian: Librarian, told: Told, library: ModelLibrary, run: RunDirectory
) -> None:
    library.save("a", run, "last")
    library.save("b", run, "best")
    librarian.request({"do": "demo", "names": ["a", "b"], "speed": 1.0})
    wait_for(lambda: told.of_type("demo"))
    board = {"rows": 8, "columns": 5}
    shown = [{"name": "a", **board}, {"name": "b", **board}]
    assert told.of_type("demo") == [{"type": "demo", "boards": shown}]

    def pieces(board: int, game: int) -> list[int]:
        frames = [m["frame"] for m in told.of_type("frame") if m["board"] == board]
        return [f["piece"] for f in frames if f["game"] == game]

    wait_for(lambda: pieces(0, 3) and pieces(1, 3))
    for game in (1, 2):
        a, b = pieces(0, game), pieces(1, game)
        both = min(len(a), len(b))
        assert both > 3
        assert a[:both] == b[:both]
    assert pieces(0, 1)[:5] != pieces(0, 2)[:5]

    librarian.request({"do": "end_demo"})
    wait_for(lambda: told[-1] == {"type": "demo", "boards": []})
    count = len(told)
    time.sleep(0.3)
    assert len(told) == count


def test_models_that_press_keys_play_the_same_pieces_side_by_side(
    librarian: Librarian, told: Told, library: ModelLibrary, tmp_path: Path
) -> None:
    kind = {"action": "keys", "observation": "flat", "policy": "mlp", "hold": False}
    options = {**SMALL, **kind, "rows": 20, "columns": 10, "total_timesteps": 64}
    for number, name in enumerate("ab"):
        session = new_run(
            TrainingConfig(**options, seed=number, run_dir=str(tmp_path / name))
        )
        session.train()
        library.save(name, session.run, "last")
    librarian.request({"do": "demo", "names": ["a", "b"], "speed": 1.0})

    def coming(board: int) -> dict[int, int]:
        """Return what came next after so many pieces of the first game."""
        frames = [m["frame"] for m in told.of_type("frame") if m["board"] == board]
        return {f["pieces"]: f["next"][0] for f in frames if f["game"] == 1}

    wait_for(lambda: len(coming(0).keys() & coming(1).keys()) > 3)
    first, second = coming(0), coming(1)
    both = first.keys() & second.keys()
    assert [first[k] for k in both] == [second[k] for k in both]


def test_a_model_that_cannot_play_on_is_told_and_ends_its_show(
    librarian: Librarian, told: Told, library: ModelLibrary, tmp_path: Path
) -> None:
    options = {**SMALL, "observation": "flat", "policy": "mlp", "total_timesteps": 64}
    session = new_run(TrainingConfig(**options, run_dir=str(tmp_path)))
    session.train()
    model = session.session._model
    for parameter in model.policy.parameters():
        parameter.data.fill_(float("nan"))
    library.path.mkdir()
    metadata = {"config": session.run.config().to_dict()}
    library.file("broken").write_bytes(model_zip(model, metadata))
    librarian.request({"do": "demo", "names": ["broken"], "speed": 1.0})
    told.wait_for_text("“broken” cannot go on: ValueError: ")
    assert [len(m["boards"]) for m in told.of_type("demo")] == [1, 0]
    assert not [m for m in told.of_type("told") if "same pieces" in m["text"]]
    # The process goes on.
    assert librarian._stage is not None
    pid = librarian._stage.process.pid
    job = {"run_dir": str(session.run.path), "which": "latest", "notes": ""}
    librarian.request({"do": "save", "name": "sound", **job})
    told.wait_for_text("“sound” is saved")
    assert librarian._stage.process.pid == pid


def test_the_pace_is_the_sliders(
    librarian: Librarian, told: Told, library: ModelLibrary, run: RunDirectory
) -> None:
    library.save("a", run, "last")
    librarian.request({"do": "demo", "names": ["a"], "speed": 0.1})
    wait_for(lambda: told.of_type("frame"))
    before = len(told.of_type("frame"))
    time.sleep(1.0)
    assert len(told.of_type("frame")) - before <= 3
    librarian.request({"do": "speed", "speed": 1.0})
    wait_for(lambda: len(told.of_type("frame")) > before + 20, 5)


def test_a_killed_process_is_told_and_the_next_job_gets_another(
    librarian: Librarian, told: Told, library: ModelLibrary, run: RunDirectory
) -> None:
    library.save("a", run, "last")
    librarian.request({"do": "demo", "names": ["a"], "speed": 1.0})
    wait_for(lambda: told.of_type("frame"))
    assert librarian._stage is not None
    librarian._stage.process.kill()
    told.wait_for_text("has ended")
    assert told.of_type("demo")[-1]["boards"] == []
    told.clear()
    librarian.request({"do": "demo", "names": ["a"], "speed": 1.0})
    wait_for(lambda: told.of_type("frame"))
    pid = librarian._stage.process.pid
    librarian.close()
    wait_for(lambda: not psutil.pid_exists(pid))


def test_an_interrupt_while_it_loads_is_not_for_the_process(
    librarian: Librarian, told: Told, library: ModelLibrary, run: RunDirectory
) -> None:
    library.save("a", run, "last")
    librarian.request({"do": "demo", "names": ["a"], "speed": 1.0})
    wait_for(lambda: librarian._stage)
    assert librarian._stage is not None
    pid = librarian._stage.process.pid
    assert pid is not None
    os.kill(pid, signal.SIGINT)
    wait_for(lambda: told.of_type("frame"))
    assert librarian._stage.process.pid == pid


def test_a_job_that_cannot_be_understood_is_told_and_the_next_is_done(
    librarian: Librarian, told: Told, library: ModelLibrary, run: RunDirectory
) -> None:
    library.save("a", run, "last")
    librarian.request({"do": "rename", "name": "a"})
    assert told.wait_for_text("KeyError: 'new_name'")["level"] == "error"
    librarian.request({"do": "rename", "name": "a", "new_name": "b"})
    told.wait_for_text("“a” is now “b”")


def test_a_model_that_cannot_be_shown_ends_the_show(
    librarian: Librarian,
    told: Told,
    library: ModelLibrary,
    run: RunDirectory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tetris_widget.librarian.LOOK_SECONDS", 0.01)
    monkeypatch.setattr("tetris_widget.librarian.IDLE_SECONDS", 0.2)
    library.save("a", run, "last")
    forge(library.file("a"), library.file("bad"), "policy.pth", b"none")
    librarian.request({"do": "demo", "names": ["a"], "speed": 1.0})
    wait_for(lambda: told.of_type("frame"))
    assert librarian._stage is not None
    pid = librarian._stage.process.pid
    assert pid is not None
    librarian.request({"do": "demo", "names": ["a", "bad"], "speed": 1.0})
    assert told.wait_for_text("holds more than weights")["level"] == "error"
    assert told.of_type("demo")[-1]["boards"] == []
    count = len(told.of_type("frame"))
    wait_for(lambda: not psutil.pid_exists(pid))
    assert len(told.of_type("frame")) == count
    librarian.request({"do": "demo", "names": ["a"], "speed": 1.0})
    wait_for(lambda: told.of_type("demo")[-1]["boards"])
    wait_for(lambda: len(told.of_type("frame")) > count)


def test_what_a_killed_process_has_not_done_is_told_when_another_works_already(
    librarian: Librarian,
    told: Told,
    library: ModelLibrary,
    run: RunDirectory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heard = threading.Event()
    read = Librarian._read

    def read_late(self: Any, *arguments: Any) -> None:
        heard.wait(60)
        read(self, *arguments)

    monkeypatch.setattr(Librarian, "_read", read_late)
    job = {"do": "import", "file": "a.zip", "data": run.best_model_file.read_bytes()}
    library.save("z", run, "last")
    librarian.request({"do": "demo", "names": ["z"], "speed": 1.0})
    librarian.request({**job, "name": "a"})
    wait_for(lambda: list((library.path / "incoming").glob("*.zip")))
    wait_for(lambda: librarian._stage is not None and librarian._stage.process.pid)
    first = librarian._stage
    assert first is not None
    first.process.kill()
    wait_for(lambda: not first.process.is_alive())
    where = {"run_dir": str(run.path), "which": "last", "notes": ""}
    librarian.request({"do": "save", "name": "b", **where})
    wait_for(lambda: librarian._stage is not first)
    heard.set()
    told.wait_for_text("has ended; not saved: “a”")
    told.wait_for_text("“b” is saved")
    assert told.of_type("demo")[-1]["boards"] == []
    assert list((library.path / "incoming").iterdir()) == []
    assert library.names() == ["b", "z"]


def test_a_process_with_nothing_to_do_ends_without_a_word(
    librarian: Librarian,
    told: Told,
    library: ModelLibrary,
    run: RunDirectory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    library.save("a", run, "last")
    monkeypatch.setattr("tetris_widget.librarian.LOOK_SECONDS", 0.01)
    monkeypatch.setattr("tetris_widget.librarian.IDLE_SECONDS", 0.2)
    librarian.request({"do": "demo", "names": ["a"], "speed": 1.0})
    wait_for(lambda: told.of_type("frame"))
    assert librarian._stage is not None
    pid = librarian._stage.process.pid
    time.sleep(0.5)
    assert psutil.pid_exists(pid)
    librarian.request({"do": "end_demo"})
    wait_for(lambda: not psutil.pid_exists(pid))
    assert not [m for m in told.of_type("told") if m["level"] == "error"]
    librarian.request({"do": "demo", "names": ["a"], "speed": 1.0})
    wait_for(lambda: told.of_type("demo")[-1]["boards"])


def test_a_process_that_hangs_keeps_nobody_waiting(
    librarian: Librarian, told: Told, library: ModelLibrary, run: RunDirectory
) -> None:
    library.save("a", run, "last")
    librarian.request({"do": "demo", "names": ["a"], "speed": 1.0})
    wait_for(lambda: told.of_type("frame"))
    assert librarian._stage is not None
    process = psutil.Process(librarian._stage.process.pid)
    process.suspend()
    # A slider that is pulled to and fro: more than goes into a pipe.
    for _ in range(5_000):
        librarian.request({"do": "speed", "speed": 0.5})
    librarian.request({"do": "rename", "name": "a", "new_name": "b"})
    try:
        told.wait_for_text("“a” is now “b”")
        closing = threading.Thread(target=librarian.close, daemon=True)
        closing.start()
        closing.join(3 * CLOSE_SECONDS + 1.0)
        assert not closing.is_alive()
        assert not process.is_running()
        wait_for(lambda: "library-writer" not in names_of_threads(), 5)
    finally:
        if process.is_running():
            process.kill()


def names_of_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate()]


def test_a_process_that_hangs_does_not_keep_its_kernel_from_ending(
    tmp_path: Path,
) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        "import psutil\n"
        "from tetris_widget.librarian import Librarian\n"
        "from tetris_widget.library import ModelLibrary\n"
        "if __name__ == '__main__':\n"
        f"    librarian = Librarian(ModelLibrary({str(tmp_path)!r}), print)\n"
        "    librarian._send({'do': 'end_demo'})\n"
        "    process = psutil.Process(librarian._stage.process.pid)\n"
        "    process.suspend()\n"
        "    while process.status() != psutil.STATUS_STOPPED:\n"
        "        pass\n"
        "    print(process.pid, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
    ) as kernel:
        assert kernel.stdin is not None
        assert kernel.stdout is not None
        lines = iter(kernel.stdout.readline, "")
        process = psutil.Process(next(int(line) for line in lines if line[0] != "{"))
        try:
            kernel.stdin.close()  # it ends
            assert kernel.wait(20) == 0
            assert not process.is_running()
        finally:
            if process.is_running():
                process.kill()
            kernel.kill()


def test_a_model_that_must_be_trusted_is_not_shown(
    librarian: Librarian, told: Told, library: ModelLibrary, tmp_path: Path
) -> None:
    foreign = tmp_path / "foreign.zip"
    PPO("MlpPolicy", "CartPole-v1", n_steps=8, batch_size=8, device="cpu").save(foreign)
    library.import_model(foreign, "f", trust=True)
    librarian.request({"do": "demo", "names": ["f"], "speed": 1.0})
    told.wait_for_text("load it by panel.library.load(name, trust=True) in Python")


def test_it_loads_no_torch() -> None:
    code = (
        "import sys, tetris_widget.librarian; "
        "bad = {'torch', 'numba', 'pandas'} & set(sys.modules); "
        "sys.exit(str(bad) if bad else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
