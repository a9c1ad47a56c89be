"""Tests of faults run whole pipelines, many of them in processes of their own: all are among the slow ones."""

from pathlib import Path

import pytest


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)
