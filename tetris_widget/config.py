"""What a run is made of: one validated description, and what is known of each knob.

Owns every bound, label and default, and the rules between fields. Deliberately
doesn't know how any of it is carried out: it imports neither torch nor numba, so that
a notebook can build a configuration at once.
"""

from __future__ import annotations

import difflib
import json
import math
import numbers
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

Algorithm = Literal["ppo", "maskable_ppo", "dqn", "a2c"]
Action = Literal["placements", "keys", "reachable"]
Observation = Literal["afterstates", "heights", "board", "flat"]
Policy = Literal["linear", "mlp", "cnn", "patterns", "tuples"]
Randomizer = Literal["bag", "uniform"]
View = Literal["headless", "watch", "step"]

POLICIES_BY_OBSERVATION: dict[str, tuple[str, ...]] = {
    "afterstates": ("linear", "mlp"),
    "heights": ("tuples",),
    "board": ("mlp", "cnn", "patterns"),
    "flat": ("mlp",),
}
# What describes boards alike whatever their height.
AFTERSTATES = ("afterstates", "heights")
# Whose gradients are compiled, and whose algorithms know that.
ACTOR_CRITIC_POLICIES = ("patterns", "tuples")
# What says something about our own game only.
GAME_FIELDS = (
    "action",
    "previews",
    "hold",
    "rows",
    "training_rows",
    "columns",
    "randomizer",
    "max_pieces",
    "observation",
    "reward",
    "policy",
    "target_lines",
)
MIN_SPEED, MAX_SPEED = 0.1, 1.0
# What a reward can be a weighted sum of, and what each is in a step.
REWARD_TERMS: dict[str, str] = {
    "lines": "lines cleared",
    "lines_squared": "their square",
    "score": "points",
    "survival": "1 for a piece that was placed",
    "holes": "holes that were added, as potential-based shaping",
    "height": "height that was added, of all columns, likewise",
    "bumpiness": "bumpiness that was added, likewise",
    "game_over": "1 when the game is over",
}
# Of a rollout's observations and masks, or a replay buffer's observations.
MAX_BUFFER_BYTES = 8 * 2**30
# Pieces that are shown ahead under guideline rules, where nothing else is said.
DEFAULT_PREVIEWS = 5
# Of our own game, which is not imported here: kinds of pieces, numbers that an
# afterstate has, and keys, hold among them.
_N_PIECES, _N_AFTERSTATE, _N_KEYS = 7, 14, 8
DEFAULT_REWARD: Mapping[str, float] = {"lines": 1.0}
MAX_WEIGHT = 1e9
# What may be another when a run is resumed; all else made the run what it is.
CHANGEABLE_ON_RESUME = (
    "total_timesteps",
    "target_lines",
    "view",
    "speed",
    "update_freq",
    "board_update_freq",
    "evaluation",
    "evaluation_games",
    "evaluation_max_pieces",
    "evaluation_budget",
    "checkpoint_seconds",
    "run_dir",
)


class ConfigError(ValueError):
    """A configuration that cannot be run: one line per field, value and remedy."""


