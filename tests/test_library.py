"""Models by name: kept, listed, renamed, sent and received, without running code."""

from __future__ import annotations

import errno
import io
import json
import math
import pickle
import random
import shutil
import threading
import unicodedata
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import DQN, PPO

from tests.training.runs import SMALL, new_run
from tests.training.test_checkpoint import assert_equal_parameters
from tetris_widget.config import ConfigError, TrainingConfig
from tetris_widget.envs import TetrisVecEnv
from tetris_widget.library import ModelFileError, ModelLibrary
from tetris_widget.run_directory import RunDirectory

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    options: dict[str, Any] = {"total_timesteps": 1_000, "seed": 3}
    directory = tmp_path_factory.mktemp("runs")
    session = new_run(TrainingConfig(**{**SMALL, **options}, run_dir=str(directory)))
    assert session.train() == "finished"
    return session.run


@pytest.fixture
def library(tmp_path: Path) -> ModelLibrary:
    return ModelLibrary(tmp_path / "models")


def test_an_empty_library_has_an_empty_list(library: ModelLibrary) -> None:
    assert library.names() == []
    assert library.models().empty


@pytest.mark.parametrize("which", ["latest", "best", "last"])
def test_a_saved_model_is_loaded_as_it_was(
    which: str, library: ModelLibrary, run: RunDirectory
) -> None:
    path = library.save("mine", run, which, notes="first try")
    sources = {
        "latest": run.checkpoints()[0],
        "best": run.best_model_file,
        "last": run.last_model_file,
    }
    expected = PPO.load(sources[which], device="cpu")
    for loaded in (library.load("mine"), PPO.load(path, device="cpu")):
        assert_equal_parameters(loaded.get_parameters(), expected.get_parameters())
        for name in ("n_envs", "n_steps", "batch_size", "gamma", "seed"):
            assert getattr(loaded, name) == getattr(expected, name), name
    (row,) = library.models().to_dict("records")
    assert row["name"] == "mine"
    assert row["notes"] == "first try"
    assert row["algorithm"] == "ppo"
    assert row["timesteps"] == expected.num_timesteps
    assert library.config("mine") == run.config()


def test_a_run_that_begins_with_a_model_names_the_run_that_it_is_from(
    library: ModelLibrary, run: RunDirectory, tmp_path: Path
) -> None:
    file = library.save("mine", run, "best")
    sent = library.import_model(library.export("mine", tmp_path / "sent.zip"))
    for model in (file, sent):
        options = {"initial_model": str(model), "run_dir": str(tmp_path)}
        started = RunDirectory.create(run.config().replace(**options))
        assert started.state()["parent"] == run.run_id


def test_a_loaded_model_plays(library: ModelLibrary, run: RunDirectory) -> None:
    library.save("mine", run, "best")
    model = library.load("mine")
    assert model.env is not None
    actions, _ = model.predict(model.env.reset(), deterministic=True)  # type: ignore[arg-type]
    assert actions.shape == (run.config().n_envs,)


@pytest.mark.parametrize("is_new_env", [False, True])
def test_a_loaded_model_learns_on(
    is_new_env: bool, library: ModelLibrary, run: RunDirectory
) -> None:
    library.save("mine", run, "last")
    model = library.load("mine")
    before = model.num_timesteps
    if is_new_env:
        model.set_env(TetrisVecEnv(SMALL["n_envs"], rows=8, columns=5))
    model.learn(64, reset_num_timesteps=False)
    assert model.num_timesteps == before + 64


