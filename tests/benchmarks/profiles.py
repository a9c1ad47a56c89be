"""Where a training step's time goes, and the two numbers that bound it: arithmetic and memory traffic."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial

from paper import step_input, trainee
from report import Table
from steps import PRODUCT, step
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode
from vision import NaiveStep, Step

STEPS = 5


def profiled(name: str, work: Callable[[], object], uncounted: int = 0) -> Table:
    """Profile some steps and list the operators that take most of the time themselves."""
    work()
    work()
    with FlopCounterMode(display=False) as counter:
        work()
    with profile(activities=[ProfilerActivity.CPU], acc_events=True) as profiler:
        for _ in range(STEPS):
            work()
    events = sorted(profiler.key_averages(), key=lambda e: -e.self_cpu_time_total)
    total = sum(e.self_cpu_time_total for e in events)
    rows = [
        [
            e.key.removeprefix("aten::"),
            f"{e.self_cpu_time_total / STEPS / 1e3:.1f} ms",
            f"{e.self_cpu_time_total / total:.2f}",
        ]
        for e in events[:8]
    ]
    # Torch's counter leaves out products that accumulate in place: W's gradient is as many as the predictions.
    operations = counter.get_total_flops() + uncounted
    note = (
        f"{name}: {total / STEPS / 1e3:.0f} ms a step, {operations / 1e9:.1f} GFLOP in products and convolutions, "
        f"{operations / (total / STEPS * 1e3):.0f} GFLOP/s over the whole step."
    )
    return Table([f"{name}: operator", "itself", "share"], rows, [note])


def main(runs: int = 5) -> list[Table]:
    ways: dict[str, Callable[[], object]] = {
        name: partial(step, trainee(name), step_input(name)) for name in ("conv1", "conv2", "conv3", "context")
    }
    ways |= {"vision module 1, naive": NaiveStep("module 1"), "vision module 1": Step("module 1")}
    ways |= {"vision module 3": Step("module 3")}
    accumulated = {"conv1": PRODUCT, "conv2": PRODUCT, "conv3": PRODUCT, "context": PRODUCT // 2}
    return [profiled(name, work, accumulated.get(name, 0)) for name, work in ways.items()]


if __name__ == "__main__":
    print(*main(int(sys.argv[1]) if sys.argv[1:] else 5), sep="\n\n")
