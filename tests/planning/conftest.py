"""What tests of plans share."""

import pytest

from stagewise.memory.tracker import Bytes
from stagewise.planning import plan
from stagewise.planning.memory import Forecast


@pytest.fixture(autouse=True, scope="module")
def _no_forecast():
    """What a step will take is no matter here, and to find it out takes longer than all the rest."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "within_limit", lambda *_: Forecast(Bytes(0, {}), 1))
        patch.setattr(plan, "forecast", lambda *_: Bytes(0, {}))
        yield
