"""The learners: which SB3 algorithm with which policy a configuration means.

Owns the policies that score afterstates: one small network looks at the features of
every board that a placement leads to, illegal ones are masked, and the highest score is
the likeliest move. Deliberately doesn't know how a run is controlled or watched.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import (
    BaseFeaturesExtractor,
    FlattenExtractor,
)
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.dqn.policies import DQNPolicy, QNetwork
from torch import nn
from torch.nn import functional

from tetris_widget.config import TrainingConfig
from tetris_widget.game import FEATURES
from tetris_widget.run_directory import read_metadata
from tetris_widget.training import linear, network, patterns, tuples
from tetris_widget.training.best import take_parameters
from tetris_widget.training.environments import tetris_env
from tetris_widget.training.foreign import policy_for
from tetris_widget.training.optimizer import Adam, DecayingRate
from tetris_widget.training.rollouts import SteadyRolloutBuffer

Tensor = torch.Tensor

# Logits start near 0 and are stretched, so that a step of the optimizer counts.
LOGIT_SCALE = 3.0
INITIAL_SCALE = 0.1
CRITIC_HIDDEN = 64
MASKED = -1e8
# A tuple is on few boards: what it is worth is learned in smaller steps.
TUPLE_SCALE = 0.1
# Patterns are counted in tens.
PATTERN_SCALE = 0.1
# A probability of about 1e-26: never drawn, and exp stays off its slow path.
LOWEST_LOG_PROBABILITY = -60.0
DQN_EXPLORATION_TIMESTEPS = 100_000
# What SB3's actor-critic policies give to torch's Adam.
ACTOR_CRITIC_EPSILON = 1e-5


class Scorer(nn.Module):
    """Scores every placement by the features of the board that it leads to.

    Args:
        n_features: of one board.
        is_linear: one linear layer; otherwise a hidden layer beside it, which learns
            what a sum of features cannot say.
    """

    def __init__(self, n_features: int, is_linear: bool) -> None:
        super().__init__()
        self.layers = _last_layer(n_features)
        self.hidden = None if is_linear else nn.Linear(n_features, network.HIDDEN)
        self.last = None if is_linear else _last_layer(network.HIDDEN)

    def forward(self, observation: Tensor) -> Tensor:
        """Return masked scores (batch, actions) of (batch, actions + 1, F + 1)."""
        # A weight of 0 for the mask: slicing it off would copy the observation.
        weights = functional.pad(self.layers.weight[0] * LOGIT_SCALE, (0, 1))
        scores = torch.mv(observation.flatten(0, 1), weights)
        scores = scores.view(observation.shape[:2])[:, :-1]
        if self.hidden is not None and self.last is not None:
            units = functional.relu(self.hidden(observation[:, :-1, :-1]))
            scores = scores + self.last(units).squeeze(-1) * LOGIT_SCALE
        return scores.masked_fill(observation[:, :-1, -1] < 0.5, MASKED)

    def weights(self) -> Tensor | None:
        """Return the linear scorer's weights (F,), or None for a network."""
        if self.hidden is None:
            return self.layers.weight.detach()[0] * LOGIT_SCALE
        return None

    def network(self) -> tuple[Tensor, ...]:
        """Return the weights of a network, as `training.network` asks for them."""
        assert self.hidden is not None and self.last is not None
        return (
            self.layers.weight[0] * LOGIT_SCALE,
            self.hidden.weight.T.contiguous(),
            self.hidden.bias,
            self.last.weight[0] * LOGIT_SCALE,
        )


