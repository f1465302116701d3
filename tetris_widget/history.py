"""What a run has reported so far, small enough to keep and to send.

Owns downsampling: each series keeps at most 2048 buckets of its whole history, and in
each bucket the least and the greatest value, so that nothing that stood out is lost.
Answers "all since n". Deliberately doesn't know who reports or who draws.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

Message = dict[str, Any]

MAX_BUCKETS = 2048
MAX_MESSAGES = 200
# Of messages on one topic that come so close together, the last one is kept.
SAME_TOPIC_SECONDS = 2.0
RUNNING_MEAN_EPISODES = 100
COLUMNS = ("x", "lo", "hi", "mean")


@dataclass(frozen=True)
class Tail:
    """The part of a series that changed.

    Attributes:
        name: of the series.
        epoch: grows whenever older points are merged; the whole series is sent then.
        start: index of the first point; 0 of a series that is gone, without any.
        columns: (4, length) float64: x, lo, hi, mean.
    """

    name: str
    epoch: int
    start: int
    columns: NDArray[np.float64]


class Series:
    """One curve: buckets of `stride` consecutive points each.

    While there are few points every bucket is one point. When the buckets are full,
    neighbours merge: the least `lo`, the greatest `hi`, the weighted `mean`, the last
    `x`.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.epoch = 0
        self.stride = 1
        self.length = 0
        self._columns = np.zeros((4, MAX_BUCKETS))
        self._counts = np.zeros(MAX_BUCKETS, np.int64)
        # Number of the change that last touched each bucket.
        self._changed = np.zeros(MAX_BUCKETS, np.int64)
        self.epoch_changed = 0

    @property
    def counts(self) -> NDArray[np.int64]:
        """Points in each bucket: (length,)."""
        return self._counts[: self.length]

    @property
    def columns(self) -> NDArray[np.float64]:
        """The buckets: (4, length)."""
        return self._columns[:, : self.length]

    def add(self, change: int, x: float, lo: float, hi: float, mean: float) -> None:
        """Add a point, as change number `change`."""
        last = self.length - 1
        if self.length and self._counts[last] < self.stride:
            self._merge_into(last, x, lo, hi, mean)
        else:
            if self.length == MAX_BUCKETS:
                self._halve(change)
            last = self.length
            self.length += 1
            self._columns[:, last] = x, lo, hi, mean
            self._counts[last] = 1
        self._changed[last] = change

    def load(self, change: int, points: NDArray[np.float64]) -> None:
        """Take in (4, n) points at once, as adding one after the other would.

        Only for a series that has none yet.
        """
        n = points.shape[1]
        if not n:
            return
        while self.stride * MAX_BUCKETS < n:
            self.stride *= 2
            self.epoch += 1
        merged, counts = merge(points, self.stride)
        self.length = len(counts)
        self._columns[:, : self.length] = merged
        self._counts[: self.length] = counts
        self._changed[: self.length] = change
        self.epoch_changed = change

    def since(self, change: int) -> Tail | None:
        """Return what changed after change number `change`, or None."""
        start = 0
        if change > 0 and self.epoch_changed <= change:
            # Changes only ever touch the end, so their numbers ascend.
            changed = self._changed[: self.length]
            start = int(np.searchsorted(changed, change, side="right"))
        is_gone = not self.length and self.epoch_changed > change
        if start == self.length and not is_gone:
            return None
        return Tail(self.name, self.epoch, start, self.columns[:, start:].copy())

    def _merge_into(
        self, index: int, x: float, lo: float, hi: float, mean: float
    ) -> None:
        column = self._columns[:, index]
        count = self._counts[index] + 1
        column[0] = x
        column[1] = min(column[1], lo)
        column[2] = max(column[2], hi)
        column[3] += (mean - column[3]) / count
        self._counts[index] = count

    def _halve(self, change: int) -> None:
        pairs = self._columns.reshape(4, -1, 2)
        counts = self._counts.reshape(-1, 2)
        half = MAX_BUCKETS // 2
        merged = np.stack(
            [
                pairs[0, :, 1],
                pairs[1].min(1),
                pairs[2].max(1),
                (pairs[3] * counts).sum(1) / counts.sum(1),
            ]
        )
        self._columns[:, :half] = merged
        self._counts[:half] = counts.sum(1)
        self._changed[:half] = change
        self.length = half
        self.stride *= 2
        self.epoch += 1
        self.epoch_changed = change


