"""An hour trains and encodes in the memory of ten seconds, and its rows are those of one whole pass."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from stagewise.encoding.stream import stream
from stagewise.modules import GRU, Conv1d
from stagewise.modules.stage_module import StageModule

CHILD = """if True:
    import json, sys
    from pathlib import Path
    import stagewise
    folder, name = Path(sys.argv[1]), sys.argv[2]
    sets = {"data.root": str(folder / name), "data.test_fraction": 0.0}
    facts = stagewise.run(folder / "long.toml", run=folder / ("run-" + name), set=sets)
    high = next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith("VmHWM"))
    print(json.dumps({"kib": high, "rows": [s["store"]["rows"] for s in facts["stages"]],
                      "peaks": [s["memory"]["measured_peak_bytes"] for s in facts["stages"]]}))
"""

TOML = """\
format = 1
[pipeline]
name = "long"
[data]
target = "audio-folder"
root = "."
validation = 0
[defaults.train]
epochs = 2
windows_per_item = 16
batch_size = 4
precision = "float32"
[defaults.store]
write = true
[[stage]]
name = "one"
encoder = { target = "conv1d", in_channels = 1, out_channels = 16, kernel_size = [10, 8], stride = [5, 4], padding = 2 }
[[stage]]
name = "two"
encoder = { target = "conv1d", in_channels = 16, out_channels = 16, kernel_size = 4, stride = [2, 2, 2], padding = 1 }
[[stage]]
name = "context"
context = { target = "gru", input_size = 16, hidden_size = 8 }
"""


def write_speech(path: Path, seconds: int, shared: Path) -> None:
    """Real speech over and over, as long as asked."""
    import soundfile

    files = sorted((shared / "librispeech-sample").rglob("*.flac"))
    path.parent.mkdir(parents=True)
    with soundfile.SoundFile(path, "w", 16000, 1) as out:
        left = seconds * 16000
        while left:
            for file in files:
                samples = soundfile.read(file, dtype="int16")[0][:left]
                out.write(samples)
                left -= len(samples)


@pytest.mark.slow
def test_an_hour_takes_no_more_memory_than_ten_seconds(tmp_path, shared):
    (tmp_path / "long.toml").write_text(TOML)
    found = {}
    for name, seconds in (("short", 10), ("long", 3600)):
        write_speech(tmp_path / name / "speech.flac", seconds, shared)
        done = subprocess.run(
            [sys.executable, "-c", CHILD, str(tmp_path), name], capture_output=True, text=True, timeout=280
        )
        assert done.returncode == 0, done.stderr
        found[name] = json.loads(done.stdout.splitlines()[-1])
    print(found)
    assert found["long"]["rows"][0] == pytest.approx(360 * found["short"]["rows"][0], rel=1e-3)
    assert found["long"]["peaks"] == found["short"]["peaks"]
    # What is left: the two shard buffers (46 MB each here), which ten seconds do not fill.
    assert found["long"]["kib"] - found["short"]["kib"] < 150 * 1024


@pytest.mark.parametrize("channels", [16, 96])
def test_rows_of_a_long_item_are_those_of_one_pass(channels):
    torch.manual_seed(0)
    stages = [
        StageModule(Conv1d(1, channels, [10, 8], [5, 4], 2), None, 1),
        StageModule(Conv1d(channels, channels, 4, [2, 2, 2], 1), GRU(channels, 8), channels),
    ]
    x = torch.randn(1, 1, 16000 * 20)
    with torch.inference_mode():
        whole = x
        for stage in stages:
            whole = stage.eval()(whole)[1]
    pieces = list(stream(lambda a, b: x[:, :, a:b], x.shape[2], stages, piece_bytes=2**17))
    assert len(pieces) > 3
    np.testing.assert_allclose(torch.cat(pieces, 2).numpy(), whole.numpy(), atol=2e-7)
