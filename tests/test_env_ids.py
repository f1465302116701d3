"""Environments by id: what is one, and what is said of what isn't."""

from __future__ import annotations

import subprocess
import sys

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


def test_a_check_needs_neither_torch_nor_the_module() -> None:
    code = (
        "import sys; from tetris_widget.env_ids import check_env_id; "
        "check_env_id('tetris_gymnasium/Tetris'); check_env_id('CartPole-v1'); "
        "assert not {'torch', 'tetris_gymnasium', 'cv2'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