class TrainingConfig(BaseModel):
    """A training run, validated when it is made and never changed afterwards.

    `TrainingConfig.model_fields` has every field with its default, title and meaning.

    Raises:
        ConfigError: an unknown field (the nearest right name is offered), a value out
            of its bounds, or fields that do not fit each other.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, strict=False
    )

    # The world
    rows: int = Field(20, ge=4, le=28, title="Rows")
    columns: int = Field(10, ge=4, le=12, title="Columns")
    training_rows: int = Field(
        8,
        ge=4,
        le=28,
        title="Rows in training at most",
        description="of the games that are learned from: low ones end sooner, and tell "
        "more; afterstates and heights only, what else is seen is as high as the board",
    )
    randomizer: Randomizer = Field(
        "bag", title="Pieces", description="7-bag, or uniform as in the literature"
    )
    max_pieces: int | None = Field(
        None,
        ge=1,
        le=1_000_000_000,
        title="Pieces per game at most",
        description="training games are truncated after so many pieces; None: never",
    )
    action: Action = Field(
        "placements",
        title="Actions",
        description="placements under benchmark rules; under guideline rules keys, or "
        "the placements that they can reach",
    )
    previews: int | None = Field(
        None,
        ge=0,
        le=6,
        title="Pieces shown ahead",
        description="None: 0 for placements, 5 for the others; afterstates show none",
    )
    hold: bool | None = Field(
        None, title="Hold", description="None: where there are guideline rules"
    )
    observation: Observation = Field(
        "afterstates",
        title="Observation",
        description="afterstates, with or without the heights of columns, of "
        "placements only",
    )
    reward: dict[str, float] = Field(
        {"survival": 0.4},
        title="Reward",
        description=f"a weight for each of its terms, of {', '.join(REWARD_TERMS)}; "
        "survival says what lines say in the end, without the noise of when they come",
    )
    env_id: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        title="Environment",
        description="any of Gymnasium's by id, `module:Id` or `module/Id`; None: ours",
    )
    env_kwargs: dict[str, Any] = Field(
        {}, title="Its arguments", description="of the environment that env_id names"
    )

    # The learner
    algorithm: Algorithm = Field("ppo", title="Algorithm")
    policy: Policy = Field(
        "linear",
        title="Policy",
        description="linear or mlp scorer of afterstates; tuples of heights beside the "
        "linear one; mlp or cnn on the board, or the patterns on the boards that "
        "placements lead to",
    )
    initial_model: str | None = Field(
        None,
        min_length=1,
        max_length=4096,
        title="Model to begin with",
        description="a file of a ModelLibrary's; None: an untrained one",
    )
    total_timesteps: int = Field(
        2_000_000, ge=1, le=100_000_000_000, title="Timesteps in all"
    )
    target_lines: float | None = Field(
        None,
        gt=0,
        le=1_000_000_000_000,
        title="Goal: lines per game",
        description="the run has finished once an evaluation's mean is that high",
    )
    n_envs: int = Field(64, ge=1, le=16_384, title="Games at once")
    n_steps: int = Field(16, ge=1, le=65_536, title="Steps per game and rollout")
    batch_size: int = Field(1024, ge=1, le=16_777_216, title="Batch size")
    n_epochs: int = Field(2, ge=1, le=100, title="Epochs per rollout")
    learning_rate: float = Field(0.05, gt=0, le=1, title="Learning rate")
    learning_rate_halving: int | None = Field(
        400_000,
        ge=1,
        le=100_000_000_000,
        title="Timesteps that halve the learning rate",
        description="the rate is divided by 1 + timesteps / this; None: it stays",
    )
    gamma: float = Field(0.99, ge=0, le=1, title="Discount γ")
    gae_lambda: float = Field(0.95, ge=0, le=1, title="GAE λ")
    clip_range: float = Field(0.2, gt=0, le=1, title="Clip range")
    ent_coef: float = Field(0.0, ge=0, le=10, title="Entropy coefficient")
    vf_coef: float = Field(0.05, ge=0, le=10, title="Value coefficient")
    buffer_size: int = Field(100_000, ge=1, le=10_000_000, title="Replay buffer (dqn)")
    seed: int | None = Field(
        0, ge=0, le=2**32 - 1, title="Seed", description="None: a new one each time"
    )
    torch_threads: int = Field(1, ge=1, le=256, title="Torch threads")

    # What is seen of it
    view: View = Field("watch", title="View")
    speed: float = Field(0.7, ge=MIN_SPEED, le=MAX_SPEED, title="Speed")
    update_freq: int = Field(
        1_000, ge=1, le=1_000_000_000, title="Timesteps between metrics"
    )
    board_update_freq: int = Field(
        50, ge=1, le=1_000_000_000, title="Timesteps between boards (step view)"
    )
    evaluation: bool = Field(True, title="Evaluate")
    evaluation_games: int = Field(20, ge=1, le=10_000, title="Games per evaluation")
    evaluation_max_pieces: int = Field(
        1_000_000,
        ge=1,
        le=1_000_000_000,
        title="Pieces per evaluation game at most",
        description="fewer at first: evaluations get longer as the games do",
    )
    evaluation_budget: float = Field(
        0.05, gt=0, le=0.5, title="Share of the time for evaluation"
    )
    checkpoint_seconds: float = Field(
        30.0,
        gt=0,
        le=86_400,
        title="Seconds between checkpoints",
        description="longer where they would cost more than 1 % of the time",
    )
    run_dir: str = Field(
        "runs", min_length=1, max_length=4096, title="Directory of the runs"
    )

    def __init__(self, **values: Any) -> None:
        unknown = sorted(set(values) - set(type(self).model_fields))
        if unknown:
            raise ConfigError("\n".join(_unknown(name) for name in unknown))
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise ConfigError(_explain(error)) from None

    @field_validator("*", mode="before")
    @classmethod
    def _no_bool_for_number(cls, value: Any, info: Any) -> Any:
        if isinstance(value, bool) and info.field_name not in ("evaluation", "hold"):
            raise ValueError("a truth value is not allowed here")
        return value

    @field_validator("reward", mode="before")
    @classmethod
    def _right_reward(cls, value: Any) -> dict[str, float]:
        return check_reward(value)

    @field_validator("env_kwargs", mode="after")
    @classmethod
    def _plain_arguments(cls, value: dict[str, Any]) -> dict[str, Any]:
        try:
            if json.loads(json.dumps(value, allow_nan=False)) == value:
                return value
        except (TypeError, ValueError):
            pass
        raise ValueError(
            f"env_kwargs: {_short(value)} does not fit JSON; allowed: text, finite "
            "numbers, truth values, None, lists, and mappings of text to these"
        )

    @model_validator(mode="after")
    def _fields_fit_an_environment(self) -> TrainingConfig:
        if self.env_id is None:
            if self.env_kwargs:
                raise ValueError(
                    f"env_kwargs: {_short(self.env_kwargs)} needs an env_id; allowed "
                    "without one: {}"
                )
            return self
        for name in GAME_FIELDS:
            default = type(self).model_fields[name].default
            if getattr(self, name) != default:
                raise ValueError(
                    f"{name}: {_short(getattr(self, name))} is about our own game, not "
                    f"env_id={self.env_id!r}; allowed with it: {_short(default)}"
                )
        return self

    @model_validator(mode="after")
    def _fields_fit_the_action(self) -> TrainingConfig:
        if self.action == "placements":
            if self.hold:
                raise ValueError(
                    "hold: True does not fit action='placements', whose rules have "
                    "none; allowed: None, False"
                )
            if self.previews and self.policy == "patterns":
                raise ValueError(
                    f"previews: {self.previews} does not fit policy='patterns', which "
                    "sees one piece; allowed: None, 0"
                )
            return self
        if self.observation in AFTERSTATES or self.policy == "patterns":
            raise ValueError(
                f"action: {self.action!r} does not fit observation="
                f"{self.observation!r} with policy={self.policy!r}; allowed: "
                "observation 'flat' with policy 'mlp', 'board' with 'mlp' or 'cnn'"
            )
        return self

    @model_validator(mode="after")
    def _rows_in_training_fit(self) -> TrainingConfig:
        default = type(self).model_fields["training_rows"].default
        if self.observation not in AFTERSTATES and self.training_rows != default:
            raise ValueError(
                f"training_rows: {self.training_rows} does not fit observation="
                f"{self.observation!r}, which is as high as the board; allowed with "
                f"it: {default}, which then says nothing"
            )
        return self

    @property
    def is_benchmark(self) -> bool:
        """Whether it is our own game under benchmark rules."""
        return self.env_id is None and self.action == "placements"

    @model_validator(mode="after")
    def _fields_fit_each_other(self) -> TrainingConfig:
        allowed = POLICIES_BY_OBSERVATION[self.observation]
        if self.policy not in allowed:
            raise ValueError(
                f"policy: {self.policy!r} does not fit observation="
                f"{self.observation!r}; allowed: {', '.join(allowed)}"
            )
        is_actor = self.policy in ACTOR_CRITIC_POLICIES
        if is_actor and self.algorithm not in ("ppo", "a2c"):
            raise ValueError(
                f"policy: {self.policy!r} does not fit algorithm={self.algorithm!r}; "
                "allowed with it: ppo, a2c"
            )
        if self.target_lines is not None and not self.evaluation:
            raise ValueError(
                f"target_lines: {self.target_lines:g} is only noticed by evaluations; "
                "allowed: None with evaluation=False"
            )
        most = self.most_evaluated_lines(self.evaluation_max_pieces)
        if self.target_lines is not None and self.target_lines > most:
            raise ValueError(
                f"target_lines: {self.target_lines:,.15g} is more than "
                f"{self.evaluation_games:,} evaluation games of "
                f"{self.evaluation_max_pieces:,} pieces can show; allowed: up to "
                f"{most:,.15g}, or a larger evaluation_max_pieces"
            )
        if self.algorithm == "dqn":
            for name in ("n_envs", "batch_size"):
                if self.buffer_size < getattr(self, name):
                    raise ValueError(
                        f"buffer_size: {self.buffer_size} is smaller than {name} = "
                        f"{getattr(self, name)}; allowed: {getattr(self, name)} or more"
                    )
        return self

    @model_validator(mode="after")
    def _batches_fit_the_rollout(self) -> TrainingConfig:
        if self.algorithm not in ("ppo", "maskable_ppo"):
            return self
        rollout = self.n_envs * self.n_steps
        if rollout < 2:
            raise ValueError(
                "n_steps: 1 with n_envs 1 makes a rollout of one timestep; "
                "allowed: n_envs × n_steps of at least 2"
            )
        if self.batch_size < 2:
            raise ValueError(
                f"batch_size: {self.batch_size} does not fit algorithm="
                f"{self.algorithm!r}, which divides advantages by their spread; "
                f"allowed: a divisor of n_envs × n_steps = {rollout} from 2, the "
                f"nearest is {_nearest_divisor(rollout, self.batch_size)}"
            )
        if rollout % self.batch_size:
            raise ValueError(
                f"batch_size: {self.batch_size} does not divide the rollout of "
                f"n_envs × n_steps = {self.n_envs} × {self.n_steps} = {rollout}; "
                f"allowed: a divisor of it, the nearest is "
                f"{_nearest_divisor(rollout, self.batch_size)}"
            )
        return self

    @model_validator(mode="after")
    def _buffers_fit_into_memory(self) -> TrainingConfig:
        """Refuse what can only end for lack of memory, before it has been tried."""
        if self.env_id is not None:
            return self  # what it shows is not known here
        size = self._observation_bytes + self._mask_bytes
        most = MAX_BUFFER_BYTES // size
        if self.algorithm == "dqn":
            # It keeps what was seen before an action, and after it.
            if self.buffer_size > most // 2:
                raise ValueError(
                    f"buffer_size: {self.buffer_size:,} observations of "
                    f"{size:,} bytes, twice, are more than "
                    f"{MAX_BUFFER_BYTES:,} bytes; allowed: up to {most // 2:,}"
                )
        elif self.n_envs * self.n_steps > most:
            raise ValueError(
                f"n_steps: {self.n_steps:,} in {self.n_envs:,} games, at "
                f"{size:,} bytes each, make a rollout of more than "
                f"{MAX_BUFFER_BYTES:,} bytes; allowed: up to {most // self.n_envs:,}"
            )
        return self

    @property
    def _observation_bytes(self) -> int:
        """What one observation takes in a buffer of SB3's, which keeps its type."""
        if self.observation in AFTERSTATES:
            n_heights = self.columns if self.observation == "heights" else 0
            return (4 * self.columns + 1) * (_N_AFTERSTATE + n_heights) * 4
        cells = self.rows * self.columns
        if self.is_benchmark:
            planes, flags = 1, _N_PIECES * (1 + (self.previews or 0))
        else:
            previews = DEFAULT_PREVIEWS if self.previews is None else self.previews
            shown = 1 + previews + self._has_hold
            planes, flags = 3, _N_PIECES * shown + self._has_hold
        if self.observation == "flat":
            return planes * cells + flags
        return (planes + flags) * cells

    @property
    def _mask_bytes(self) -> int:
        """What one mask takes in the buffer of MaskablePPO: a float for each action."""
        return 4 * self._n_actions if self.algorithm == "maskable_ppo" else 0

    @property
    def _n_actions(self) -> int:
        if self.is_benchmark:
            return 4 * self.columns
        if self.action == "keys":
            return _N_KEYS - 1 + self._has_hold
        return 4 * self.columns * (self.rows + 1) + self._has_hold

    @property
    def _has_hold(self) -> bool:
        return not self.is_benchmark and self.hold is not False

    def to_dict(self) -> dict[str, Any]:
        """Plain Python values of every field, fit for JSON."""
        return self.model_dump(mode="json")

    def replace(self, **changes: Any) -> TrainingConfig:
        """Return a validated copy with some fields changed."""
        return TrainingConfig(**{**self.to_dict(), **changes})

    @property
    def learned_rows(self) -> int:
        """Rows of the games that are learned from: not more than `rows`."""
        can_be_low = self.is_benchmark and self.observation in AFTERSTATES
        return min(self.rows, self.training_rows) if can_be_low else self.rows

    def most_evaluated_lines(self, max_pieces: int) -> float:
        """Return the greatest mean that an evaluation's games of so many can show."""
        return self.evaluation_games * max_pieces * 4 / self.columns

    def in_training(self) -> TrainingConfig:
        """Return the same with the rows of the games that are learned from."""
        rows = self.learned_rows
        return self if rows == self.rows else self.replace(rows=rows)

    def for_resuming(self, changes: Mapping[str, Any]) -> TrainingConfig:
        """Return a validated copy with changes that a run can be resumed with.

        Raises:
            ConfigError: a field cannot be another one than the run began with.
        """
        changed = TrainingConfig(**{**self.to_dict(), **changes})
        refused = [
            f"{name}: {_short(getattr(changed, name))} is refused; this run has "
            f"{_short(getattr(self, name))}, and keeps it when it is resumed; what can "
            f"be changed: {', '.join(CHANGEABLE_ON_RESUME)}"
            for name in type(self).model_fields
            if name not in CHANGEABLE_ON_RESUME
            and getattr(changed, name) != getattr(self, name)
        ]
        if refused:
            raise ConfigError("\n".join(refused))
        return changed

    @classmethod
    def preset(cls, name: str, **changes: Any) -> TrainingConfig:
        """Return one of `PRESETS`, with some fields changed.

        Raises:
            ConfigError: there is no such preset (the nearest right name is offered),
                or the changed fields cannot be run.
        """
        if name not in PRESETS:
            near = difflib.get_close_matches(str(name), PRESETS, n=1, cutoff=0.5)
            allowed = ", ".join(PRESETS)
            hint = f"did you mean {near[0]!r}?" if near else f"allowed: {allowed}"
            raise ConfigError(f"preset: {_short(name)} is none; {hint}")
        return cls(**{**PRESETS[name].fields, **changes})

    @classmethod
    def from_file(cls, path: str | Path) -> TrainingConfig:
        """Read a JSON file of fields.

        Raises:
            ConfigError: the file cannot be read, is not JSON, is not a mapping, or has
                fields that make no configuration.
        """
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path}: {error}") from None
        if not isinstance(values, Mapping):
            raise ConfigError(f"{path}: expected a mapping of fields to values")
        try:
            return cls(**values)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from None


