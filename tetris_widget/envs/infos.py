"""The infos of a step of many games.

Owns when they are made: most are never looked at, and a thousand dicts cost more than a
thousand moves. Deliberately doesn't know rules, or what is in an info beside its end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from tetris_widget.envs.observations import Observed
from tetris_widget.envs.rewards import Terms, all_terms, terms_of

Info = dict[str, Any]


class Infos(Sequence[Info]):
    """The infos of a step, one per env, each made when it is first asked for.

    What is put into one stays there; but infos may have the same `reward_terms`.

    Args:
        make: returns an info by a column of `values`, and the terms.
        values: (k, m) int64, of the envs that are told of, at the step.
        terms: (m,) each of the reward's, before its weight.
        which: (m,) the envs that are told of, by number; None: all.
        earlier: the infos of the others.
    """

    def __init__(
        self,
        make: Callable[..., Info],
        values: NDArray[np.int64],
        terms: Terms,
        which: NDArray[np.int64] | None = None,
        earlier: Sequence[Info] = (),
    ) -> None:
        self._make = make
        self._values = values
        self._terms = terms
        self._which = which
        self._earlier = earlier
        # Those that were asked for; all of them, once they were gone through.
        self._made: dict[int, Info] = {}
        self._all: list[Info] | None = None
        # Of games that ended: their place in what is known of their ends.
        self._rows: dict[int, int] = {}
        self._truncated: NDArray[np.bool_] = np.zeros(0, np.bool_)
        self._last: Observed = None
        self._observe_last: Callable[[], Observed] | None = None

    @property
    def all(self) -> list[Info] | None:
        """All of them, if they were gone through; not to be changed."""
        return self._all

    def end(
        self,
        ended: NDArray[np.int64],
        truncated: NDArray[np.bool_],
        observe_last: Callable[[], Observed],
    ) -> None:
        """Add how games ended; to be called before any of theirs is asked for but 0.

        Args:
            ended: (m,) which; they are told of.
            truncated: (m,) whether they were cut.
            observe_last: returns their last observations (m, …); called when the first
                is asked for, if ever.
        """
        self._rows = {env: row for row, env in enumerate(ended.tolist())}
        self._truncated, self._observe_last = truncated, observe_last
        for env in self._made.keys() & self._rows.keys():
            self._made[env].update(self._end_of(env))

    def _end_of(self, env: int) -> Info:
        row = self._rows[env]
        if self._observe_last is not None:
            self._last, self._observe_last = self._observe_last(), None
        return end_info(bool(self._truncated[row]), self._last, row)

    def __len__(self) -> int:
        return self._values.shape[1] if self._which is None else len(self._earlier)

    @overload
    def __getitem__(self, index: int) -> Info: ...
    @overload
    def __getitem__(self, index: slice) -> list[Info]: ...
    def __getitem__(self, index: int | slice) -> Info | list[Info]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        # Refuses what a list would, and counts negative indices from the end.
        index = range(len(self))[index]
        if self._all is not None:
            return self._all[index]
        if index not in self._made:
            self._made[index] = self._make_one(index)
        return self._made[index]

    def _make_one(self, env: int) -> Info:
        row = env
        if self._which is not None:
            row = int(np.searchsorted(self._which, env))
            if row == len(self._which) or self._which[row] != env:
                return self._earlier[env]
        made = self._make(*self._values[:, row].tolist(), terms_of(self._terms, row))
        if env in self._rows:
            made.update(self._end_of(env))
        return made

    def __iter__(self) -> Iterator[Info]:
        if self._all is None:
            self._all = self._make_all()
        return iter(self._all)

    def _make_all(self) -> list[Info]:
        rows = zip(*self._values.tolist(), all_terms(self._terms), strict=True)
        if self._which is None:
            made = [self._make(*row) for row in rows]
        else:
            made = list(self._earlier)
            for env, row in zip(self._which.tolist(), rows, strict=True):
                made[env] = self._make(*row)
        for env in self._rows:
            made[env].update(self._end_of(env))
        for env, info in self._made.items():
            made[env] = info
        return made


def end_info(is_truncated: bool, last: Observed, row: int) -> Info:
    """Return what an info says of an episode's end, as SB3 asks for it.

    Args:
        is_truncated: whether it was cut.
        last: the last observations of several episodes.
        row: which of them.
    """
    if isinstance(last, dict):
        observation: Observed = {name: part[row] for name, part in last.items()}
    else:
        observation = last[row]
    return {"TimeLimit.truncated": is_truncated, "terminal_observation": observation}
