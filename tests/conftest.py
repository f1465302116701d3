"""Options of the whole suite."""

from __future__ import annotations

import os

import pytest

# Two threads of torch that wait for each other on a busy machine take a minute for
# what one does in a second.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--pictures",
        action="store_true",
        help="write the README's pictures to docs/ (make screenshots)",
    )