def test_loading_draws_from_no_generator_of_the_notebooks(
    library: ModelLibrary, run: RunDirectory
) -> None:
    library.save("mine", run, "best")

    def places() -> tuple[Any, ...]:
        numpy: Any = np.random.get_state()
        torchs = torch.get_rng_state().tolist()
        return random.getstate(), numpy[1].tolist(), numpy[2], torchs

    before, threads = places(), torch.get_num_threads()
    library.load("mine")
    assert places() == before
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("algorithm", ["dqn", "a2c", "maskable_ppo"])
def test_every_algorithm_is_kept(
    algorithm: str, library: ModelLibrary, tmp_path: Path
) -> None:
    options = {**SMALL, "algorithm": algorithm, "total_timesteps": 64}
    session = new_run(TrainingConfig(**options, run_dir=str(tmp_path)))
    session.train()
    path = library.save(algorithm, session.run, "last")
    model = session.session._model
    assert_equal_parameters(
        library.load(algorithm).get_parameters(), model.get_parameters()
    )
    again = type(model).load(path, device="cpu")
    assert_equal_parameters(again.get_parameters(), model.get_parameters())
    if isinstance(model, DQN):
        assert isinstance(again, DQN)
        assert again.buffer_size == model.buffer_size
        assert again.learning_starts == model.learning_starts


@pytest.mark.parametrize("action", ["keys", "reachable"])
def test_a_model_under_guideline_rules_is_kept_evaluated_and_loaded(
    action: str, library: ModelLibrary, tmp_path: Path
) -> None:
    kind = {"action": action, "observation": "flat", "policy": "mlp"}
    options = {**SMALL, **kind, "total_timesteps": 64}
    session = new_run(TrainingConfig(**options, run_dir=str(tmp_path)))
    session.train()
    library.save(action, session.run, "last")
    (row,) = library.entries()
    assert row["lower"] <= row["mean_lines"] <= row["upper"]
    assert row["upper"] > 0
    model = library.load(action)
    trained = session.session._model
    assert_equal_parameters(model.get_parameters(), trained.get_parameters())
    assert model.observation_space == trained.observation_space
    assert model.action_space == trained.action_space


def test_names_are_changed_and_models_deleted(
    library: ModelLibrary, run: RunDirectory
) -> None:
    library.save("b", run, "best")
    library.save("a", run, "last")
    assert library.names() == ["a", "b"]
    library.rename("b", "模型 2")
    assert library.names() == ["a", "模型 2"]
    for refused in (
        lambda: library.rename("a", "模型 2"),
        lambda: library.save("a", run, "best"),
        lambda: library.import_model(library.file("a")),
    ):
        with pytest.raises(ValueError, match="is taken; allowed: a new one"):
            refused()
    library.delete("a")
    with pytest.raises(ValueError, match="no model 'a'; allowed: 模型 2"):
        library.delete("a")
    assert library.names() == ["模型 2"]


def test_what_was_deleted_is_brought_back(
    library: ModelLibrary, run: RunDirectory
) -> None:
    data = library.save("a", run, "best").read_bytes()
    library.delete("a")
    library.save("a", run, "last")
    with pytest.raises(ValueError, match="'a' is taken"):
        library.restore("a")
    library.rename("a", "b")
    assert library.restore("a").read_bytes() == data
    with pytest.raises(ValueError, match="no model 'c' was deleted lately"):
        library.restore("c")
    for number in range(12):
        library.delete(library.save(f"m{number}", run, "best").stem)
    assert len(list((library.path / "deleted").iterdir())) == 10
    library.restore("m2")
    with pytest.raises(ValueError, match="no model 'm1' was deleted lately"):
        library.restore("m1")


def test_deleted_models_of_one_name_come_back_the_last_first(
    library: ModelLibrary, run: RunDirectory
) -> None:
    kept = []
    for notes in ("first", "second"):
        kept.append(library.save("a", run, "best", notes).read_bytes())
        library.delete("a")
    assert library.restore("a").read_bytes() == kept[1]
    library.rename("a", "b")
    assert library.restore("a").read_bytes() == kept[0]


