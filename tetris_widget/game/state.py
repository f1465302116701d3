"""States as named arrays, and the check that a state is one.

Owns what makes a mapping of arrays a state: every field there, and each of the right
shape, type and range, for compiled code would read outside its tables otherwise.
Deliberately doesn't know what the fields mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

State = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Field:
    """One array of a state.

    Attributes:
        array: as it is now.
        low: the least value that is allowed; None: any.
        high: the greatest.
    """

    array: NDArray[Any]
    low: int | None = None
    high: int | None = None


def take(fields: Mapping[str, Field]) -> State:
    """Return copies of the arrays."""
    return {name: field.array.copy() for name, field in fields.items()}


def check(state: Any, fields: Mapping[str, Field]) -> State:
    """Return `state` if it fits the fields.

    Raises:
        ValueError: it doesn't; the message names the field, what it is, and what is
            allowed.
    """
    require(state, tuple(fields))
    for name in state:
        if name not in fields:
            raise ValueError(f"{name}: no such field; allowed: {', '.join(fields)}")
    for name, field in fields.items():
        _check_field(name, state[name], field)
    return dict(state)


def require(state: Any, names: Sequence[str]) -> None:
    """Raise ValueError unless `state` is a mapping in which these are arrays."""
    if not isinstance(state, Mapping):
        raise ValueError(f"state: {type(state).__name__}; allowed: a mapping of arrays")
    for name in names:
        if name not in state:
            raise ValueError(f"{name}: is missing from the state")
        if not isinstance(state[name], np.ndarray):
            kind = type(state[name]).__name__
            raise ValueError(f"{name}: {kind}; allowed: an array")


def split(state: Any, fields: Mapping[str, Field]) -> tuple[State, State]:
    """Return the part of `state` that fits the fields, and the rest, unchecked.

    Raises:
        ValueError: as `check`, for the fields.
    """
    if not isinstance(state, Mapping):
        return check(state, fields), {}
    own = {name: value for name, value in state.items() if name in fields}
    rest = {name: value for name, value in state.items() if name not in fields}
    return check(own, fields), rest


def _check_field(name: str, value: Any, field: Field) -> None:
    wanted = field.array
    if value.shape != wanted.shape:
        raise ValueError(f"{name}: shape {value.shape}; allowed: {wanted.shape}")
    if value.dtype != wanted.dtype:
        raise ValueError(f"{name}: type {value.dtype}; allowed: {wanted.dtype}")
    if field.low is None or field.high is None or not value.size:
        return
    least, greatest = int(value.min()), int(value.max())
    if least < field.low or greatest > field.high:
        bad = least if least < field.low else greatest
        allowed = str(field.low)
        if field.high != field.low:
            allowed += f" to {field.high}"
        raise ValueError(f"{name}: {bad}; allowed: {allowed}")
