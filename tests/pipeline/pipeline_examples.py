"""The example of the design, the smallest pipeline, and the problems of a text."""

from __future__ import annotations

import pytest

from stagewise.errors import ConfigError
from stagewise.pipeline import Overrides, load_text

EXAMPLE = """\
format = 1

[pipeline]
name = "librispeech"                 # results go to runs/librispeech/
seed = 0                             # every random choice derives from (seed, stage, epoch, item)
schedule = "iterative"               # "iterative" | "simultaneous" | "asynchronous"
memory_limit = "3 GiB"               # optional: training any stage stays below this
disk_limit = "200 GiB"               # optional: stores that would not fit are recomputed instead

[data]
target = "librispeech"               # short name, or "package.module:Class"
root = "data/LibriSpeech"
splits = { train = "...", test = "..." }
bad_items = "error"                  # "error" | "skip" (counted and listed in the report)

[defaults.train]
epochs = 1000                        # at most; training ends at convergence
patience = 20                        # epochs without a better validation loss
batch_size = 8
precision = "auto"
optimizer = { target = "torch.optim:Adam", lr = 2e-4 }
checkpoint = "10 min"

[defaults.objective]
target = "infonce"
steps = 12
negatives = 10                       # or "all": every other position in the batch
window = 128                         # rows scored per item

[defaults.store]
write = "auto"                       # true | false | "auto" (the plan decides)
dtype = "int8"                       # "float32" | "float16" | "int8" (per-channel scale and offset)
compress = "auto"                    # "none" (fastest to read) | "zstd" | "auto"

[[stage]]
name = "conv1"
encoder = { target = "conv1d", in_channels = 1, out_channels = 512, kernel_size = 10, stride = 5, padding = 2 }
# … conv2 to conv5 …
[[stage]]
name = "context"
context = { target = "gru", input_size = 512, hidden_size = 256 }

[[probe]]
name = "speaker"
stages = "all"                       # Figure 4: one probe per stage
labels = "speaker"
pool = "mean"
"""

MINIMAL = """\
format = 1
[pipeline]
name = "small"
[data]
target = "synthetic-speech"
[[stage]]
name = "conv1"
encoder = { target = "conv1d" }
"""  # 8 lines: what a test appends begins at line 9


def problems_of(text: str, sets: Overrides = ()) -> list[str]:
    """What is wrong with a text, line by line, without the last line (which is checked here)."""
    with pytest.raises(ConfigError) as raised:
        load_text(text, "x.toml", sets)
    assert raised.value.exit_code == 2
    *lines, last = str(raised.value).split("\n")
    count = "1 problem" if len(lines) == 1 else f"{len(lines)} problems"
    assert last == f"{count}; nothing was run."
    return lines
