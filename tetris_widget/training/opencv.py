"""Keeps OpenCV out of a training process that has no use for it.

Owns how SB3 is loaded without it: SB3's Atari wrappers import it wherever it is
installed, 30 MB of memory that nothing of our own game draws with. Deliberately doesn't
know when that is.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from typing import Any

OPENCV = "cv2"
WRAPPERS = "stable_baselines3.common.atari_wrappers"


def leave_out() -> None:
    """Load SB3, and not OpenCV. What is loaded already stays as it is."""
    if OPENCV in sys.modules or WRAPPERS in sys.modules:
        return
    # To Python it isn't installed, and SB3 can do without it.
    sys.modules[OPENCV] = None  # type: ignore[assignment]
    try:
        importlib.import_module(WRAPPERS)
    finally:
        del sys.modules[OPENCV]


def bring_back() -> None:
    """Let SB3's Atari wrappers have OpenCV, where it can be imported."""
    wrappers: Any = importlib.import_module(WRAPPERS)
    if wrappers.cv2 is not None:
        return
    with contextlib.suppress(ImportError):  # SB3 says so where it is needed
        wrappers.cv2 = importlib.import_module(OPENCV)
        wrappers.cv2.ocl.setUseOpenCL(False)
