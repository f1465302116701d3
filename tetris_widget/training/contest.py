"""Who is the best so far: policies play for it, on a core of their own where there is.

Owns the games by which policies are compared, who leads, and that a leader is confirmed
in fresh games before it is called the best. Policies are arms of a bandit: those that
may still turn out the best play on, those that cannot are dropped. They are compared in
the run's own game if that is short, or else in games as low as those of training, of
which many end where hardly one of the full height does; what confirms a leader is the
run's own game. Deliberately doesn't know how policies come about or where the best one
is kept, and draws from no generator that the training uses.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tetris_widget.config import TrainingConfig
from tetris_widget.training.evaluation import (
    LEAST_LINES,
    Evaluation,
    Player,
    relative_error,
    summarise,
)
from tetris_widget.training.table import Table

# A contest's games never share a seed with training's, evaluation's, or the display's.
SEED_OFFSET = 3_000_000_019
# Games that a policy plays side by side: so many that the interpreter, which the
# training needs, has little to do between two calls of a kernel however short they are.
GAMES = 64
# Of uniform pieces on so many rows at most, games of the best end after thousands of
# pieces: as much can be learned of policies from these in a second as from lower ones,
# and who is the best there need not be quite the best here.
SHORT_GAME_ROWS = 10
# A turn of one policy: long enough to learn something of it, short enough that a leader
# is found while it still is one.
TURN_SECONDS = 0.2
# Of a policy whose games are short, so many are enough.
TURN_GAMES = 100
# A leader is confirmed in so many games, each to its end: the standard error is then a
# tenth. Games too long for that are cut after so many seconds, or when as many pieces
# are placed as had made it the leader, if that takes longer, or at last in any case,
# except that a leader of whose games none has ended shows no less than the one before.
CONFIRMING_GAMES = 100
CONFIRMING_SECONDS = 3.0
MAX_CONFIRMING_SECONDS = 10.0
MAX_ARMS = 12
# Standard errors between a policy's mean and what it is believed to be at least, or at
# most, when it is asked whether it may still turn out the best.
CAUTION = 1.0
# The same when it is asked whether it is the best. Hundreds of policies are looked at
# again and again: some are lucky by one or two, and to confirm one takes seconds.
PROOF = 3.0
# Of the time, for policies at their first turn.
NEWCOMERS_SHARE = 1 / 3
# Nothing is gained by knowing a policy better than to one part in a hundred, which low
# games make two or three of high ones.
ENOUGH_GAMES = 10_000
# The thread rests when the training has not called for so long: it is paused.
PATIENCE_SECONDS = 0.5
REST_SECONDS = 0.01
# So that a second core that something else needs as well is not fought for.
LEAST_PRIORITY = 19


class Arm:
    """A policy, and what its games have shown; a game that ends begins anew.

    Args:
        player: the policy.
        config: whose game is played.
        seed: of the first game.

    Attributes:
        ended: games that have ended.
    """

    def __init__(self, player: Player, config: TrainingConfig, seed: int) -> None:
        self.player = player
        self.ended = 0
        self._lines = self._pieces = 0
        self._table = Table(config, GAMES, seed)

    @property
    def lines(self) -> int:
        """Lines cleared in all games, those under way included."""
        return self._lines + int(self._table.games.lines.sum())

    @property
    def pieces(self) -> int:
        """Pieces placed in all games, those under way included."""
        return self._pieces + int(self._table.games.pieces.sum())

    def play(self) -> None:
        """Play on for some milliseconds."""
        self.player.move(self._table)
        ended = self._table.begin_again()
        self.ended += ended.games
        self._lines += ended.lines
        self._pieces += ended.pieces

    def add(self, table: Table) -> None:
        """Count other games of the same kind and policy as one's own."""
        self.ended += int(table.over.sum())
        self._lines += int(table.games.lines.sum())
        self._pieces += int(table.games.pieces.sum())

    def bound(self, errors: float) -> float:
        """Return the logarithm of the mean, so many standard errors away.

        Who has cleared no line may do anything better than that: -∞ at the least.
        """
        return _bound(self.lines, self.ended, errors)