class MaskedCategorical(Distribution):
    """A categorical distribution over logits, without torch.distributions' checks."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        exact = functional.log_softmax(logits, dim=-1)
        self.log_probabilities = exact.clamp_min(LOWEST_LOG_PROBABILITY)

    def proba_distribution_net(self, *args: Any, **kwargs: Any) -> nn.Module:
        """Not used: the scorer gives the logits."""
        raise NotImplementedError

    def proba_distribution(self, *args: Any, **kwargs: Any) -> Any:
        """Not used: the logits are given when it is made."""
        raise NotImplementedError

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the log probability of actions (batch,)."""
        index = x.long().reshape(-1, 1)
        return self.log_probabilities.gather(-1, index).squeeze(-1)

    def entropy(self) -> Tensor:
        """Return the entropy in nats: (batch,)."""
        probabilities = self.log_probabilities.exp()
        return -(probabilities * self.log_probabilities).sum(-1)

    def sample(self) -> Tensor:
        """Draw actions (batch,)."""
        # The Gumbel-max trick: several times faster than torch.multinomial.
        noise = torch.empty_like(self.log_probabilities).exponential_().log_()
        return (self.log_probabilities - noise).argmax(-1)

    def mode(self) -> Tensor:
        """Return the likeliest actions (batch,); the first one wins."""
        return self.log_probabilities.argmax(-1)

    def actions_from_params(self, *args: Any, **kwargs: Any) -> Tensor:
        """Not used: the logits are given when it is made."""
        raise NotImplementedError

    def log_prob_from_params(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Not used: the logits are given when it is made."""
        raise NotImplementedError


class AfterstateNet(nn.Module):
    """Scorer and critic.

    The critic sees the present board, and the boards that the policy expects next,
    which tell it what the current piece is good for.
    """

    def __init__(self, n_features: int, is_linear: bool) -> None:
        super().__init__()
        self._is_linear = is_linear
        self.scorer = Scorer(n_features, is_linear)
        self.critic = nn.Sequential(
            nn.Linear(2 * n_features, CRITIC_HIDDEN),
            nn.ReLU(),
            nn.Linear(CRITIC_HIDDEN, 1),
        )

    def choose(
        self, observation: Tensor, deterministic: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return actions (batch,), values (batch, 1) and log probabilities (batch,).

        No gradients go through them.
        """
        if deterministic or observation.device.type != "cpu":
            logits = self.scorer(observation)
            distribution = MaskedCategorical(logits)
            actions = distribution.get_actions(deterministic)
            values = self._value(observation, self._expected(observation, logits))
            return actions, values, distribution.log_prob(actions)
        n = len(observation)
        actions = torch.empty(n, dtype=torch.int64)
        log_probs, values = torch.empty(n), torch.empty(n, 1)
        arguments = (
            tuple(parameter.detach().numpy() for parameter in self.critic.parameters()),
            torch.rand(n).numpy(),
            actions.numpy(),
            log_probs.numpy(),
            values.numpy()[:, 0],
        )
        if self._is_linear:
            weights = self._weights().detach().numpy()
            linear.choose(observation.numpy(), weights, *arguments)
        else:
            layers = tuple(layer.detach().numpy() for layer in self.scorer.network())
            network.choose(observation.numpy(), layers, *arguments)
        return actions, values, log_probs

    def judge(
        self, observation: Tensor, actions: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return values (batch, 1), log probabilities and entropies (batch,)."""
        if observation.device.type != "cpu":
            logits = self.scorer(observation)
            distribution = MaskedCategorical(logits)
            values = self._value(observation, self._expected(observation, logits))
            return values, distribution.log_prob(actions), distribution.entropy()
        log_probs, entropies, expected = (
            linear.Judgement.apply(  # type: ignore[no-untyped-call]
                self._weights(), observation, actions, LOWEST_LOG_PROBABILITY
            )
            if self._is_linear
            else network.Judgement.apply(  # type: ignore[no-untyped-call]
                observation, actions, LOWEST_LOG_PROBABILITY, *self.scorer.network()
            )
        )
        return self._value(observation, expected), log_probs, entropies

    def value(self, observation: Tensor) -> Tensor:
        """Return values (batch, 1)."""
        nothing = torch.zeros(
            len(observation), dtype=torch.int64, device=observation.device
        )
        return self.judge(observation, nothing)[0]

    def _weights(self) -> Tensor:
        return self.scorer.layers.weight[0] * LOGIT_SCALE

    def _expected(self, observation: Tensor, logits: Tensor) -> Tensor:
        # The present board, the last row, has no share in what is expected.
        shares = functional.pad(functional.softmax(logits.detach(), -1), (0, 1))
        return torch.bmm(shares[:, None], observation)[:, 0, :-1]

    def _value(self, observation: Tensor, expected: Tensor) -> Tensor:
        return self.critic(torch.cat((observation[:, -1, :-1], expected), -1))  # type: ignore[no-any-return]


class PatternNet(nn.Module):
    """Scores the boards that placements lead to by the patterns in them, and values.

    The critic is a network on how often each pattern is to be expected next.
    """

    def __init__(self, space: spaces.Space[Any]) -> None:
        super().__init__()
        assert space.shape is not None
        _, rows, columns = space.shape
        self._n_actions = 4 * columns
        n_weights = patterns.n_weights(rows)
        # Where nothing is known all placements are as good.
        self.table = nn.Parameter(torch.zeros(n_weights))
        self.critic = nn.Sequential(
            nn.Linear(n_weights, CRITIC_HIDDEN), nn.ReLU(), nn.Linear(CRITIC_HIDDEN, 1)
        )

    def choose(
        self, observation: Tensor, deterministic: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return actions (batch,), values (batch, 1) and log probabilities (batch,).

        No gradients go through them.
        """
        if deterministic:
            distribution = MaskedCategorical(self.scorer(observation))
            actions = distribution.mode()
            return actions, self.value(observation), distribution.log_prob(actions)
        n = len(observation)
        actions = torch.empty(n, dtype=torch.int64)
        log_probs, expected = torch.empty(n), torch.empty(n, len(self.table))
        patterns.choose(
            observation.numpy(),
            self.weights().numpy(),
            torch.rand(n).numpy(),
            actions.numpy(),
            log_probs.numpy(),
            expected.numpy(),
        )
        return actions, self._value(expected), log_probs

    def judge(
        self, observation: Tensor, actions: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return values (batch, 1), log probabilities and entropies (batch,)."""
        log_probs, entropies, expected = patterns.Judgement.apply(  # type: ignore[no-untyped-call]
            self.table * LOGIT_SCALE, observation, actions, LOWEST_LOG_PROBABILITY
        )
        return self._value(expected), log_probs, entropies

    def value(self, observation: Tensor) -> Tensor:
        """Return values (batch, 1)."""
        return self.judge(
            observation, torch.zeros(len(observation), dtype=torch.int64)
        )[0]

    def scorer(self, observation: Tensor) -> Tensor:
        """Return masked scores (batch, actions)."""
        scores = torch.full((len(observation), self._n_actions), MASKED)
        patterns.score_all(observation.numpy(), self.weights().numpy(), scores.numpy())
        return scores

    def weights(self) -> Tensor:
        """Return the table as it is used."""
        return self.table.detach() * LOGIT_SCALE

    def _value(self, expected: Tensor) -> Tensor:
        return self.critic(expected * PATTERN_SCALE)  # type: ignore[no-any-return]


class TupleNet(nn.Module):
    """Scores placements by features and by tuples of heights, and values.

    The critic sees what `AfterstateNet`'s does, and has a table of its own: what each
    tuple of the boards to expect is worth.
    """

    kind_of: Tensor

    def __init__(self) -> None:
        super().__init__()
        kind_of, n_kinds = tuples.distinct_tuples()
        self.register_buffer("kind_of", torch.from_numpy(kind_of), persistent=False)
        self.layers = _last_layer(len(FEATURES))
        self.tuples = nn.Parameter(torch.zeros(n_kinds))
        self.critic = nn.Sequential(
            nn.Linear(2 * len(FEATURES), CRITIC_HIDDEN),
            nn.ReLU(),
            nn.Linear(CRITIC_HIDDEN, 1),
        )
        self.worths = nn.Parameter(torch.zeros(n_kinds))

    def choose(
        self, observation: Tensor, deterministic: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return actions (batch,), values (batch, 1) and log probabilities (batch,).

        No gradients go through them.
        """
        if deterministic:
            distribution = MaskedCategorical(self.scorer(observation))
            actions = distribution.mode()
            return actions, self.value(observation), distribution.log_prob(actions)
        n = len(observation)
        actions = torch.empty(n, dtype=torch.int64)
        log_probs, values = torch.empty(n), torch.empty(n, 1)
        critic = (*self.critic.parameters(), self.worths[self.kind_of])
        tuples.choose(
            observation.numpy(),
            tuple(weight.detach().numpy() for weight in self.weights()),
            tuple(weight.detach().numpy() for weight in critic),
            torch.rand(n).numpy(),
            actions.numpy(),
            log_probs.numpy(),
            values.numpy()[:, 0],
        )
        return actions, values, log_probs

    def judge(
        self, observation: Tensor, actions: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return values (batch, 1), log probabilities and entropies (batch,)."""
        log_probs, entropies, promises, expected = tuples.Judgement.apply(  # type: ignore[no-untyped-call]
            observation,
            actions,
            LOWEST_LOG_PROBABILITY,
            *self.weights(),
            self.worths[self.kind_of],
        )
        present = observation[:, -1, : len(FEATURES)]
        by_features = self.critic(torch.cat((present, expected), -1))
        return by_features + promises[:, None], log_probs, entropies

    def value(self, observation: Tensor) -> Tensor:
        """Return values (batch, 1)."""
        return self.judge(
            observation, torch.zeros(len(observation), dtype=torch.int64)
        )[0]

    def scorer(self, observation: Tensor) -> Tensor:
        """Return masked scores (batch, actions)."""
        by_feature, table = self.weights()
        boards, n = observation[:, :-1], len(FEATURES)
        by_tuples = table[tuples.tuples_of(boards[..., n:-1])].double().sum(-1)
        scores = (boards[..., :n] @ by_feature + by_tuples).float()
        return scores.masked_fill(boards[..., -1] < 0.5, MASKED)

    def weights(self) -> tuple[Tensor, Tensor]:
        """Return the weights of features and tuples, as `training.tuples` has them."""
        table = self.tuples[self.kind_of] * (LOGIT_SCALE * TUPLE_SCALE)
        return self.layers.weight[0] * LOGIT_SCALE, table


class AfterstatePolicy(ActorCriticPolicy):
    """PPO's and A2C's policy on `afterstates` observations."""

    def __init__(self, *args: Any, is_linear: bool = True, **kwargs: Any) -> None:
        self.is_linear = is_linear
        super().__init__(*args, **kwargs)

    def _build(self, lr_schedule: Schedule) -> None:
        self.net = self._make_net()
        options: dict[str, Any] = {"lr": lr_schedule(1), **self.optimizer_kwargs}
        self.optimizer = self.optimizer_class(self.parameters(), **options)

    def _make_net(self) -> AfterstateNet | PatternNet | TupleNet:
        return AfterstateNet(_n_features(self.observation_space), self.is_linear)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), "is_linear": self.is_linear}

    def forward(
        self, obs: Tensor, deterministic: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return actions, values and log probabilities."""
        return self.net.choose(obs, deterministic)

    def evaluate_actions(
        self, obs: Any, actions: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return values, log probabilities and entropies of actions taken."""
        return self.net.judge(obs, actions)

    def get_distribution(self, obs: Any) -> Distribution:
        """Return the distribution over actions."""
        return MaskedCategorical(self.net.scorer(obs))

    def predict_values(self, obs: Any) -> Tensor:
        """Return values (batch, 1)."""
        return self.net.value(obs)


class PatternPolicy(AfterstatePolicy):
    """PPO's and A2C's policy that scores patterns in `board` observations."""

    def _make_net(self) -> PatternNet:
        return PatternNet(self.observation_space)


class TuplePolicy(AfterstatePolicy):
    """PPO's and A2C's policy that scores tuples in `heights` observations."""

    def _make_net(self) -> TupleNet:
        return TupleNet()


class MaskableAfterstatePolicy(MaskableActorCriticPolicy):
    """MaskablePPO's policy on `afterstates` observations.

    The observation has the mask already; the one that MaskablePPO asks the environment
    for is the same, so that it is accepted and not needed.
    """

    def __init__(self, *args: Any, is_linear: bool = True, **kwargs: Any) -> None:
        self.is_linear = is_linear
        super().__init__(*args, **kwargs)

    def _build(self, lr_schedule: Schedule) -> None:
        self.net = AfterstateNet(_n_features(self.observation_space), self.is_linear)
        options: dict[str, Any] = {"lr": lr_schedule(1), **self.optimizer_kwargs}
        self.optimizer = self.optimizer_class(self.parameters(), **options)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), "is_linear": self.is_linear}

    def forward(
        self, obs: Tensor, deterministic: bool = False, action_masks: Any = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return actions, values and log probabilities."""
        return self.net.choose(obs, deterministic)

    def evaluate_actions(
        self, obs: Tensor, actions: Tensor, action_masks: Any = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return values, log probabilities and entropies of actions taken."""
        return self.net.judge(obs, actions)

    def get_distribution(self, obs: Any, action_masks: Any = None) -> Any:
        """Return the distribution over actions."""
        return MaskedCategorical(self.net.scorer(obs))

    def predict_values(self, obs: Any) -> Tensor:
        """Return values (batch, 1)."""
        return self.net.value(obs)


class AfterstateQNetwork(QNetwork):
    """Q of every placement, from the features of the board that it leads to."""

    def __init__(self, *args: Any, is_linear: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.q_net: Any = Scorer(_n_features(self.observation_space), is_linear)

    def forward(self, obs: Any) -> Tensor:
        """Return Q values (batch, actions); illegal ones are very low."""
        return self.q_net(obs)  # type: ignore[no-any-return]


class AfterstateQPolicy(DQNPolicy):
    """DQN's policy on `afterstates` observations."""

    def __init__(self, *args: Any, is_linear: bool = True, **kwargs: Any) -> None:
        self.is_linear = is_linear
        super().__init__(*args, **kwargs)

    def make_q_net(self) -> QNetwork:
        """Return a network that scores afterstates."""
        arguments = self._update_features_extractor(
            self.net_args, features_extractor=None
        )
        return AfterstateQNetwork(**arguments, is_linear=self.is_linear).to(self.device)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), "is_linear": self.is_linear}


class AfterstateDQN(DQN):
    """DQN that explores among the legal placements only."""

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[Any, Any]:
        """Return actions, ε-greedy among the legal ones."""
        actions, state = self.policy.predict(observation, deterministic=True)
        if not deterministic and np.random.random() < self.exploration_rate:
            legal = np.asarray(observation)[..., :-1, -1]
            actions = (np.random.random(legal.shape) * legal).argmax(-1)
        return actions, state

    def _sample_action(
        self, learning_starts: int, action_noise: Any = None, n_envs: int = 1
    ) -> Any:
        if self.num_timesteps < learning_starts:
            legal = np.asarray(self._last_obs)[..., :-1, -1]
            action = (np.random.random(legal.shape) * legal).argmax(-1)
        else:
            action, _ = self.predict(self._last_obs, deterministic=False)
        return action, action


class BoardExtractor(BaseFeaturesExtractor):
    """A small convolutional network for boards of any size from 4 × 4."""

    def __init__(self, observation_space: spaces.Box, features_dim: int = 128) -> None:
        super().__init__(observation_space, features_dim)
        planes, rows, columns = observation_space.shape
        self.layers = nn.Sequential(
            nn.Conv2d(planes, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 16, 3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(16 * rows * columns, features_dim),
            nn.ReLU(),
        )

    def forward(self, observations: Tensor) -> Tensor:
        """Return features (batch, features_dim)."""
        return self.layers(observations)  # type: ignore[no-any-return]


def build_model(config: TrainingConfig, env: VecEnv) -> BaseAlgorithm:
    """Return the untrained model that a configuration describes."""
    torch.set_num_threads(config.torch_threads)
    model = _build(config, env)
    # SB3's own leaves an empty directory among the temporary ones for each run.
    model.set_logger(Logger(folder=None, output_formats=[]))
    return model


def _build(config: TrainingConfig, env: VecEnv) -> BaseAlgorithm:
    model = _build_algorithm(config, env)
    # A saved model asks for torch's own Adam, which the same state fits.
    del model.policy_kwargs["optimizer_class"]
    return model


def _build_algorithm(config: TrainingConfig, env: VecEnv) -> BaseAlgorithm:
    common: dict[str, Any] = {
        "env": env,
        "learning_rate": _learning_rate(config),
        "gamma": config.gamma,
        "seed": config.seed,
        "device": "cpu",
        "verbose": 0,
    }
    if config.algorithm == "dqn":
        return _build_dqn(config, common)
    plain = _plain_policy(config, env)
    common |= {
        "n_steps": config.n_steps,
        "gae_lambda": config.gae_lambda,
        "ent_coef": config.ent_coef,
        "vf_coef": config.vf_coef,
    }
    if config.algorithm == "a2c":
        policy, kwargs = _policy(config, AfterstatePolicy, plain)
        # Adam's steps do not depend on the size of the rewards, RMSprop's do little.
        return A2C(
            policy,
            policy_kwargs=kwargs,
            use_rms_prop=False,
            rollout_buffer_class=_rollout_buffer(config),
            **common,
        )
    common |= {
        "batch_size": config.batch_size,
        "n_epochs": config.n_epochs,
        "clip_range": config.clip_range,
    }
    if config.algorithm == "maskable_ppo":
        policy, kwargs = _policy(config, MaskableAfterstatePolicy, plain)
        return MaskablePPO(policy, policy_kwargs=kwargs, **common)
    policy, kwargs = _policy(config, AfterstatePolicy, plain)
    return PPO(
        policy,
        policy_kwargs=kwargs,
        rollout_buffer_class=_rollout_buffer(config),
        **common,
    )


def load_model(path: Path, config: TrainingConfig) -> BaseAlgorithm:
    """Load a model that a run of this configuration has saved.

    One of our own game is made anew, with the run's environments, and takes no more
    than the weights: nothing is unpickled, so that no code comes with it. One of
    another environment (`env_id`) is loaded by SB3, which runs whatever its file holds.
    No generator that the caller may use is drawn from.

    Raises:
        ValueError: the file is damaged, holds more than weights, or is of a model of
            another shape.
    """
    if config.env_id is not None:
        kinds = {"ppo": PPO, "maskable_ppo": MaskablePPO, "dqn": DQN, "a2c": A2C}
        kind: Any = kinds[config.algorithm]
        return kind.load(path, device="cpu")  # type: ignore[no-any-return]
    env = tetris_env(config.in_training(), config.n_envs, seed=None)
    with torch.random.fork_rng(devices=[]):
        model = _build(config.replace(seed=None), env)
    model.seed = config.seed
    take_parameters(model, path)
    timesteps = (read_metadata(path) or {}).get("timesteps")
    model.num_timesteps = timesteps if isinstance(timesteps, int) else 0
    return model


def network_weights(policy: Any) -> tuple[np.ndarray[Any, Any], ...] | None:
    """Return the weights of a policy that scores afterstates by a network, else None.

    See `training.network`.
    """
    scorer = _scorer(policy)
    if scorer is None or scorer.hidden is None:
        return None
    return tuple(weight.detach().numpy() for weight in scorer.network())


def linear_weights(policy: Any) -> np.ndarray[Any, Any] | None:
    """Return the weights (F,) of a policy that scores linearly, else None."""
    scorer = _scorer(policy)
    weights = None if scorer is None else scorer.weights()
    return None if weights is None else weights.numpy().astype(np.float64)


def pattern_weights(policy: Any) -> np.ndarray[Any, Any] | None:
    """Return the table of a policy that scores patterns, else None."""
    net = getattr(policy, "net", None)
    return net.weights().numpy() if isinstance(net, PatternNet) else None


def tuple_weights(policy: Any) -> tuple[np.ndarray[Any, Any], ...] | None:
    """Return the weights of a policy that scores tuples, else None.

    See `training.tuples`.
    """
    net = getattr(policy, "net", None)
    if not isinstance(net, TupleNet):
        return None
    return tuple(weight.detach().numpy() for weight in net.weights())


def dense_weights(policy: Any) -> tuple[np.ndarray[Any, Any], ...] | None:
    """Return the layers of SB3's own MLP policy as it is by default, else None.

    None, too, where it sees pictures. See `training.dense`.
    """
    if len(policy.observation_space.shape or ()) != 1:
        return None
    hidden: Any = getattr(getattr(policy, "mlp_extractor", None), "policy_net", ())
    is_flat = isinstance(getattr(policy, "features_extractor", None), FlattenExtractor)
    if not is_flat or [type(one) for one in hidden] != [nn.Linear, nn.Tanh] * 2:
        return None
    first, second, last = hidden[0], hidden[2], policy.action_net
    layers = (first.weight.T, first.bias, second.weight.T, second.bias)
    return tuple(
        layer.detach().contiguous().numpy()
        for layer in (*layers, last.weight, last.bias)
    )


def warm_up(config: TrainingConfig) -> None:
    """Load and compile all that a run of our own game needs, by two rollouts of one."""
    from tetris_widget.training.display import watched_game
    from tetris_widget.training.evaluation import Evaluator

    few = {"n_envs": 2, "n_steps": 4, "batch_size": 8, "evaluation_max_pieces": 2}
    few["buffer_size"] = max(config.buffer_size, few["batch_size"])
    small = config.replace(**few, target_lines=None)
    model = build_model(small, tetris_env(small, 2, seed=0))
    model.learn(16)
    watched_game(small).move(model)
    evaluator = Evaluator(small)
    evaluator.begin(model)
    evaluator.advance(0.1)


def _learning_rate(config: TrainingConfig) -> float | DecayingRate:
    first, halving = config.learning_rate, config.learning_rate_halving
    if halving is None:
        return first
    return DecayingRate(first, halving, config.total_timesteps)


def _build_dqn(config: TrainingConfig, common: dict[str, Any]) -> DQN:
    common |= {
        "batch_size": config.batch_size,
        "buffer_size": config.buffer_size,
        "learning_starts": min(1_000, config.buffer_size),
        "train_freq": 4,
        "gradient_steps": 1,
        "target_update_interval": 1_000,
        "exploration_fraction": min(
            1.0, DQN_EXPLORATION_TIMESTEPS / config.total_timesteps
        ),
        "exploration_final_eps": 0.02,
    }
    plain = _plain_policy(config, common["env"])
    policy, kwargs = _policy(config, AfterstateQPolicy, plain)
    kind = AfterstateDQN if policy is AfterstateQPolicy else DQN
    return kind(policy, policy_kwargs=kwargs, **common)


def _policy(
    config: TrainingConfig, afterstate_policy: Any, plain_policy: str
) -> tuple[Any, dict[str, Any]]:
    kwargs: dict[str, Any] = {"optimizer_class": Adam}
    if config.algorithm != "dqn":
        kwargs["optimizer_kwargs"] = {"eps": ACTOR_CRITIC_EPSILON}
    if config.env_id is not None:
        return plain_policy, kwargs
    if config.observation == "afterstates":
        return afterstate_policy, kwargs | {"is_linear": config.policy == "linear"}
    if config.policy == "patterns":
        return PatternPolicy, kwargs
    if config.policy == "tuples":
        return TuplePolicy, kwargs
    if config.policy == "cnn":
        kwargs["features_extractor_class"] = BoardExtractor
    return plain_policy, kwargs


def _plain_policy(config: TrainingConfig, env: VecEnv) -> str:
    is_ours = config.env_id is None
    return "MlpPolicy" if is_ours else policy_for(env.observation_space)


def _rollout_buffer(config: TrainingConfig) -> type[SteadyRolloutBuffer] | None:
    # Other environments may show what only SB3's own buffers can keep.
    return SteadyRolloutBuffer if config.env_id is None else None


def _scorer(policy: Any) -> Scorer | None:
    scorer = getattr(getattr(policy, "net", None), "scorer", None)
    if scorer is None:
        scorer = getattr(getattr(policy, "q_net", None), "q_net", None)
    return scorer if isinstance(scorer, Scorer) else None


def _last_layer(n_inputs: int) -> nn.Linear:
    layer = nn.Linear(n_inputs, 1, bias=False)
    layer.weight.data.mul_(INITIAL_SCALE)
    return layer


def _n_features(space: spaces.Space[Any]) -> int:
    assert space.shape is not None
    return space.shape[-1] - 1
