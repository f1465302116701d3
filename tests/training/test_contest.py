"""The contest for the best policy: who wins it, and how sure that is."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from tetris_widget.config import TrainingConfig
from tetris_widget.training import contest as module
from tetris_widget.training.contest import (
    Arm,
    Contest,
    ContestThread,
    Standing,
    Verdict,
)
from tetris_widget.training.environments import tetris_env
from tetris_widget.training.evaluation import (
    Evaluation,
    Player,
    exponential_interval,
    summarise,
)
from tetris_widget.training.policies import build_model
from tetris_widget.training.table import Table

pytestmark = pytest.mark.timeout(60)
CONFIG = TrainingConfig(
    rows=10, training_rows=10, columns=6, n_envs=2, n_steps=8, batch_size=16
)
# Weights of `holes` and of the sum of heights: worth about 0, 6 and 13 lines a game.
BAD, FAIR, GOOD = (1.0, 1.0), (-1.0, 0.0), (0.0, -1.0)


def player(holes: float, heights: float) -> Player:
    model: Any = build_model(CONFIG, tetris_env(CONFIG, 2, seed=0))
    weights = model.policy.net.scorer.layers.weight.data
    weights.zero_()
    weights[0, 4], weights[0, 9] = holes, heights
    return Player(model)


def play_until_quiet(contest: Contest) -> list[Verdict]:
    found = []
    while contest.work(0.05):
        verdict = contest.take_verdict()
        if verdict is not None:
            found.append(verdict)
    return found


def shown(lines: float, games: int) -> Arm:
    """Return an arm of so many games that have ended, of so many lines each."""
    arm = Arm(player(*FAIR), CONFIG, seed=0)
    arm.ended, arm._lines = games, int(lines * games)
    return arm


def play_again(player: Player, config: TrainingConfig, verdict: Verdict) -> Evaluation:
    """Play the games that confirmed a verdict."""
    table = Table(config, verdict.evaluation.games, verdict.seed)
    while player.move(table):
        pass
    return summarise(table)


@pytest.fixture(autouse=True)
def soon_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ENOUGH_GAMES", 400)


def test_the_best_wins_whatever_the_order() -> None:
    for order in ((BAD, FAIR, GOOD), (GOOD, FAIR, BAD), (FAIR, GOOD, FAIR)):
        contest = Contest(CONFIG)
        verdicts = []
        for weights in order:
            contest.offer(player(*weights), weights)
            verdicts += play_until_quiet(contest)
        assert verdicts[-1].candidate == GOOD
        worth = [v.evaluation.mean_lines for v in verdicts]
        assert worth == sorted(worth)


@pytest.mark.parametrize(
    ("lines", "games", "is_best"),
    # That of a hundred games may be luck: of hundreds of policies one is so lucky.
    [(12.0, 100, False), (12.0, 1_000, True), (10.3, 1_000, True), (9.7, 1_000, False)],
)
def test_luck_makes_nobody_the_best(lines: float, games: int, is_best: bool) -> None:
    contest = Contest(CONFIG)
    contest._champion = shown(10.0, 1_000)
    assert contest._is_best(shown(lines, games)) is is_best


def test_a_winner_is_confirmed_in_games_that_nobody_else_has_played() -> None:
    contest = Contest(CONFIG)
    contest.offer(player(*GOOD), "good")
    (verdict,) = play_until_quiet(contest)
    result = verdict.evaluation
    assert result.finished == result.games == module.CONFIRMING_GAMES
    assert result.lower < result.mean_lines < result.upper
    assert not result.capped
    assert play_again(player(*GOOD), CONFIG, verdict) == result


class Endless(Player):
    """Plays nothing: games that never end, and pieces as a test says."""

    def __init__(self) -> None:
        pass

    def move(self, table: Any, *_: Any) -> int:
        table.games.pieces += 1
        table.games.lines += 1
        return len(table.over)


def confirming(first: int, seconds: float) -> float:
    """Return for how long a leader of so many pieces plays, a piece each so long."""
    contest = Contest(CONFIG)
    contest.offer(Endless(), "endless")
    arm = contest._next_new()
    assert arm is not None
    while arm.pieces < first:
        arm.play()
    contest.work(0.0)
    trial = contest._trial
    assert trial is not None
    while not trial.is_over():
        trial.play()
        trial.seconds += seconds
    return trial.seconds


def test_a_leader_of_long_games_plays_again_as_much_as_it_had() -> None:
    # It had a piece at a time in 64 games, and has one at a time in a hundred.
    assert confirming(first=16 * 64, seconds=0.5) == 5.5
    assert confirming(first=2 * 64, seconds=0.5) == 3.0
    assert confirming(first=100 * 64, seconds=0.5) == 10.0


def test_games_that_do_not_end_are_told_as_a_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "CONFIRMING_SECONDS", 0.1)
    contest = Contest(CONFIG)
    contest.offer(Endless(), "endless")
    while (verdict := contest.take_verdict()) is None:
        contest.work(0.05)
    result = verdict.evaluation
    assert result.capped
    assert result.finished == 0
    assert 0 < result.lower < result.mean_lines


def test_a_bound_is_never_told_below_that_of_the_best_one_before() -> None:
    contest = Contest(CONFIG, None, least_lines=1_000.0)
    contest.offer(Endless(), "endless")
    while contest._trial is None:
        contest.work(0.0)
    # As one whose time is up, and which has played as much as it had.
    contest._trial.seconds = module.MAX_CONFIRMING_SECONDS
    contest.work(1e-9)
    assert contest.take_verdict() is None
    while (verdict := contest.take_verdict()) is None:
        contest.work(0.05)
    result = verdict.evaluation
    assert result.capped
    assert result.lower >= 1_000.0
    # A move earlier, a line less in each game, it had not.
    a_move_earlier = result.mean_lines - result.games
    assert exponential_interval(a_move_earlier, 0)[0] < 1_000.0


def test_keys_and_reachable_placements_have_a_contest_too() -> None:
    for action in ("keys", "reachable"):
        kind = {"action": action, "observation": "flat", "policy": "mlp"}
        config = CONFIG.replace(**kind, training_rows=8)
        one = Player(build_model(config, tetris_env(config, 2, seed=0)))
        contest = Contest(config)
        contest.offer(one, action)
        (verdict,) = play_until_quiet(contest)
        result = verdict.evaluation
        assert result.finished == module.CONFIRMING_GAMES
        assert result.pieces > result.finished
        assert play_again(one, config, verdict) == result


def test_a_mean_of_a_few_lines_is_not_taken_for_sure() -> None:
    few, many = Arm(Endless(), CONFIG, 0), Arm(Endless(), CONFIG, 0)
    for arm, lines in ((few, 4), (many, 4_000)):
        arm.ended, arm._lines = 100, lines
    spread = [arm.bound(1.0) - arm.bound(-1.0) for arm in (few, many)]
    assert spread[0] == pytest.approx(2 * np.sqrt(1 / 100 + 1 / 4))
    assert spread[1] == pytest.approx(2 * np.sqrt(1 / 100 + 1 / 4_000))


def test_there_is_a_best_one_before_a_line_is_cleared() -> None:
    class Idle(Endless):
        def move(self, table: Any, *_: Any) -> int:
            table.over[:] = True
            return len(table.over)

    contest = Contest(CONFIG)
    for number in range(3):
        contest.offer(Idle(), number)
    (verdict,) = play_until_quiet(contest)
    assert verdict.candidate == 2
    assert verdict.evaluation.mean_lines == 0.0
    # Others that clear none are no better; who clears one is.
    contest.offer(Idle(), "idle")
    assert play_until_quiet(contest) == []
    contest.offer(player(*FAIR), "fair")
    assert play_until_quiet(contest)[0].candidate == "fair"


def test_who_is_not_better_than_the_best_before_does_not_win() -> None:
    contest = Contest(CONFIG, Standing(rows=10, lines=100_000, ended=100))
    contest.offer(player(*GOOD), "good")
    assert play_until_quiet(contest) == []


def test_policies_are_compared_in_low_games_and_confirmed_in_whole_ones() -> None:
    low = CONFIG.replace(training_rows=6)
    contest = Contest(low)
    contest.offer(player(*GOOD), "good")
    (verdict,) = play_until_quiet(contest)
    assert verdict.evaluation == play_again(player(*GOOD), CONFIG, verdict)
    standing = verdict.standing
    assert standing.rows == 6
    assert standing.ended >= 100
    assert standing.lines / standing.ended < 0.75 * verdict.evaluation.mean_lines
    # Who comes after it, in another process, is compared with that.
    again = Contest(low, standing, verdict.evaluation.lower)
    again.offer(player(*GOOD), "good")
    again.offer(player(*FAIR), "fair")
    assert play_until_quiet(again) == []


def test_policies_are_compared_in_whole_games_where_those_are_short() -> None:
    for randomizer, rows in (("uniform", 10), ("bag", 6)):
        config = CONFIG.replace(training_rows=6, randomizer=randomizer)
        contest = Contest(config)
        contest.offer(player(*FAIR), "fair")
        (verdict,) = play_until_quiet(contest)
        assert verdict.standing.rows == rows


def test_a_last_policy_plays_until_it_wins_or_cannot() -> None:
    contest = Contest(CONFIG)
    contest.offer(player(*FAIR), "fair")
    play_until_quiet(contest)
    for weights, winner in ((BAD, None), (GOOD, "last"), (FAIR, None)):
        contest.begin_last(player(*weights), "last")
        assert contest.is_undecided
        while contest.is_undecided:
            contest.work(0.002)  # shorter than a turn
        verdict = contest.take_verdict()
        assert (verdict and verdict.candidate) == winner


def test_who_is_being_confirmed_can_be_so_to_the_end() -> None:
    contest = Contest(CONFIG)
    contest.offer(player(*GOOD), "good")
    while contest._trial is None:
        contest.work(0.01)
    contest.abandon()
    contest.work(0.01)
    assert contest.take_verdict() is None
    contest.go_on()
    while contest.is_undecided:
        contest.work(0.002)
    verdict = contest.take_verdict()
    assert verdict is not None
    assert verdict.candidate == "good"


def test_who_is_worse_in_whole_games_does_not_win() -> None:
    contest = Contest(CONFIG.replace(training_rows=6), None, least_lines=1_000.0)
    contest.offer(player(*GOOD), "good")
    assert play_until_quiet(contest) == []


def test_a_newer_policy_takes_the_place_of_one_that_waits() -> None:
    contest = Contest(CONFIG)
    assert contest.wants_more
    contest.offer(player(*GOOD), "old")
    assert not contest.wants_more
    contest.offer(player(*GOOD), "new")
    (verdict,) = play_until_quiet(contest)
    assert verdict.candidate == "new"
    assert contest.wants_more


def test_an_arm_counts_every_game_once() -> None:
    arm = Arm(player(*FAIR), CONFIG, 0)
    before = 0
    for _ in range(20):
        arm.play()
        assert arm.pieces > before
        before = arm.pieces
    assert arm.ended > 100
    # What is not on the boards was cleared, or was on those of games that ended.
    assert 4 * arm.pieces - CONFIG.columns * arm.lines > 0
    cells = np.array([bin(c).count("1") for c in arm._table.games.columns.ravel()])
    assert cells.sum() % 2 == 0  # boards are in order: pieces of four, rows of six


def test_the_thread_works_while_it_is_called_and_rests_when_it_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.05)
    contest = Contest(CONFIG)
    thread = ContestThread(contest)
    try:
        contest.offer(player(*GOOD), "good")
        verdict = until(lambda: thread.call() or contest.take_verdict())
        assert verdict.candidate == "good"
        time.sleep(0.3)
        contest.offer(player(*GOOD), "better")
        time.sleep(0.3)
        assert not contest.wants_more
        until(lambda: thread.call() or contest.wants_more)
    finally:
        before = time.perf_counter()
        thread.close()
    assert time.perf_counter() - before < 0.2


def test_what_goes_wrong_in_the_thread_is_raised_where_it_is_called() -> None:
    contest = Contest(CONFIG)
    thread = ContestThread(contest)
    contest.offer(None, "nobody")  # type: ignore[arg-type]
    with pytest.raises(AttributeError):
        until(lambda: thread.call())
    thread.close()


def until(condition: Any) -> Any:
    deadline = time.perf_counter() + 20
    while not (found := condition()):
        assert time.perf_counter() < deadline
        time.sleep(0.001)
    return found
