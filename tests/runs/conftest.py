"""What tests of whole runs share."""

import pytest

from stagewise import train_stages
from stagewise.training.train import Training


@pytest.fixture
def jobs(monkeypatch):
    """The jobs that were trained."""
    seen = []

    class Spy(Training):
        def __init__(self, job, stop, report):
            seen.append(job)
            super().__init__(job, stop, report)

    monkeypatch.setattr(train_stages, "Training", Spy)
    return seen
