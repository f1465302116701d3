"""How kernels are compiled.

Owns the compiler's options: those of a kernel, which Python calls, and those of a part,
which kernels call many times for every game. Deliberately doesn't know what they do.
"""

from __future__ import annotations

from typing import Any

from numba import njit

KERNEL = {"cache": True, "nogil": True}
PART = {
    "cache": True,
    # Without counting references to arrays: every array that a part is given, its
    # caller holds. numba counts them atomically, in each call, which took longer than
    # the move of a piece. `_nrt` is numba's own name for its counting runtime.
    "_nrt": False,
    # Nor do they need what would call them from elsewhere.
    "no_cfunc_wrapper": True,
    "no_cpython_wrapper": True,
}


def kernel(function: Any = None, **options: Any) -> Any:
    """Compile what Python calls, or what makes arrays; it runs without the GIL.

    Args:
        function: to be compiled.
        options: of numba, beside or in the place of KERNEL's.
    """
    return _compile(function, KERNEL | options)


def part(function: Any = None, **options: Any) -> Any:
    """Compile what kernels call with arrays of theirs; it can make none.

    Args:
        function: to be compiled.
        options: of numba, beside or in the place of PART's: `forceinline` for what is
            small; `no_cpython_wrapper=False` for what Python calls, too.
    """
    return _compile(function, PART | options)


def _compile(function: Any, options: dict[str, Any]) -> Any:
    decorate = njit(**options)
    return decorate if function is None else decorate(function)
