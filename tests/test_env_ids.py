"""Environments by id: what is one, and what is said of what isn't."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tetris_widget.config import ConfigError
from tetris_widget.env_ids import check_env_id, load_env_id


@pytest.mark.parametrize(
    "env_id",
    [
        "CartPole-v1",
        "gymnasium.envs.classic_control:CartPole-v1",
        "tetris_gymnasium/Tetris",
        "tetris_gymnasium:tetris_gymnasium/Tetris",
    ],
)
def test_an_id_is_read_as_gymnasium_does_or_by_its_namespace(env_id: str) -> None:
    check_env_id(env_id)
    load_env_id(env_id)


@pytest.mark.parametrize(
    ("env_id", "message"),
    [
        (
            "CartPol-v1",
            "env_id: there is no environment 'CartPol-v1'; did you mean 'CartPole-v1'?",
        ),
        ("xyzzy", "env_id: there is no environment 'xyzzy'"),
        (
            "no_such_thing/Tetris",
            "env_id: 'no_such_thing/Tetris' needs the module 'no_such_thing', which is "
            "not installed",
        ),
        ("no_such.thing:Tetris", "needs the module 'no_such.thing', which is not"),
        (".no_such:Tetris", "needs the module '.no_such', which is not installed"),
        (":CartPole-v1", "env_id: ':CartPole-v1' needs the module '', which is not"),
        (
            "__main__:MyEnv-v0",
            "env_id: '__main__:MyEnv-v0' is defined in a notebook or script, which the "
            "training process cannot import; allowed: one that a module registers",
        ),
        ("__main__/MyEnv-v0", "is defined in a notebook or script"),
    ],
)
def test_a_bad_id_is_one_sentence(env_id: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        check_env_id(env_id)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("env_id", ["json:Tetris", "json/Tetris", "math/Tetris"])
def test_a_name_that_a_module_does_not_have_shows_when_it_is_loaded(
    env_id: str,
) -> None:
    check_env_id(env_id)
    with pytest.raises(ConfigError, match=f"there is no environment '{env_id}'"):
        load_env_id(env_id)


def test_in_a_script_that_is_no_module_it_is_one_sentence() -> None:
    code = (
        "from tetris_widget.env_ids import check_env_id; "
        "assert __spec__ is None; check_env_id('__main__:MyEnv-v0')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert "ConfigError: env_id: '__main__:MyEnv-v0' is defined in a" in done.stderr


def test_a_module_made_by_hand_is_not_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "by_hand", ModuleType("by_hand"))
    with pytest.raises(ConfigError, match="module 'by_hand', which is not installed"):
        check_env_id("by_hand:Tetris")


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("def", "SyntaxError: "),
        ("nowhere", "NameError: name 'nowhere'"),
        ("import no_such_thing", "ModuleNotFoundError: No module named 'no_such"),
    ],
)
def test_a_module_that_fails_is_one_sentence(
    source: str, error: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "that_fails.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    check_env_id("that_fails:Tetris")
    message = (
        "env_id: 'that_fails:Tetris' needs the module 'that_fails', which cannot be "
        f"imported: {error}"
    )
    with pytest.raises(ConfigError, match=message):
        load_env_id("that_fails:Tetris")


def test_a_check_needs_neither_torch_nor_the_module() -> None:
    code = (
        "import sys; from tetris_widget.env_ids import check_env_id; "
        "check_env_id('tetris_gymnasium/Tetris'); check_env_id('CartPole-v1'); "
        "assert not {'torch', 'tetris_gymnasium', 'cv2'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