@dataclass(frozen=True)
class Preset:
    """A kind of learner by name.

    Attributes:
        description: what it is, and how many lines per game it has reached after how
            many seconds of learning on 10 × 20 (uniform pieces; `keys`: bags).
        fields: of TrainingConfig, where they are not the default.
    """

    description: str
    fields: Mapping[str, Any]


PRESETS: dict[str, Preset] = {
    "instant": Preset(
        "a weighted sum of thirteen features of the board after each placement, by "
        "PPO; on uniform pieces 7,900 lines after 5 s, 245,000 after 10, 2.9 million "
        "after a minute (medians of five seeds)",
        {},
    ),
    "deep": Preset(
        "the same features, and beside their sum an n-tuple network: a weight for "
        "every four neighbouring steps of the surface, for who has minutes; on ten "
        "rows 2,400 lines after 10 s, 6,200 after a minute, 10,900 after ten (medians "
        "of five seeds; the sum alone, given as long, comes to 5,100)",
        {
            "observation": "heights",
            "policy": "tuples",
            "gamma": 0.995,
            "learning_rate_halving": 1_600_000,
        },
    ),
    "board": Preset(
        "no features: the cells of the board after each placement, window by window; "
        "2,900 lines after 10 s, 55,000 after half a minute (medians of five seeds)",
        {
            "observation": "board",
            "policy": "patterns",
            "learning_rate_halving": 100_000,
        },
    ),
    "classic": Preset(
        "deep Q-learning on features, as tutorials teach it; 84 lines after 10 s, "
        "2,400 after 30, 160,000 after two minutes (medians of five seeds)",
        {
            "algorithm": "dqn",
            "policy": "mlp",
            "reward": {"lines": 1.0},
            "n_envs": 16,
            "batch_size": 512,
            "buffer_size": 20_000,
            "learning_rate": 1e-3,
            "learning_rate_halving": None,
        },
    ),
    "keys": Preset(
        "a network that sees the board and presses keys, under guideline rules; 2 "
        "lines after two minutes (median of five seeds)",
        {
            "action": "keys",
            "observation": "flat",
            "policy": "mlp",
            "algorithm": "maskable_ppo",
            "previews": 0,
            "hold": False,
            "reward": {"survival": 1.0, "lines": 5.0},
            "n_envs": 512,
            "n_steps": 32,
            "batch_size": 2048,
            "n_epochs": 3,
            "learning_rate": 2e-3,
            "learning_rate_halving": None,
            "gamma": 0.998,
            "gae_lambda": 0.98,
            "ent_coef": 0.003,
            "vf_coef": 0.5,
        },
    ),
}


