"""What a run says of its data: what was left out, and whether it is still what the run was made of."""

import json
import shutil

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

import stagewise
from stagewise.cli.main import main
from stagewise.errors import IntegrityError
from stagewise.runs.folder import RunFolder

pytestmark = pytest.mark.usefixtures("no_peaks")

TOML = """\
format = 1
[pipeline]
name = "files"
[data]
target = "audio-folder"
root = "{root}"
bad_items = "skip"
[defaults.train]
epochs = 1
batch_size = 4
[defaults.objective]
steps = 2
negatives = 4
window = 16
[defaults.store]
write = true
dtype = "{dtype}"
[[stage]]
name = "one"
encoder = {{ target = "conv1d", in_channels = 1, out_channels = 8, kernel_size = 10, stride = 5, padding = 2 }}
"""


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    root, rng = tmp_path_factory.mktemp("recordings"), np.random.default_rng(0)
    for number in range(100):
        soundfile.write(root / f"{number:03}.wav", rng.normal(0, 0.1, 400).astype(np.float32), 16000, subtype="PCM_16")
    return root


def made(folder, root, dtype="int8"):
    (folder / "x.toml").write_text(TOML.format(root=root, dtype=dtype))
    stagewise.run(folder / "x.toml", run=folder / "run")
    return folder / "run"


def test_what_was_left_out_is_listed(recordings, tmp_path):
    shutil.copytree(recordings, tmp_path / "data")
    (tmp_path / "data" / "007.wav").write_bytes(b"no sound")
    run = made(tmp_path, tmp_path / "data")
    listed = json.loads((run / "data.json").read_bytes())
    assert (listed["items"], listed["samples"]) == (99, 99 * 400)
    ((key, reason),) = [(item["key"], item["reason"]) for item in listed["skipped"]]
    assert key == "007.wav"
    assert reason
    assert str(tmp_path) not in (run / "data.json").read_text()
    shown = CliRunner().invoke(main, ["inspect", str(run)]).stdout
    assert "1 file was left out, such as 007.wav" in " ".join(shown.split())
    CliRunner().invoke(main, ["report", str(run), "--out", str(tmp_path / "report.html")])
    assert "1 file was left out of run:" in (tmp_path / "report.html").read_text()


def test_a_damaged_data_record_is_named_and_written_again(recordings, tmp_path):
    run = made(tmp_path, recordings)
    before = (run / "data.json").read_bytes()
    (run / "data.json").write_bytes(before.replace(b"100", b"101"))
    with pytest.raises(IntegrityError, match=r"data.json is damaged"):
        stagewise.open(run).facts  # noqa: B018
    stagewise.run(tmp_path / "x.toml", run=run)
    assert (run / "data.json").read_bytes() == before


@pytest.mark.parametrize("dtype", ["int8", "float16", "float32"])
def test_a_file_of_the_same_size_is_noticed(recordings, tmp_path, dtype):
    shutil.copytree(recordings, tmp_path / "data")
    run = made(tmp_path, tmp_path / "data", dtype)
    verify = ["verify", str(run), "--data"]
    calm = CliRunner().invoke(main, verify)
    assert (calm.exit_code, "the data is what the run was made of" in calm.stdout) == (0, True)
    shutil.copyfile(tmp_path / "data" / "011.wav", tmp_path / "data" / "042.wav")
    assert CliRunner().invoke(main, ["verify", str(run)]).exit_code == 0
    found = CliRunner().invoke(main, verify)
    assert found.exit_code == 3
    assert "042.wav is not the file that stage one was made of" in found.stderr
    assert "not what the run was made of: 1 item" in found.stderr


def test_without_a_store_nothing_can_be_compared(recordings, tmp_path):
    (tmp_path / "x.toml").write_text(
        TOML.format(root=recordings, dtype="int8").replace("write = true", "write = false")
    )
    stagewise.run(tmp_path / "x.toml", run=tmp_path / "run")
    found = CliRunner().invoke(main, ["verify", str(tmp_path / "run"), "--data"])
    assert (found.exit_code, "has no store that the data could be compared with" in found.stderr) == (2, True)


def test_data_of_another_size_is_said(recordings, tmp_path):
    shutil.copytree(recordings, tmp_path / "data")
    run = made(tmp_path, tmp_path / "data")
    (tmp_path / "data" / "003.wav").unlink()
    found = CliRunner().invoke(main, ["verify", str(run), "--data"])
    assert found.exit_code == 1
    assert "stage one is to be made (the data changed)" in found.stderr
    assert RunFolder(run).locked is not None
