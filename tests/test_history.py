"""History: bounded, nothing that stood out is lost, and "all since n" is exact."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from tetris_widget.history import MAX_BUCKETS, MAX_MESSAGES, MetricsHistory, Series


def episode(number: int, lines: int | None = 1) -> dict[str, Any]:
    return {
        "type": "episode",
        "episode": number,
        "timesteps": number * 10,
        "reward": float(number % 7),
        "length": 10,
        "lines": lines,
    }


class Reader:
    """A browser: applies tails and holds what it was sent."""

    def __init__(self) -> None:
        self.seq = 0
        self.held: dict[str, tuple[int, np.ndarray]] = {}

    def sync(self, history: MetricsHistory) -> None:
        self.seq, tails, _ = history.since(self.seq)
        for tail in tails:
            epoch, old = self.held.get(tail.name, (tail.epoch, np.zeros((4, 0))))
            if epoch != tail.epoch:
                assert tail.start == 0
                old = np.zeros((4, 0))
            assert tail.start <= old.shape[1]
            joined = np.concatenate([old[:, : tail.start], tail.columns], axis=1)
            self.held[tail.name] = (tail.epoch, joined)


@settings(max_examples=20, deadline=None)
@given(
    count=st.integers(1, 3 * MAX_BUCKETS),
    seed=st.integers(0, 99),
    every=st.integers(1, 900),
)
def test_buckets_keep_extremes_means_and_readers_keep_up(
    count: int, seed: int, every: int
) -> None:
    values = np.random.default_rng(seed).normal(size=count)
    history, reader = MetricsHistory(), Reader()
    series = history._series["a"] = Series("a")
    for index, value in enumerate(values):
        history.seq += 1
        series.add(history.seq, index, value, value, value)
        if index % every == 0:
            reader.sync(history)
    reader.sync(history)
    x, lo, hi, mean = series.columns
    assert series.length <= MAX_BUCKETS
    assert series.counts.sum() == count
    assert lo.min() == values.min()
    assert hi.max() == values.max()
    assert np.isclose((mean * series.counts).sum() / count, values.mean())
    assert (np.diff(x) > 0).all()
    assert x[-1] == count - 1
    assert np.array_equal(reader.held["a"][1], series.columns)


@given(count=st.integers(1, 2_000), at_most=st.integers(1, 100))
def test_fewer_points_keep_extremes_and_the_end(count: int, at_most: int) -> None:
    values = np.random.default_rng(count).normal(size=count)
    history = MetricsHistory()
    series = history._series["a"] = Series("a")
    series.load(1, np.stack((np.arange(count), values - 1, values + 1, values)))
    x, lo, hi, mean = history.series("a", at_most)
    assert len(x) <= at_most
    assert (x[-1], lo.min(), hi.max()) == (
        count - 1,
        values.min() - 1,
        values.max() + 1,
    )
    assert (lo <= mean).all() and (mean <= hi).all()


def test_a_few_points_are_kept_as_they_are() -> None:
    history = MetricsHistory()
    for number in range(1, 11):
        history.add(episode(number, lines=number))
    assert history.series("episode/lines")[3].tolist() == list(range(1, 11))
    assert history.best_lines == 10
    assert history.episodes == 10


def test_the_running_mean_is_of_the_last_hundred() -> None:
    history = MetricsHistory()
    for number in range(1, 251):
        history.add(episode(number, lines=number))
    assert history.series("running/lines")[3, -1] == np.mean(range(151, 251))


def test_a_million_episodes_stay_small() -> None:
    series = Series("a")
    for index in range(200_000):
        series.add(index + 1, index, 1.0, 1.0, 1.0)
    assert series.length <= MAX_BUCKETS
    assert series._columns.nbytes + series._changed.nbytes < 100_000


def test_evaluations_carry_their_interval() -> None:
    history = MetricsHistory()
    history.add(
        {
            "type": "evaluation",
            "timesteps": 5,
            "mean_lines": 3.0,
            "lower": 2.0,
            "upper": 4.5,
        }
    )
    assert history.series("evaluation/lines").T.tolist() == [[5.0, 2.0, 4.5, 3.0]]


def test_metrics_that_are_not_finite_are_not_drawn() -> None:
    history = MetricsHistory()
    values = {"train/loss": float("nan"), "train/entropy_loss": None, "train/kl": 0.5}
    history.add({"type": "metrics", "timesteps": 1, "fps": 9.0, "values": values})
    assert sorted(history.names()) == ["speed/fps", "train/kl"]


def test_nothing_new_is_nothing_to_send() -> None:
    history = MetricsHistory()
    history.add(episode(1))
    seq, tails, _ = history.since(0)
    assert tails
    assert history.since(seq) == (seq, [], [])


def test_messages_are_bounded_and_sent_once() -> None:
    history = MetricsHistory()
    for number in range(MAX_MESSAGES + 50):
        history.note("info", str(number))
    seq, _, notes = history.since(0)
    assert len(notes) == MAX_MESSAGES
    assert history.since(seq)[2] == []


def test_a_newer_note_on_a_topic_takes_the_place_of_a_young_one() -> None:
    history = MetricsHistory()
    history.note("good", "best 1", 10.0, topic="best")
    history.note("info", "other", 10.5)
    seq, _, _ = history.since(0)
    history.note("good", "best 2", 11.0, topic="best")
    history.note("good", "best 3", 12.5, topic="best")
    # A reader that has the first one finds by its `id` what it is replaced by.
    notes = history.since(0)[2]
    assert [note["text"] for note in notes] == ["other", "best 3"]
    (news,) = history.since(seq)[2]
    assert (news["id"], news["text"]) == (1, "best 3")
    history.note("good", "best 4", 14.5, topic="best")
    texts = [note["text"] for note in history.since(0)[2]]
    assert texts == ["other", "best 3", "best 4"]


def test_notes_of_another_run_or_topic_or_time_stay() -> None:
    history = MetricsHistory()
    history.note("good", "a", 1.0, topic="best")
    history.note("good", "b", 1.5, topic="best_eval")
    history.clear()
    history.note("good", "c", 1.9, topic="best")
    history.note("good", "d", 0.5, topic="best")
    history.note("good", "e", None, topic="best")
    texts = [note["text"] for note in history.since(0)[2]]
    assert texts == ["a", "b", "c", "d", "e"]
    for number in range(MAX_MESSAGES):
        history.note("info", str(number))
    history.note("good", "f", 0.6, topic="best")
    assert len(history.since(0)[2]) == MAX_MESSAGES


def test_a_new_run_forgets_the_curves_but_not_the_messages() -> None:
    history = MetricsHistory()
    history.add(episode(1))
    history.note("info", "kept")
    before = history.seq
    history.clear()
    assert history.names() == []
    assert history.seq > before
    assert [note["text"] for note in history.since(0)[2]] == ["kept"]


@settings(max_examples=20, deadline=None)
@given(count=st.integers(0, 3 * MAX_BUCKETS), seed=st.integers(0, 99))
def test_loading_at_once_equals_adding_one_by_one(count: int, seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=count)
    added, loaded = Series("a"), Series("a")
    for index, value in enumerate(values):
        added.add(index + 1, index, value, value, value)
    loaded.load(count, np.array([np.arange(count), values, values, values]))
    np.testing.assert_allclose(loaded.columns, added.columns, atol=1e-12)
    assert loaded.counts.tolist() == added.counts.tolist()
    assert (loaded.stride, loaded.epoch) == (added.stride, added.epoch)
    for series in (added, loaded):
        series.add(count + 1, count, 9.0, 9.0, 9.0)
    np.testing.assert_allclose(loaded.columns, added.columns, atol=1e-12)


def test_a_run_that_is_read_back_goes_on_without_a_seam() -> None:
    live, read = MetricsHistory(), MetricsHistory()
    messages = [episode(n, lines=n % 5) for n in range(1, 400)]
    for message in messages:
        live.add(message)
    evaluation = {"timesteps": 50, "mean_lines": 4.0, "lower": 3.0, "upper": 5.0}
    live.add({"type": "evaluation", **evaluation})
    metrics = {"timesteps": 60, "fps": 10.0, "train/loss": 0.5}
    live.add({"type": "metrics", **metrics, "values": {"train/loss": 0.5}})
    read.load(
        pd.DataFrame(messages), pd.DataFrame([metrics]), pd.DataFrame([evaluation])
    )
    for history in (live, read):
        history.add(episode(400, lines=3))
    assert set(live.names()) == set(read.names())
    for name in live.names():
        np.testing.assert_allclose(live.series(name), read.series(name))
    assert (live.episodes, live.best_lines) == (read.episodes, read.best_lines)


def test_an_empty_run_can_be_read_back() -> None:
    history = MetricsHistory()
    columns = ["timesteps", "length", "reward", "lines", "episode"]
    figures = ["timesteps", "mean_lines", "lower", "upper"]
    history.load(
        pd.DataFrame(columns=columns, dtype=float),
        pd.DataFrame(columns=["timesteps", "fps"], dtype=float),
        pd.DataFrame(columns=figures, dtype=float),
    )
    assert history.names() == []
    assert (history.episodes, history.best_lines) == (0, None)


def test_a_series_that_a_resume_took_back_is_gone_for_readers_too() -> None:
    history, reader = MetricsHistory(), Reader()
    history.add(episode(1))
    evaluation = {"type": "evaluation", "timesteps": 9, "mean_lines": 2.0}
    history.add({**evaluation, "lower": 1.0, "upper": 3.0})
    reader.sync(history)
    assert reader.held["evaluation/lines"][1].shape == (4, 1)
    columns = ["episode", "timesteps", "reward", "length", "lines"]
    episodes = pd.DataFrame([episode(1)])[columns]
    metrics = pd.DataFrame({"timesteps": [], "fps": []})
    none = pd.DataFrame({"timesteps": [], "mean_lines": [], "lower": [], "upper": []})
    history.load(episodes, metrics, none)
    assert "evaluation/lines" not in history.names()
    reader.sync(history)
    assert reader.held["evaluation/lines"][1].shape == (4, 0)
    fresh = Reader()
    fresh.sync(history)
    assert fresh.held["episode/lines"][1].shape == (4, 1)
    history.add({**evaluation, "lower": 1.0, "upper": 3.0})
    reader.sync(history)
    assert reader.held["evaluation/lines"][1].shape == (4, 1)
    seq = reader.seq
    assert [tail.name for tail in history.since(seq)[1]] == []