def is_number(value: Any) -> bool:
    """Return whether it is a real number, NumPy's too, and not a truth value."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def check_speed(speed: Any) -> float:
    """Return `speed` clamped to 0.1–1.0.

    Raises:
        ValueError: `speed` is not a finite number.
    """
    if not is_number(speed):
        raise ValueError(f"speed: {speed!r} is not a number; allowed: 0.1 to 1.0")
    number = _as_float(speed)
    if not math.isfinite(number):
        raise ValueError(f"speed: {speed!r} is not finite; allowed: 0.1 to 1.0")
    return min(MAX_SPEED, max(MIN_SPEED, number))


def check_view(view: Any) -> str:
    """Return `view`.

    Raises:
        ValueError: there is none of that name.
    """
    if view not in get_args(View):
        allowed = ", ".join(get_args(View))
        raise ValueError(f"view: {view!r:.60} is refused; allowed: {allowed}")
    return str(view)


def check_reward(reward: Any) -> dict[str, float]:
    """Return the weights of a reward, as floats.

    Raises:
        ValueError: it is no mapping of `REWARD_TERMS` to finite numbers; the message
            names the term, and the nearest right one.
    """
    if not isinstance(reward, Mapping):
        raise ValueError(
            f"reward: {_short(reward)}; allowed: a mapping of terms to weights, for "
            f"example {dict(DEFAULT_REWARD)}"
        )
    if not reward:
        allowed = ", ".join(REWARD_TERMS)
        raise ValueError(f"reward: no term; allowed: one or more of {allowed}")
    return {_term(name): _weight(name, weight) for name, weight in reward.items()}


def _term(name: Any) -> str:
    if name in REWARD_TERMS:
        return str(name)
    near = difflib.get_close_matches(str(name), REWARD_TERMS, n=1, cutoff=0.5)
    allowed = ", ".join(REWARD_TERMS)
    hint = f"did you mean {near[0]!r}?" if near else f"allowed: {allowed}"
    raise ValueError(f"reward: {_short(name)} is no term; {hint}")


def _weight(name: str, weight: Any) -> float:
    number = _as_float(weight) if is_number(weight) else math.nan
    # NaN fails this comparison too.
    if not abs(number) <= MAX_WEIGHT:
        raise ValueError(
            f"reward: {name}: {_short(weight)} is refused; allowed: a finite number "
            f"from {-MAX_WEIGHT:g} to {MAX_WEIGHT:g}"
        )
    return number


def _as_float(number: Any) -> float:
    try:
        return float(number)
    except OverflowError:  # a whole number too large for a float
        return math.inf


def moves_per_second(speed: float) -> float:
    """Pace of the watched game, about 2 to 60 moves a second, equal steps by ratio."""
    return float(2.0 * 30.0 ** ((speed - MIN_SPEED) / (MAX_SPEED - MIN_SPEED)))


def step_delay(speed: float) -> float:
    """Seconds that a step of the step view is slowed by, at `speed` 0.1 to 1.0."""
    return (1.0 - speed) * 0.1


def _unknown(name: str) -> str:
    fields = list(TrainingConfig.model_fields)
    near = difflib.get_close_matches(name, fields, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"allowed: {', '.join(fields)}"
    return f"{name}: no such field; {hint}"


def _explain(error: ValidationError) -> str:
    lines = []
    for item in error.errors():
        message = item["msg"].removeprefix("Value error, ")
        if not item["loc"]:
            lines.append(message)
            continue
        name = str(item["loc"][0])
        if message.startswith(f"{name}:"):
            lines.append(message)
            continue
        lines.append(f"{name}: {_short(item['input'])} is refused; {_allowed(name)}")
    return "\n".join(lines)


def _short(value: Any, limit: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _allowed(name: str) -> str:
    """Say what a field takes, from its JSON schema."""
    schema = TrainingConfig.model_json_schema()["properties"][name]
    kinds = schema.get("anyOf", [schema])
    return "allowed: " + " or ".join(_allowed_kind(kind) for kind in kinds)


def _allowed_kind(kind: dict[str, Any]) -> str:
    if "enum" in kind:
        return ", ".join(map(repr, kind["enum"]))
    if kind["type"] == "null":
        return "None"
    if kind["type"] == "string":
        return f"text of 1 to {kind['maxLength']} characters"
    if kind["type"] == "object":
        return "a mapping"
    if kind["type"] == "boolean":
        return "True, False"
    what = "a whole number" if kind["type"] == "integer" else "a finite number"
    low = (
        f"above {kind['exclusiveMinimum']:g}"
        if "exclusiveMinimum" in kind
        else f"from {kind['minimum']:,}"
    )
    return f"{what} {low} to {kind['maximum']:,}"


def _nearest_divisor(total: int, wanted: int) -> int:
    """Return the divisor of `total`, but for 1, that is nearest to `wanted`."""
    small = [d for d in range(1, int(total**0.5) + 1) if total % d == 0]
    divisors = {*small, *(total // d for d in small)} - {1}
    return min(divisors, key=lambda d: (abs(d - wanted), d))
