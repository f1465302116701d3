"""What any VecEnv whose games live in arrays answers the same way.

Owns the rest of Stable-Baselines3's VecEnv interface: attributes, methods, wrappers.
Deliberately doesn't know games, actions or observations.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices


class ArrayVecEnv(VecEnv):
    """A VecEnv that is one object, not a list of them."""

    @abstractmethod
    def env_methods(self) -> Mapping[str, Callable[..., list[Any]]]:
        """Return what `env_method` can call, by name.

        Each takes the numbers of the chosen envs, then the call's own arguments, and
        returns a result for each of these envs.
        """

    def close(self) -> None:
        """Nothing is open."""

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Return an attribute, the same for every env."""
        value = getattr(self, attr_name)
        return [value for _ in self._chosen(indices)]

    def set_attr(
        self, attr_name: str, value: Any, indices: VecEnvIndices = None
    ) -> None:
        """Set an attribute of all envs at once.

        Raises:
            ValueError: `indices` leave some out; nothing is changed.
            AttributeError: there is none of that name.
        """
        if not hasattr(self, attr_name):
            raise AttributeError(f"set_attr: these envs have no {attr_name!r}")
        chosen = self._chosen(indices)
        if set(chosen) != set(range(self.num_envs)):
            raise ValueError(
                f"indices: {chosen}; allowed: None, for all envs share {attr_name!r}"
            )
        setattr(self, attr_name, value)

    def env_method(
        self,
        method_name: str,
        *method_args: Any,
        indices: VecEnvIndices = None,
        **method_kwargs: Any,
    ) -> list[Any]:
        """Call a method for the chosen envs, and return their results.

        Raises:
            AttributeError: there is no such method of a single env.
        """
        methods = self.env_methods()
        if method_name not in methods:
            raise AttributeError(
                f"env_method: {method_name!r}; allowed: {', '.join(methods)}"
            )
        chosen = self._chosen(indices)
        return methods[method_name](chosen, *method_args, **method_kwargs)

    def env_is_wrapped(
        self, wrapper_class: type[Any], indices: VecEnvIndices = None
    ) -> list[bool]:
        """No env is wrapped."""
        return [False for _ in self._chosen(indices)]

    def _chosen(self, indices: VecEnvIndices) -> list[int]:
        """Return the numbers of envs; as of a list, -1 is the last one."""
        return [range(self.num_envs)[index] for index in self._get_indices(indices)]