class Trial:
    """The fresh games that may confirm a leader, each played to its own end.

    No game begins anew: of games of about the same length, those under way when a
    hundred have ended would count too much.

    Args:
        arm: the leader.
        config: whose game is played.
        seed: of the first game.
        least_lines: what the best one until now has shown at least.

    Attributes:
        table: where they are played.
        seconds: that it has taken; the caller counts them.
    """

    def __init__(
        self, arm: Arm, config: TrainingConfig, seed: int, least_lines: float
    ) -> None:
        self.arm = arm
        self.seed = seed
        self.table = Table(config, CONFIRMING_GAMES, seed)
        self.seconds = 0.0
        self._pieces = arm.pieces
        self._least_lines = least_lines

    def play(self) -> None:
        """Play on for some milliseconds."""
        self.arm.player.move(self.table)

    def is_over(self) -> bool:
        """Return whether all games have ended, or have shown enough."""
        if self.table.over.all():
            return True
        return self._has_taken_long() and self._has_shown_enough()

    def _has_taken_long(self) -> bool:
        if self.seconds < CONFIRMING_SECONDS:
            return False
        has_played_again = int(self.table.games.pieces.sum()) >= self._pieces
        return has_played_again or self.seconds >= MAX_CONFIRMING_SECONDS

    def _has_shown_enough(self) -> bool:
        """Return False while what is known is a bound below that of the one before."""
        result = summarise(self.table)
        return not result.capped or result.lower >= self._least_lines


@dataclass(frozen=True)
class Standing:
    """What the games by which policies are compared have shown of one.

    Attributes:
        rows: of those games.
        lines: cleared in all of them.
        ended: how many have ended.
    """

    rows: int
    lines: int
    ended: int


@dataclass(frozen=True)
class Verdict:
    """A policy that has become the best.

    Attributes:
        candidate: what it was offered with.
        evaluation: the fresh games that confirmed it, and no others.
        seed: of the first of them.
        standing: how it stands in the games by which policies are compared.
    """

    candidate: Any
    evaluation: Evaluation
    seed: int
    standing: Standing


class Contest:
    """Finds the best of the policies that are offered.

    Args:
        config: whose game is played.
        standing: of the best one until now, which is not here to play; None: there is
            none, and the first policy becomes it if it has `least_lines`.
        least_lines: lower end of the interval of what the best one until now has shown
            in the run's own game; who is worse there does not become the best.
    """

    def __init__(
        self,
        config: TrainingConfig,
        standing: Standing | None = None,
        least_lines: float = 0.0,
    ) -> None:
        self._config = config
        is_short = config.randomizer == "uniform" and config.rows <= SHORT_GAME_ROWS
        self._arena = config if is_short else config.in_training()
        self._seed = (config.seed or 0) + SEED_OFFSET
        # Of the best one, as long as it has no arm here.
        is_comparable = standing is not None and standing.rows == self._arena.rows
        self._standing = standing if is_comparable else None
        self._least_lines = least_lines
        self._champion: Arm | None = None
        self._candidates: dict[Arm, Any] = {}
        self._waiting: tuple[Player, Any] | None = None
        self._verdict: Verdict | None = None
        self._trial: Trial | None = None
        self._last: Arm | None = None
        self._is_abandoned = False
        # Seconds spent on policies at their first turn, and on those that stayed.
        self._spent_on_new = self._spent_on_old = 0.0
        self._lock = threading.Lock()

    @property
    def wants_more(self) -> bool:
        """Whether no policy waits for its first turn."""
        return self._waiting is None

    def offer(self, player: Player, candidate: Any) -> None:
        """Let a policy play; `candidate` comes back if it becomes the best."""
        with self._lock:
            self._waiting = player, candidate

    def take_verdict(self) -> Verdict | None:
        """Return the new best one, if there is one since the last call."""
        with self._lock:
            verdict, self._verdict = self._verdict, None
        return verdict

    def go_on(self) -> None:
        """Go on after `abandon`; nobody else's thread may be at work."""
        self._is_abandoned = False

    def begin_last(self, player: Player, candidate: Any) -> None:
        """Let a last policy play until it is the best, or cannot become it."""
        self._trial = None
        self._last = self._enter(player, candidate)

    @property
    def is_undecided(self) -> bool:
        """Whether a policy is being confirmed, or a last one may still win."""
        return self._trial is not None or self._hopeful_last() is not None

    def abandon(self) -> None:
        """Let a turn that is under way end at once."""
        self._is_abandoned = True

    def work(self, seconds: float) -> bool:
        """Let one policy play for about so long; return False if there is none to."""
        trial = self._trial
        if trial is not None:
            trial.seconds += self._play(trial, seconds, trial.is_over)
            if trial.is_over():
                self._end_trial(trial)
            return True
        spent_on_all = self._spent_on_new + self._spent_on_old
        is_new = self._spent_on_new <= NEWCOMERS_SHARE * spent_on_all
        arm = self._hopeful_last()
        if arm is None and not is_new:
            arm = self._next_old()
        if arm is None:
            arm = self._next_new()
            is_new = arm is not None
        if arm is None:
            arm = self._next_old()
        if arm is None:
            return False
        had = arm.ended
        spent = self._play(arm, seconds, lambda: arm.ended >= had + TURN_GAMES)
        if is_new:
            self._spent_on_new += spent
        else:
            self._spent_on_old += spent
        if arm is not self._champion and self._is_best(arm):
            seed = self._take_seed(CONFIRMING_GAMES)
            self._trial = Trial(arm, self._config, seed, self._least_lines)
        else:
            self._drop()
        return True

    def _play(
        self, games: Arm | Trial, seconds: float, is_enough: Callable[[], bool]
    ) -> float:
        """Play on for so long, or until it is enough; return how long it took."""
        before = time.perf_counter()
        spent = 0.0
        while spent < seconds and not is_enough() and not self._is_abandoned:
            games.play()
            spent = time.perf_counter() - before
        return spent

    def _next_new(self) -> Arm | None:
        with self._lock:
            waiting, self._waiting = self._waiting, None
        if waiting is None:
            return None
        return self._enter(*waiting)

    def _enter(self, player: Player, candidate: Any) -> Arm:
        arm = Arm(player, self._arena, self._take_seed(GAMES))
        self._candidates[arm] = candidate
        return arm

    def _hopeful_last(self) -> Arm | None:
        arm = self._last
        is_in = arm is not None and arm in self._candidates and arm.ended < ENOUGH_GAMES
        return arm if is_in and arm is not self._champion else None

    def _next_old(self) -> Arm | None:
        hopeful = [arm for arm in self._candidates if arm.ended < ENOUGH_GAMES]
        return max(hopeful, key=lambda arm: arm.bound(CAUTION), default=None)

    def _end_trial(self, trial: Trial) -> None:
        arm, result = trial.arm, summarise(trial.table)
        self._trial = None
        if self._arena is self._config:
            arm.add(trial.table)
        is_worse = not result.capped and result.upper < self._least_lines
        if self._is_best(arm) and not is_worse:
            self._champion = arm
            self._least_lines = result.lower
            standing = Standing(self._arena.rows, arm.lines, arm.ended)
            candidate = self._candidates[arm]
            with self._lock:
                self._verdict = Verdict(candidate, result, trial.seed, standing)
        elif is_worse:
            del self._candidates[arm]
        self._drop()

    def _drop(self) -> None:
        """Drop who cannot become the best; the champion stays."""
        bar = self._bar(CAUTION)
        if bar is None:
            return
        others = [arm for arm in self._candidates if arm is not self._champion]
        others.sort(key=lambda arm: arm.bound(CAUTION))
        for place, arm in enumerate(reversed(others)):
            if place >= MAX_ARMS or arm.bound(CAUTION) < bar:
                del self._candidates[arm]

    def _is_best(self, arm: Arm) -> bool:
        bar = self._bar(PROOF)
        return bar is None or arm.bound(-PROOF) > bar

    def _bar(self, errors: float) -> float | None:
        """Return what the best one is believed to do at least; None: there is none."""
        best = self._champion or self._standing
        return None if best is None else _bound(best.lines, best.ended, -errors)

    def _take_seed(self, games: int) -> int:
        """Return the seed of the first of so many games that nobody has played."""
        self._seed += games
        return self._seed - games


