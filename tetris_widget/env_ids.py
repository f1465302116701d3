"""Environments by id, anybody's: whether there is one of that name.

Owns how an id is read: as Gymnasium does (`module:Id` imports the module first), and
`namespace/Id`, whose namespace is imported as a module when it isn't registered, and
then, where that registers nothing, `namespace.envs`, as many packages have it.
Deliberately doesn't know training; a module is imported only when it is asked for.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
from types import ModuleType

from tetris_widget.config import ConfigError


def check_env_id(env_id: str) -> None:
    """Raise unless there is such an environment, as far as that shows without a module.

    Raises:
        ConfigError: there is none, or no module where it would be, or only this process
            has it; the message offers the nearest id, or says what to do.
    """
    module = module_of(env_id)
    if module is None:
        _check_registered(env_id)
        return
    package = module.partition(".")[0]
    if package == "__main__":
        raise ConfigError(
            f"env_id: {env_id!r} is defined in a notebook or script, which the "
            "training process cannot import; allowed: one that a module registers, "
            "as 'module:Id'"
        )
    if not _is_installed(package):
        raise ConfigError(
            f"env_id: {env_id!r} needs the module {module!r}, which is not installed"
            f"{_hint(env_id)}"
        )


def load_env_id(env_id: str) -> None:
    """Import the module of an id, and raise unless there is such an environment.

    Raises:
        ConfigError: there is none, or its module cannot be imported.
    """
    check_env_id(env_id)
    module = module_of(env_id)
    if module is not None:
        is_package = hasattr(_import(module, env_id), "__path__")
        is_unknown = ":" not in env_id and module_of(env_id) is not None
        if is_unknown and is_package and _is_installed(f"{module}.envs"):
            _import(f"{module}.envs", env_id)
    _check_registered(env_id)


def _import(module: str, env_id: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except Exception as error:  # whatever its code raises
        raise ConfigError(
            f"env_id: {env_id!r} needs the module {module!r}, which cannot be "
            f"imported: {type(error).__name__}: {error}"
        ) from error


def _is_installed(module: str) -> bool:
    try:
        return bool(module) and importlib.util.find_spec(module) is not None
    except ValueError:  # made by hand, so that only this process has it
        return False


def module_of(env_id: str) -> str | None:
    """Return the module that has to be imported before an id is known, or None."""
    import gymnasium

    if ":" in env_id:
        return env_id.partition(":")[0]
    if "/" in env_id and env_id not in gymnasium.registry:
        return env_id.partition("/")[0]
    return None


def _check_registered(env_id: str) -> None:
    import gymnasium

    name = env_id.rpartition(":")[2]
    try:
        gymnasium.spec(name)
    except gymnasium.error.Error:
        raise ConfigError(
            f"env_id: there is no environment {env_id!r}{_hint(name)}"
        ) from None


def _hint(name: str) -> str:
    import gymnasium

    near = difflib.get_close_matches(name, gymnasium.registry, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""