@pytest.fixture(params=[True, False], ids=["hard links", "no hard links"])
def hard_links(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    if not request.param:
        monkeypatch.setattr("os.link", refuse)


@pytest.mark.usefixtures("hard_links")
def test_a_name_that_somebody_takes_meanwhile_is_not_overwritten(
    library: ModelLibrary,
    run: RunDirectory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent = library.export(library.save("a", run, "best").stem, tmp_path / "sent.zip")
    library.delete(library.save("c", run, "best").stem)
    original = ModelLibrary._free

    def free_and_then_taken(self: ModelLibrary, name: str) -> Path:
        path = original(self, name)
        if self is library:
            path.write_bytes(b"somebody's")
        return path

    monkeypatch.setattr(ModelLibrary, "_free", free_and_then_taken)
    for name, call in {
        "b": lambda: library._add("b", b"mine"),
        "c": lambda: library.restore("c"),
        "d": lambda: library.rename("a", "d"),
    }.items():
        with pytest.raises(ValueError, match=f"'{name}' is taken; allowed: a new one"):
            call()
        assert library.file(name).read_bytes() == b"somebody's"
    assert library.file("a").read_bytes() == sent.read_bytes()
    assert len(list((library.path / "deleted").iterdir())) == 1


@pytest.mark.usefixtures("hard_links")
def test_of_many_who_save_under_one_name_one_does(
    library: ModelLibrary, run: RunDirectory
) -> None:
    barrier = threading.Barrier(4)

    def save(number: int) -> str | None:
        barrier.wait(30)
        try:
            library.save("a", run, "best", notes=str(number))
        except ValueError as error:
            assert "'a' is taken; allowed: a new one" in str(error)
            return None
        return str(number)

    with ThreadPoolExecutor(4) as pool:
        saved = [notes for notes in pool.map(save, range(4)) if notes is not None]
    assert library.models()["notes"].tolist() == saved
    assert [path.name for path in library.path.iterdir()] == ["a.zip"]


def test_entries_are_read_again_only_when_they_change(
    library: ModelLibrary, run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.save("a", run, "best")
    entries = library.entries()
    with monkeypatch.context() as patch:
        patch.setattr("tetris_widget.library.read_metadata", None)
        assert library.entries() == entries
    library.set_notes("a", "new")
    assert library.entries()[0]["notes"] == "new"


def test_a_model_that_nobody_evaluated_plays_for_its_figures(
    library: ModelLibrary, run: RunDirectory
) -> None:
    library.save("a", run, "last")
    (row,) = library.entries()
    assert row["lower"] <= row["mean_lines"] <= row["upper"]


@pytest.mark.parametrize(
    "name",
    ["a/b", "a\\b", "/etc/a", "..", ".", ".a", "a.", "x" * 300, "模" * 300, "", " "],
)
def test_a_name_that_no_file_can_have_is_refused(
    name: str, library: ModelLibrary, run: RunDirectory
) -> None:
    library.save("a", run, "best")
    for call in (library.load, library.delete, lambda n: library.rename("a", n)):
        with pytest.raises(ValueError, match="is refused; allowed"):
            call(name)
    with pytest.raises(ValueError, match="is refused; allowed"):
        library.save(name, run, "best")
    with pytest.raises(ValueError, match="is refused; allowed"):
        library.import_model(library.file("a"), name)
    assert library.names() == ["a"]
    assert [path.name for path in library.path.iterdir()] == ["a.zip"]


@pytest.mark.parametrize(
    "name", ["模型 2", "Ωmega-1,5", "нейросеть", "نموذج", "é" * 50]
)
def test_a_name_may_be_of_any_alphabet(
    name: str, library: ModelLibrary, run: RunDirectory
) -> None:
    library.save(unicodedata.normalize("NFD", name), run, "best")
    assert library.names() == [name]
    library.set_notes(name, name)
    library.delete(name)
    assert library.restore(name).stem == name


def test_a_file_that_no_model_can_be_called_is_not_listed(
    library: ModelLibrary, run: RunDirectory
) -> None:
    library.save("a", run, "best")
    data = library.read("a")
    for name in ("a:b", ".hidden", "\udcff"):
        (library.path / f"{name}.zip").write_bytes(data)
    assert library.names() == ["a"]


def test_notes_are_replaced_and_nothing_else(
    library: ModelLibrary, run: RunDirectory
) -> None:
    library.save("a", run, "best", notes="old")
    before = library.models().drop(columns="notes")
    weights = library.load("a").get_parameters()
    library.set_notes("a", "neu: γ war 0,98")
    assert library.models()["notes"].tolist() == ["neu: γ war 0,98"]
    assert library.models().drop(columns="notes").equals(before)
    assert_equal_parameters(library.load("a").get_parameters(), weights)
    with pytest.raises(ValueError, match="10001 characters; allowed: up to 10,000"):
        library.set_notes("a", "x" * 10_001)
    with pytest.raises(ValueError, match="notes: None; allowed: text"):
        library.set_notes("a", None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="notes: None; allowed: text"):
        library.save("b", run, "best", notes=None)  # type: ignore[arg-type]
    assert library.names() == ["a"]


def test_a_file_is_no_library(run: RunDirectory, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("kept")
    library = ModelLibrary(path)
    assert library.names() == []
    with pytest.raises(ValueError, match="file is a file; allowed: a directory"):
        library.save("a", run, "best")
    assert path.read_text() == "kept"


def test_a_model_goes_from_one_library_to_another(
    library: ModelLibrary, run: RunDirectory, tmp_path: Path
) -> None:
    library.save("a", run, "best", notes="for you")
    sent = library.export("a", tmp_path)
    assert sent == tmp_path / "a.zip"
    with pytest.raises(FileExistsError, match="nothing is overwritten"):
        library.export("a", tmp_path)
    other = ModelLibrary(tmp_path / "other")
    other.import_model(sent, "b")
    row, original = other.models().iloc[0], library.models().iloc[0]
    assert row.drop("name").equals(original.drop("name"))
    assert_equal_parameters(
        other.load("b").get_parameters(), library.load("a").get_parameters()
    )


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def no_such_thing() -> None:
    raise LookupError("no such thing")


class Raiser:
    """Raises an error when it is unpickled."""

    def __reduce__(self) -> Any:
        return no_such_thing, ()


def forge(source: Path, target: Path, name: str, data: bytes) -> None:
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for member in old.namelist():
            if member != name:
                new.writestr(member, old.read(member))
        new.writestr(name, data)


def test_code_that_comes_with_a_model_is_neither_run_nor_kept(
    library: ModelLibrary, run: RunDirectory, tmp_path: Path
) -> None:
    library.save("a", run, "best")
    trap = tmp_path / "sprung"
    code = pickle.dumps(Trap(trap), protocol=2)
    forged = tmp_path / "forged.zip"
    forge(library.file("a"), forged, "data", code)
    PPO.load(library.import_model(forged, "clean"), device="cpu")
    forge(library.file("a"), forged, "policy.pth", code)
    with pytest.raises(ModelFileError, match="holds more than weights"):
        library.import_model(forged, "dirty")
    assert library.names() == ["a", "clean"]
    assert not trap.exists()


FORGED = [
    {"mean_lines": "x", "lower": [1], "upper": {}, "best_lines": None},
    {"mean_lines": math.nan, "lower": math.inf, "upper": True, "best_lines": -1},
    {"mean_lines": 1e300, "timesteps": 10**400, "saved_at": 1e12},
    {"timesteps": "many", "saved_at": "x", "notes": ["n"], "algorithm": 7},
    {"name": "b" * 1_000_000, "notes": "n" * 1_000_000, "algorithm": "\ud800"},
]


@pytest.mark.parametrize("forged", FORGED)
@pytest.mark.parametrize("how", ["imported", "trusted", "put there"])
def test_what_a_file_says_of_itself_may_be_anything(
    how: str,
    forged: dict[str, Any],
    library: ModelLibrary,
    run: RunDirectory,
    tmp_path: Path,
) -> None:
    source = ModelLibrary(tmp_path / "source").save("a", run, "best")
    metadata = {**json.loads(zipfile.ZipFile(source).read("metadata.json")), **forged}
    path = tmp_path / "forged.zip"
    forge(source, path, "metadata.json", json.dumps(metadata).encode())
    if how == "put there":
        library.path.mkdir()
        path.rename(library.file("b"))
    else:
        library.import_model(path, "b", trust=how == "trusted")
    (entry,) = library.entries()
    sent = json.dumps(entry, allow_nan=False, ensure_ascii=False).encode()
    assert len(sent) < 20_000
    assert entry["name"] == "b"
    for name, value in entry.items():
        if name in ("name", "algorithm", "notes"):
            assert value is None or isinstance(value, str), name
        else:
            assert value is None or type(value) in (int, float), name
    assert 0 <= (entry["saved_at"] or 0) < 253_402_300_800  # the year 9999
    assert len(library.models()) == 1


@pytest.mark.parametrize(
    "data",
    [b"{}", b"[]", b"7", b"no json", b'{"model": {}, "reports": 7}', b"[" * 99_999],
)
def test_a_checkpoint_that_says_nothing_is_refused(
    data: bytes, library: ModelLibrary, run: RunDirectory, tmp_path: Path
) -> None:
    copy = RunDirectory(shutil.copytree(run.path, tmp_path / "copy"))
    forge(run.checkpoints()[0], copy.checkpoints()[0], "checkpoint.json", data)
    with pytest.raises(ModelFileError, match=r"checkpoint\.json that cannot be read"):
        library.save("a", copy, "latest")
    assert library.names() == []


def pth(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "weights",
    [
        None,
        7,
        [],
        {},
        {"net.scorer.layers.weight": torch.zeros(3)},
        {1: torch.zeros(3)},
    ],
)
@pytest.mark.parametrize(
    "member", ["policy", "policy.optimizer", "nothing", "__class__"]
)
def test_weights_that_fit_no_model_are_refused(
    member: str, weights: Any, library: ModelLibrary, run: RunDirectory, tmp_path: Path
) -> None:
    library.save("a", run, "best")
    forge(library.file("a"), tmp_path / "forged.zip", f"{member}.pth", pth(weights))
    with pytest.raises(ModelFileError, match=r"forged\.zip"):
        library.import_model(tmp_path / "forged.zip", "b")
    assert library.names() == ["a"]


def test_a_file_that_would_fill_the_memory_is_refused(
    library: ModelLibrary,
    run: RunDirectory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    library.save("a", run, "best")
    path = library.export("a", tmp_path)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("large", bytes(2_000_000))
    assert path.stat().st_size < 1_000_000
    monkeypatch.setattr("tetris_widget.library.MAX_UNPACKED_BYTES", 2_000_000)
    with pytest.raises(ModelFileError, match="when unpacked; allowed: 2,000,000"):
        library.import_model(path, "b")
    assert library.names() == ["a"]


def test_a_foreign_model_must_be_trusted(library: ModelLibrary, tmp_path: Path) -> None:
    model = PPO("MlpPolicy", "CartPole-v1", n_steps=8, batch_size=8, device="cpu")
    foreign = tmp_path / "foreign.zip"
    model.save(foreign)
    with pytest.raises(ModelFileError, match="if you trust them, pass trust=True"):
        library.import_model(foreign)
    assert library.names() == []
    library.import_model(foreign, trust=True)
    with pytest.raises(ModelFileError, match="if you trust them, pass trust=True"):
        library.load("foreign")
    loaded = library.load("foreign", trust=True)
    assert_equal_parameters(loaded.get_parameters(), model.get_parameters())
    assert library.models()["name"].tolist() == ["foreign"]


def test_a_model_of_another_environment_is_refused(
    library: ModelLibrary, run: RunDirectory, tmp_path: Path
) -> None:
    config = TrainingConfig(env_id="somewhere:CartPole-v1", run_dir=str(tmp_path))
    other = RunDirectory.create(config)
    with pytest.raises(ModelFileError, match="was trained on 'somewhere:CartPole-v1'"):
        library.save("a", other, "last")
    library.save("a", run, "best")
    metadata = json.loads(zipfile.ZipFile(library.file("a")).read("metadata.json"))
    forged = tmp_path / "forged.zip"
    data = json.dumps({**metadata, "config": other.config().to_dict()}).encode()
    forge(library.file("a"), forged, "metadata.json", data)
    with pytest.raises(ModelFileError, match="a library keeps models of our own game"):
        library.import_model(forged)
    assert library.names() == ["a"]


def test_a_trusted_model_that_cannot_be_loaded_is_refused(
    library: ModelLibrary, tmp_path: Path
) -> None:
    foreign = tmp_path / "foreign.zip"
    PPO("MlpPolicy", "CartPole-v1", n_steps=8, batch_size=8, device="cpu").save(foreign)
    path = tmp_path / "bad.zip"
    for name, data in {
        "data": b"{",
        "policy.pth": pickle.dumps(Raiser(), protocol=2),
        "policy.optimizer.pth": pth(7),
    }.items():
        forge(foreign, path, name, data)
        with pytest.raises(ModelFileError, match="is no model that SB3 can load"):
            library.import_model(path, trust=True)
    assert library.names() == []


@pytest.mark.parametrize("trust", [False, True])
@pytest.mark.parametrize("data", [b"", b"nonsense", None])
def test_what_is_no_model_is_refused(
    data: bytes | None, trust: bool, library: ModelLibrary, tmp_path: Path
) -> None:
    path = tmp_path / "file.zip"
    if data is None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("hello.txt", "hello")
    else:
        path.write_bytes(data)
    with pytest.raises(ModelFileError, match=r"file\.zip"):
        library.import_model(path, trust=trust)
    with pytest.raises(ModelFileError, match=r"nowhere\.zip"):
        library.import_model(tmp_path / "nowhere.zip", trust=trust)
    assert library.names() == []


def test_a_file_that_is_not_whole_is_called_so_and_not_to_be_trusted(
    library: ModelLibrary, run: RunDirectory, tmp_path: Path
) -> None:
    whole = library.export(library.save("a", run, "best").stem, tmp_path)
    cut = tmp_path / "cut.zip"
    refusals = {tmp_path / "nowhere.zip": "is not there", tmp_path: "cannot be read: "}
    for path, reason in refusals.items():
        assert_refused(library, path, reason)
    data = whole.read_bytes()
    for size in (0, 10, len(data) // 2, len(data) - 10):
        cut.write_bytes(data[:size])
        assert_refused(library, cut, "is not a model, or damaged: ")
    at = data.index(b"policy.pth") + 500
    cut.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    assert_refused(library, cut, r"is not a model, or damaged: policy\.pth has changed")
    shutil.copy(cut, library.file("b"))
    with pytest.raises(ModelFileError, match=r"b\.zip is not a model, or damaged"):
        library.load("b")


def assert_refused(library: ModelLibrary, path: Path, reason: str) -> None:
    with pytest.raises(ModelFileError, match=f"{path.name} {reason}") as refusal:
        library.import_model(path, "new")
    assert "trust" not in str(refusal.value)
    assert "new" not in library.names()


def test_a_relative_path_stays_the_same_library_wherever_one_goes(
    run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    found = [ModelLibrary("models"), ModelLibrary("~/models")]
    monkeypatch.chdir("/")
    found[0].save("a", run, "best")
    for one in found:
        assert one.path == tmp_path / "models"
        assert one.names() == ["a"]


def test_a_damaged_model_is_listed_and_refused(
    library: ModelLibrary, run: RunDirectory
) -> None:
    path = library.save("a", run, "best")
    library.save("b", run, "best")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelFileError):
        library.load("a")
    assert library.models()["notes"].tolist() == ["cannot be read", ""]


def test_a_run_without_that_model_says_so(
    library: ModelLibrary, tmp_path: Path
) -> None:
    run = RunDirectory.create(TrainingConfig(run_dir=str(tmp_path)))
    for which in ("best_eval", "best", "latest", "last", "current"):
        with pytest.raises(ModelFileError, match=f"has no model '{which}'"):
            library.save("a", run, which)
    with pytest.raises(ValueError, match="which: 'worst' is refused; allowed: best_e"):
        library.save("a", run, "worst")
    with pytest.raises(ConfigError, match=r"config\.json"):
        library.save("a", tmp_path)
