"""What any VecEnv whose games live in arrays answers the same way.

Owns the rest of Stable-Baselines3's VecEnv interface: attributes, methods, wrappers.
Deliberately doesn't know games, actions or observations.
"""

from __future__ import annotations

from typing import Any

from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices


class ArrayVecEnv(VecEnv):
    """A VecEnv that is one object, not a list of them."""

    def close(self) -> None:
        """Nothing is open."""

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Return an attribute, the same for every env."""
        value = getattr(self, attr_name)
        return [value for _ in self._get_indices(indices)]

    def set_attr(
        self, attr_name: str, value: Any, indices: VecEnvIndices = None
    ) -> None:
        """Set an attribute of all envs at once."""
        setattr(self, attr_name, value)

    def env_method(
        self,
        method_name: str,
        *method_args: Any,
        indices: VecEnvIndices = None,
        **method_kwargs: Any,
    ) -> list[Any]:
        """Call a method for all envs, and return the chosen envs' results."""
        results = getattr(self, method_name)(*method_args, **method_kwargs)
        return [results[index] for index in self._get_indices(indices)]

    def env_is_wrapped(
        self, wrapper_class: type[Any], indices: VecEnvIndices = None
    ) -> list[bool]:
        """No env is wrapped."""
        return [False for _ in self._get_indices(indices)]
