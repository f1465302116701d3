"""What a step is worth: a weighted sum of named terms, and shaping that is honest.

Owns the terms' arithmetic. Their names, and what weights are allowed, are in `config`.
Deliberately doesn't know rules or observations: environments say what a step did.

`holes`, `height` and `bumpiness` are potential-based shaping (Ng, Harada & Russell
1999): a step's term is γ·h(s′) − h(s) of the board's number h, and h of a finished game
is 0. What an episode's discounted terms sum up to is then −h of its first board,
whatever happens in it, so that no weight makes it worth while to die early, or late.
Other values at death don't do that (a board's potential that is kept makes every full
board a loss), nor does another γ than the learner's: with γ = 1 in the terms alone,
each step of a game with holes costs, and a quick death saves that. A game that is
truncated isn't over: its last board counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tetris_widget.config import check_reward, is_number

# In the order in which boards are measured.
SHAPING = ("holes", "height", "bumpiness")
# For 0 to 4 lines at once: the guideline's, at level 1.
POINTS = np.array([0, 100, 300, 500, 800])
# SB3's default.
DEFAULT_GAMMA = 0.99

Array = NDArray[np.int64]
# Arrays by the names of the terms, whole numbers or not.
Terms = dict[str, NDArray[Any]]


class Steps(Protocol):
    """What an environment tells of the last step of its `n` games.

    Surfaces are (n, 3): a board's holes, the sum of its heights, and its bumpiness.
    """

    def term(self, name: str) -> Array:
        """Return a term that is no shaping, in an array of its own: (n,)."""

    def surfaces(self) -> Array:
        """Return the boards' surfaces as they are now."""

    def surfaces_around(self) -> tuple[Array, Array]:
        """Return the surfaces that the step led to, and those the next begins with.

        The first are 0 for games that are over (but not for truncated ones), the second
        for all that begin anew.
        """


class Rewards:
    """The rewards of many games' steps.

    Args:
        steps: of the games.
        weights: of each term; a term whose weight is 0 is only reported.
        gamma: the learner's discount.

    Raises:
        ValueError: `weights` or `gamma` are not allowed.
    """

    def __init__(
        self, steps: Steps, weights: Mapping[str, float], gamma: float
    ) -> None:
        if not is_number(gamma) or not 0.0 <= gamma <= 1.0:
            raise ValueError(f"gamma: {gamma!r}; allowed: 0 to 1")
        self._steps = steps
        self._gamma = float(gamma)
        self.weights = weights

    @property
    def weights(self) -> dict[str, float]:
        """The weights, as a copy; can be set at any time, with another mapping."""
        return dict(self._weights)

    @weights.setter
    def weights(self, weights: Mapping[str, float]) -> None:
        self._weights = check_reward(weights)
        self._plain = [name for name in self._weights if name not in SHAPING]
        self._shaping = [name for name in self._weights if name in SHAPING]
        self.begin()

    def begin(self) -> None:
        """Take the games as they are for those that the next step begins with."""
        self._before = self._steps.surfaces() if self._shaping else None

    def take(self) -> tuple[NDArray[np.float32], Terms]:
        """Return the last step's rewards (n,), and its terms before their weights.

        To be called once, after every step.
        """
        terms: Terms = {name: self._steps.term(name) for name in self._plain}
        if self._before is not None:
            led_to, following = self._steps.surfaces_around()
            gained = self._gamma * led_to - self._before
            self._before = following
            for name in self._shaping:
                terms[name] = gained[:, SHAPING.index(name)]
        return self._weigh(terms), terms

    def _weigh(self, terms: Terms) -> NDArray[np.float32]:
        (name, term), *others = terms.items()
        weight = self._weights[name]
        if not others and weight == 1.0:  # the default, in one pass
            return term.astype(np.float32)
        total = term * weight
        for name, term in others:
            total = total + term * self._weights[name]
        return total.astype(np.float32)


def terms_of(terms: Terms, game: int) -> dict[str, float]:
    """Return the terms of one game."""
    return {name: term[game].item() for name, term in terms.items()}


def all_terms(terms: Terms) -> Iterator[dict[str, float]]:
    """Return the terms of each game; don't change them: those that are equal are one.

    Plain dicts all the same, so that they can be pickled and copied like other infos.
    """
    shared = _Shared(terms)
    rows = zip(*(term.tolist() for term in terms.values()), strict=True)
    return map(shared.__getitem__, rows)


class _Shared(dict[tuple[float, ...], dict[str, float]]):
    """Terms by their values; a thousand dicts cost more than a thousand moves."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = tuple(names)

    def __missing__(self, row: tuple[float, ...]) -> dict[str, float]:
        made = dict(zip(self._names, row, strict=True))
        self[row] = made
        return made
