"""The fault matrix: what a case is, what it measures, and what must hold of any run.

Owns the register of cases and the checks that they share. Deliberately doesn't know how
they are run: `python -m tests.faults` prints the table, `test_matrix.py` runs the short
version of each.
"""

from __future__ import annotations

import contextlib
import itertools
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tetris_widget.manager import TrainingManager
from tetris_widget.run_directory import RunDirectory, _episodes_in

Message = dict[str, Any]
# No call of the kernel's takes longer, whatever the training process does.
CALL_SECONDS = 0.1
NAP_SECONDS = 0.002
# What ends by itself is waited for this long.
PATIENCE_SECONDS = 60.0


class NotPossibleHere(Exception):
    """A case that this machine cannot bring about."""


@dataclass
class Measure:
    """Something measured again and again, of which the worst counts.

    Attributes:
        name: what it is.
        limit: the most that is allowed.
        unit: of both.
    """

    name: str
    limit: float
    unit: str = "s"
    values: list[float] = field(default_factory=list)

    def add(self, value: float) -> None:
        self.values.append(value)

    @contextlib.contextmanager
    def timed(self) -> Iterator[None]:
        before = time.monotonic()
        try:
            yield
        finally:
            self.add(time.monotonic() - before)

    @property
    def is_ok(self) -> bool:
        return self.holds(self.limit)

    def holds(self, limit: float) -> bool:
        return bool(self.values) and max(self.values) <= limit

    def __str__(self) -> str:
        worst = f"{max(self.values):.3g}" if self.values else "not measured"
        return f"{self.name} {worst} ≤ {self.limit:g} {self.unit}".rstrip()


@dataclass(frozen=True)
class Case:
    """One line of the table.

    Attributes:
        name: of the function.
        fault: what goes wrong, in the words of the table.
        body: brings it about so many times, in a directory; returns what it measured.
            What must hold is asserted.
        full: times in `make faults`.
        short: times in `make test`; 0: not there.
    """

    name: str
    fault: str
    body: Callable[[int, Path], list[Measure]]
    full: int
    short: int


CASES: dict[str, Case] = {}


def case(fault: str, full: int = 1, short: int = 0) -> Callable[[Any], Any]:
    """Register a function as a case."""

    def register(body: Any) -> Any:
        name = body.__name__
        assert name not in CASES, name
        CASES[name] = Case(name, fault, body, full, short)
        return body

    return register


def wait_for(condition: Callable[[], Any], seconds: float = PATIENCE_SECONDS) -> float:
    """Wait until something holds; return the seconds it took."""
    before = time.monotonic()
    while not condition():
        waited = time.monotonic() - before
        assert waited < seconds, f"waited {waited:.0f} s in vain"
        time.sleep(0.002)
    return time.monotonic() - before


# What a machine does is felt by a process that shares no lock of Python's with us.
NAPPER = """
import os, sys, time
nap, parent = float(sys.argv[1]), os.getppid()
while os.getppid() == parent:
    due = time.monotonic() + nap
    time.sleep(nap)
    awake = time.monotonic()
    if awake - due > nap:
        print(due, awake, flush=True)
"""


class Noise:
    """When the machine itself was late, for one who only wanted a short sleep."""

    def __init__(self) -> None:
        # Its end is with it: many that go on would slow all that comes after.
        with tempfile.NamedTemporaryFile(delete=False) as file:
            self._path = Path(file.name)
            napper = subprocess.Popen(
                [sys.executable, "-S", "-c", NAPPER, str(NAP_SECONDS)], stdout=file
            )
        weakref.finalize(self, _end, napper, self._path)

    def within(self, begin: float, end: float) -> float:
        """Return for how many seconds of a time it was late."""
        lines = self._path.read_text().splitlines()
        times = (tuple(map(float, line.split())) for line in lines)
        return sum(max(0.0, min(end, to) - max(begin, since)) for since, to in times)


def _end(napper: subprocess.Popen[bytes], path: Path) -> None:
    napper.kill()
    napper.wait()
    path.unlink()


class Delay(Measure):
    """Seconds, of which the machine itself may add what it was late by meanwhile."""

    def __init__(self, name: str, limit: float) -> None:
        super().__init__(name, limit)
        self._noise = Noise()
        self._spans: list[tuple[float, float]] = []

    def add(self, value: float) -> None:
        super().add(value)
        now = time.monotonic()
        self._spans.append((now - value, now))

    @property
    def is_ok(self) -> bool:
        return bool(self.values) and self._excess <= self.limit

    @property
    def _excess(self) -> float:
        """The longest of those that are too long, without what the machine added."""
        pairs = zip(self.values, self._spans, strict=True)
        late = (v - self._noise.within(*span) for v, span in pairs if v > self.limit)
        return max(late, default=0.0)

    def __str__(self) -> str:
        text = super().__str__()
        if max(self.values, default=0.0) <= self.limit:
            return text
        return f"{text} ({self._excess:.3g} without what the machine was late by)"


