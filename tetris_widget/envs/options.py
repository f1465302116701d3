"""The options of an environment, and of a reset, and the problem that they describe.

Owns which options go together, and what those that are not given are. Deliberately
doesn't know gymnasium's or SB3's interface.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tetris_widget.config import DEFAULT_PREVIEWS
from tetris_widget.envs.keys import OBSERVATIONS as GUIDELINE_OBSERVATIONS
from tetris_widget.envs.keys import Guideline
from tetris_widget.envs.observations import OBSERVATIONS
from tetris_widget.envs.placements import Placements
from tetris_widget.game.games import check_flag, check_whole
from tetris_widget.game.state import Field, State, split

ILLEGAL = ("nearest", "raise")
ACTIONS = ("placements", "keys", "reachable")
# What people's games have, and benchmark rules don't.
DEFAULT_TICK, DEFAULT_LEVEL = 0.1, 1
# States have the seed that waits for a reset, as a signed number of 64 bits.
MAX_SEED = 2**62
MAX_SHOWN = 50

Problem = Placements | Guideline


def choose(name: str, value: Any, allowed: Sequence[str]) -> str:
    """Return `value` if it is allowed.

    Raises:
        ValueError: it isn't.
    """
    if value not in allowed:
        raise ValueError(f"{name}: {value!r}; allowed: {', '.join(allowed)}")
    return str(value)


def check_seed(seed: Any) -> int | None:
    """Return a seed as an int, or None for none.

    Raises:
        ValueError: it is no whole number from 0 to 2^62.
    """
    return None if seed is None else check_whole("seed", seed, 0, MAX_SEED)


def make_problem(
    n: int,
    *,
    action: str,
    observation: str | None,
    previews: int | None,
    hold: bool | None,
    tick: float = DEFAULT_TICK,
    level: int = DEFAULT_LEVEL,
    **options: Any,
) -> Problem:
    """Return `n` games as a learning problem; see `TetrisVecEnv` for the options.

    Raises:
        ValueError: an option is out of its bounds, or does not fit another one.
    """
    choose("action", action, ACTIONS)
    hold = None if hold is None else check_flag("hold", hold)
    if action == "placements":
        _refuse_guideline(hold, tick, level)
        return Placements(
            n,
            observation=choose(
                "observation", observation or "afterstates", OBSERVATIONS
            ),
            previews=0 if previews is None else previews,
            **options,
        )
    if observation in OBSERVATIONS and observation not in GUIDELINE_OBSERVATIONS:
        raise ValueError(
            f"observation: {observation!r} needs action='placements'; allowed with "
            f"{action!r}: {', '.join(GUIDELINE_OBSERVATIONS)}"
        )
    return Guideline(
        n,
        is_keys=action == "keys",
        observation=choose(
            "observation", observation or "flat", GUIDELINE_OBSERVATIONS
        ),
        previews=DEFAULT_PREVIEWS if previews is None else previews,
        hold=True if hold is None else hold,
        tick=tick,
        level=level,
        **options,
    )


def _refuse_guideline(hold: bool | None, tick: float, level: int) -> None:
    """Raise ValueError if an option is given that benchmark rules don't have."""
    if hold:
        raise ValueError(
            "hold: True; allowed with action='placements': False, for benchmark "
            "rules have none; action='reachable' has"
        )
    given = {"tick": (tick, DEFAULT_TICK), "level": (level, DEFAULT_LEVEL)}
    for name, (value, default) in given.items():
        if value != default:
            raise ValueError(
                f"{name}: {value!r}; allowed with action='placements': {default}, for "
                "benchmark rules have none; action='keys' has"
            )


def env_fields(has_ended: bool) -> dict[str, Field]:
    """Return what the state of an env with one game has beside the game's."""
    return {"has_ended": Field(np.array(has_ended))}


def first_state(problem: Problem, options: Any) -> State | None:
    """Return the state from which the options of a reset begin a game, if any.

    Raises:
        ValueError: an option is unknown, or `state` is none of a game that goes on.
    """
    if not isinstance(options, Mapping):
        raise ValueError(f"options: {options!r}; allowed: a dict")
    unknown = sorted(set(options) - {"state"})
    if unknown:
        raise ValueError(f"options: {unknown[0]!r}; allowed: 'state'")
    if "state" not in options:
        return None
    _, state = split(options["state"], env_fields(False))
    return problem.check_first(state)


def refuse_illegal(problem: Problem, actions: NDArray[np.int64]) -> None:
    """Raise ValueError unless every action is one of its game's legal ones.

    Those out of range are left to the games, which refuse them anyway.
    """
    masks = problem.action_masks()
    in_range = (actions >= 0) & (actions < masks.shape[1])
    legal = masks[np.arange(len(masks)), np.where(in_range, actions, 0)]
    wrong = np.flatnonzero(in_range & ~legal)
    if len(wrong):
        env = int(wrong[0])
        numbers = np.flatnonzero(masks[env]).tolist()
        more = "" if len(numbers) <= MAX_SHOWN else f", … ({len(numbers)} in all)"
        shown = ", ".join(map(str, numbers[:MAX_SHOWN])) + more
        raise ValueError(
            f"action: {actions[env]} is not legal in game {env}; allowed: {shown}"
        )