class ContestThread:
    """Lets a contest go on beside the training, as long as that is under way."""

    def __init__(self, contest: Contest) -> None:
        self._contest = contest
        self._called = time.perf_counter()
        self._is_closed = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="contest", daemon=True)
        self._thread.start()

    def call(self) -> None:
        """Say that the training goes on; raise what has gone wrong in the thread."""
        self._called = time.perf_counter()
        error, self._error = self._error, None
        if error is not None:
            raise error

    def close(self) -> None:
        """End the thread; raise what has gone wrong in it."""
        self._is_closed = True
        self._contest.abandon()
        self._thread.join()
        self.call()

    def _run(self) -> None:
        try:
            _be_modest()
            while not self._is_closed:
                is_late = time.perf_counter() - self._called > PATIENCE_SECONDS
                if is_late or not self._contest.work(TURN_SECONDS):
                    time.sleep(REST_SECONDS)
        except BaseException as error:  # raised again by `call`
            self._error = error


def _bound(lines: float, ended: int, errors: float) -> float:
    if not lines and errors < 0:
        return -math.inf
    mean = max(lines, LEAST_LINES) / max(ended, 1)
    return math.log(mean) + errors * relative_error(lines, ended)


def _be_modest() -> None:
    """Let this thread have what the training, and everything else, leaves over."""
    # Only Linux has a priority per thread.
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # it works all the same
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LEAST_PRIORITY)


def has_second_core() -> bool:
    """Return whether a thread can run beside the training without slowing it."""
    # Only Linux says which cores are ours.
    own = getattr(os, "sched_getaffinity", None)
    return (len(own(0)) if own is not None else os.cpu_count() or 1) > 1