def merge(
    points: NDArray[np.float64], size: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Merge `size` consecutive points each: the last x, the extremes, the mean.

    Args:
        points: (4, n), of which there are some.
        size: the last ones may be fewer.

    Returns:
        What they make, (4, m), and how many there were of each, (m,).
    """
    n = points.shape[1]
    starts = np.arange(0, n, size)
    counts = np.diff(starts, append=n)
    x, lo, hi, mean = points
    merged = (
        x[starts + counts - 1],
        np.minimum.reduceat(lo, starts),
        np.maximum.reduceat(hi, starts),
        np.add.reduceat(mean, starts) / counts,
    )
    return np.stack(merged), counts


class MetricsHistory:
    """Everything of one run that is drawn or listed."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._series: dict[str, Series] = {}
        self._notes: deque[Message] = deque(maxlen=MAX_MESSAGES)
        # The `id` of the last note on each topic.
        self._topics: dict[str, int] = {}
        self._recent_lines: deque[float] = deque(maxlen=RUNNING_MEAN_EPISODES)
        self._recent_rewards: deque[float] = deque(maxlen=RUNNING_MEAN_EPISODES)
        self.seq = 0
        self.episodes = 0
        self.best_lines: int | None = None

    def clear(self) -> None:
        """Forget the curves, for a new run; the messages stay, `seq` goes on."""
        with self._lock:
            self._series.clear()
            self._topics.clear()
            self._recent_lines.clear()
            self._recent_rewards.clear()
            self.episodes = 0
            self.best_lines = None
            self.seq += 1

    def add(self, message: Message) -> None:
        """Take in a message of the training process."""
        with self._lock:
            self.seq += 1
            if message["type"] == "episode":
                self._add_episode(message)
            elif message["type"] == "evaluation":
                self._point(
                    "evaluation/lines",
                    message["timesteps"],
                    message["mean_lines"],
                    message["lower"],
                    message["upper"],
                )
            elif message["type"] == "metrics":
                self._add_metrics(message)

    def load(
        self, episodes: pd.DataFrame, metrics: pd.DataFrame, evaluations: pd.DataFrame
    ) -> None:
        """Forget the curves, and show those of a run directory's tables instead.

        Args:
            episodes: as `RunDirectory.episodes()` returns them.
            metrics: as `RunDirectory.metrics()` does.
            evaluations: as `RunDirectory.evaluations()` does.
        """
        with self._lock:
            before = list(self._series)
            self.clear()
            x = episodes["timesteps"]
            self._load("episode/length", x, episodes["length"])
            self._load_with_mean("reward", x, episodes["reward"], self._recent_rewards)
            lines = episodes["lines"].dropna()
            self._load_with_mean("lines", x[lines.index], lines, self._recent_lines)
            self.episodes = int(episodes["episode"].max()) if len(episodes) else 0
            self.best_lines = int(lines.max()) if len(lines) else None
            self._load(
                "evaluation/lines",
                evaluations["timesteps"],
                evaluations["mean_lines"],
                bounds=(evaluations["lower"], evaluations["upper"]),
            )
            for name in metrics.columns:
                series = "speed/fps" if name == "fps" else name
                if series == "speed/fps" or name.startswith("train/"):
                    self._load(series, metrics["timesteps"], metrics[name])
            # What is still shown of those that are gone must go, too.
            for name in before:
                if name not in self._series:
                    self._series[name] = Series(name)
                    self._series[name].epoch_changed = self.seq

    def note(
        self,
        level: str,
        text: str,
        elapsed: float | None = None,
        detail: str | None = None,
        topic: str | None = None,
    ) -> None:
        """Add a line for people to read: level `info`, `good`, `warning`, `error`.

        It takes the place of the last one on its topic, if that is less than two
        seconds older: it then has that one's `id`, by which a reader finds what it
        replaces.
        """
        with self._lock:
            self.seq += 1
            identifier = self.seq
            former = self._last_on(topic, elapsed)
            if former is not None:
                identifier = former["id"]
                self._notes.remove(former)
            if topic is not None and elapsed is not None:
                self._topics[topic] = identifier
            self._notes.append(
                {
                    "seq": self.seq,
                    "id": identifier,
                    "level": level,
                    "text": text,
                    "elapsed": elapsed,
                    "detail": detail,
                }
            )

    def _last_on(self, topic: str | None, elapsed: float | None) -> Message | None:
        if topic not in self._topics or elapsed is None:
            return None
        for note in reversed(self._notes):
            if note["id"] == self._topics[topic]:
                age = elapsed - note["elapsed"]
                return note if 0 <= age < SAME_TOPIC_SECONDS else None
        return None

    def touch(self) -> int:
        """Count a change of something kept elsewhere; return the new `seq`."""
        with self._lock:
            self.seq += 1
            return self.seq

    def series(self, name: str, at_most: int | None = None) -> NDArray[np.float64]:
        """Return a series' (4, length) columns x, lo, hi, mean; empty if unknown.

        Args:
            name: of the series.
            at_most: so many points; neighbours are merged.
        """
        with self._lock:
            found = self._series.get(name)
            columns = np.zeros((4, 0)) if found is None else found.columns.copy()
        n = columns.shape[1]
        if at_most is None or n <= at_most:
            return columns
        return merge(columns, -(-n // at_most))[0]

    def names(self) -> list[str]:
        """Return the names of the series that have points."""
        with self._lock:
            return [name for name, series in self._series.items() if series.length]

    def since(self, seq: int) -> tuple[int, list[Tail], list[Message]]:
        """Return the newest `seq`, and the tails and notes after `seq`."""
        with self._lock:
            tails = [one.since(seq) for one in self._series.values()]
            notes = [note for note in self._notes if note["seq"] > seq]
            return self.seq, [tail for tail in tails if tail is not None], notes

    def _add_episode(self, message: Message) -> None:
        self.episodes = message["episode"]
        x = message["timesteps"]
        self._point("episode/reward", x, message["reward"])
        self._point("episode/length", x, message["length"])
        self._recent_rewards.append(message["reward"])
        self._point("running/reward", x, _mean(self._recent_rewards))
        lines = message["lines"]
        if lines is None:
            return
        self.best_lines = max(lines, self.best_lines or 0)
        self._point("episode/lines", x, lines)
        self._recent_lines.append(lines)
        self._point("running/lines", x, _mean(self._recent_lines))

    def _add_metrics(self, message: Message) -> None:
        x = message["timesteps"]
        self._point("speed/fps", x, message["fps"])
        for key, value in message["values"].items():
            if value is not None:
                self._point(key, x, value)

    def _load_with_mean(
        self, name: str, x: pd.Series[Any], y: pd.Series[Any], recent: deque[float]
    ) -> None:
        self._load(f"episode/{name}", x, y)
        mean = y.rolling(RUNNING_MEAN_EPISODES, min_periods=1).mean()
        self._load(f"running/{name}", x, mean)
        recent.extend(y.tail(RUNNING_MEAN_EPISODES).astype(float))

    def _load(
        self,
        name: str,
        x: pd.Series[Any],
        y: pd.Series[Any],
        bounds: tuple[pd.Series[Any], pd.Series[Any]] | None = None,
    ) -> None:
        lo, hi = bounds or (y, y)
        points = np.array([x, lo, hi, y], np.float64)
        points = points[:, np.isfinite(points[3])]
        if points.shape[1]:
            self._series[name] = Series(name)
            self._series[name].load(self.seq, points)

    def _point(
        self,
        name: str,
        x: float,
        mean: float,
        lo: float | None = None,
        hi: float | None = None,
    ) -> None:
        if not math.isfinite(mean):
            return
        if name not in self._series:
            self._series[name] = Series(name)
        low = mean if lo is None else lo
        high = mean if hi is None else hi
        self._series[name].add(self.seq, x, low, high, mean)


def _mean(values: deque[float]) -> float:
    return sum(values) / len(values)