class Kernel:
    """The kernel's side: a manager, all that it told, and how long its calls took."""

    def __init__(self, kind: type[TrainingManager]) -> None:
        self.messages: list[Message] = []
        self.manager = kind(self.messages.append)
        self.calls = Delay("call", CALL_SECONDS)

    def __enter__(self) -> Kernel:
        return self

    def __exit__(self, *_: object) -> None:
        self.manager.close()

    def call(self, name: str, *arguments: Any, **options: Any) -> Any:
        """Call a method that must not block."""
        try:
            with self.calls.timed():
                return getattr(self.manager, name)(*arguments, **options)
        finally:
            if self.calls.values[-1] == max(self.calls.values):
                self.calls.name = name

    def status(self) -> Message:
        status: Message = self.call("get_status")
        return status

    @property
    def pid(self) -> int:
        return int(self.status()["pid"])

    @property
    def run(self) -> RunDirectory:
        return RunDirectory(self.status()["run_dir"])

    def is_(self, effective: str) -> bool:
        return bool(self.status()["effective"] == effective)

    def start(self, config: Any, **options: Any) -> None:
        """Start or resume a run, and wait until it trains."""
        assert self.call("start_training", config, **options), self.status()["reason"]
        self.until("running")

    def until(self, state: str, seconds: float = PATIENCE_SECONDS) -> float:
        """Wait until the run is in a state; one that has ended is in no other."""

        def is_there() -> bool:
            status = self.status()
            effective = status["effective"]
            ended = effective in ("failed", "stopped", "finished")
            assert effective == state or not ended, status["reason"]
            return bool(effective == state)

        return wait_for(is_there, seconds)

    def until_trained(self, episodes: int = 20) -> None:
        """Wait for more episodes."""
        wanted = len(self.of_type("episode")) + episodes
        wait_for(lambda: len(self.of_type("episode")) >= wanted)

    def until_told(self, state: str) -> None:
        """Wait until the listener has heard how the run stands."""
        wait_for(lambda: self.of_type("status")[-1]["state"] == state)

    def until_told_all(self, run: RunDirectory) -> None:
        """Wait until the listener has heard the last of a run that has ended."""

        def is_told() -> bool:
            mine = (m for m in list(self.messages) if m.get("run_id") == run.run_id)
            return max(m.get("seq", 0) for m in mine) == run.last_seq()

        wait_for(is_told)

    def of_type(self, kind: str) -> list[Message]:
        return [m for m in list(self.messages) if m["type"] == kind]

    def texts(self) -> list[str]:
        return [m["text"] for m in self.messages if m["type"] in ("info", "error")]


def check_told(kernel: Kernel, run: RunDirectory | None = None) -> None:
    """Journal and listener have the same: no gap, no double, in order.

    Of one run directory, the last one or another, all of whose sessions this kernel has
    had.
    """
    run = run or kernel.run
    reason = kernel.status()["reason"] or ""
    assert "exit code" not in reason or "a word" not in reason, reason
    told = [m for m in kernel.messages if "seq" in m and m["run_id"] == run.run_id]
    numbers = [m["seq"] for m in told]
    assert len(numbers) == len(set(numbers)), "told twice"
    for one, next_one in itertools.pairwise(told):
        assert one["seq"] < next_one["seq"], f"{next_one} was told after {one}"
    kept = {m["seq"]: m for m in run.since(0)} | _superseded(run)
    assert set(numbers) == set(kept), (
        f"told and not kept: {sorted(set(numbers) - set(kept))[:5]}; "
        f"kept and not told: {[kept[n] for n in sorted(set(kept) - set(numbers))[:5]]}"
    )
    for message in told:
        if message["type"] == "episode":
            for name in ("episode", "env", "reward", "lines", "length", "timesteps"):
                assert message[name] == kept[message["seq"]][name]
    episodes = run.episodes()["episode"].tolist()
    assert episodes == list(range(1, len(episodes) + 1)), "an episode is missing"


def episodes_on_disk(run: RunDirectory, seconds: float) -> float:
    """Return the episodes per second that reach the disk in so many seconds."""

    def count() -> int:
        episode: int = next(run._episodes_backwards())["episode"]
        return episode

    before, began = count(), time.monotonic()
    time.sleep(seconds)
    return (count() - before) / (time.monotonic() - began)


def _superseded(run: RunDirectory) -> dict[int, Message]:
    """Return the episodes that a resume has taken back."""
    found = {}
    for path in run.superseded_directory.glob("*/monitor.csv"):
        with path.open("rb") as file:
            for episode in _episodes_in(file, run.run_id):
                found[episode["seq"]] = episode
    return found
