"""The files that `embed` writes, read back as anybody would; the command line."""

import os
import re
import signal
import sys

import embedding_examples as examples
import numpy as np
import pytest
import torch
import zarr
from click.testing import CliRunner

import stagewise
from stagewise.cli.apply import embed as embed_command
from stagewise.cli.main import main
from stagewise.errors import ConfigError, DataError, Interrupted
from stagewise.frozen.writers import WRITERS, check_out, write

pytestmark = pytest.mark.usefixtures("no_peaks")


def silent(*_, **__):
    pass


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("audio")
    examples.audio_run(folder)
    return stagewise.open(folder / "run")


@pytest.fixture
def root(run):
    return run.path.parent / "audio"


def of(run, root, pool):
    rows = run.embed([root], pool=pool)
    return list(rows), [np.atleast_2d(each) for each in rows.values()]


@pytest.mark.parametrize("pool", [None, "mean", "mean+std"])
def test_npz_is_read_by_numpy_without_objects(run, root, tmp_path, pool):
    keys, items = of(run, root, pool)
    out, told = tmp_path / "z.npz", []
    write(run.embedding([root], pool=pool), out, lambda kind, **facts: told.append((kind, facts)))
    with np.load(out) as archive:  # refuses objects unless asked
        assert bytes(archive["keys"]).decode().split("\n") == keys
        assert (archive["z"].dtype, archive["offsets"].dtype) == (np.float32, np.int64)
        np.testing.assert_array_equal(archive["z"], np.concatenate(items))
        np.testing.assert_array_equal(np.diff(archive["offsets"]), [len(each) for each in items])
    assert told[-1][1]["rows"] == told[-1][1]["of"] == sum(map(len, items))
    before = out.read_bytes()
    write(run.embedding([root], pool=pool), out, silent, force=True)
    assert out.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["z.npz"]


@pytest.mark.parametrize("chunk_bytes", [24 * 7, 2**20])
def test_zarr_is_read_by_zarr(run, root, tmp_path, monkeypatch, chunk_bytes):
    monkeypatch.setattr("stagewise.frozen.writers.CHUNK_BYTES", chunk_bytes)
    keys, items = of(run, root, None)
    write(run.embedding([root]), tmp_path / "z.zarr", silent)
    group = zarr.open_group(tmp_path / "z.zarr", mode="r")
    assert bytes(group["keys"][:]).decode().split("\n") == keys
    np.testing.assert_array_equal(group["z"][:], np.concatenate(items))
    np.testing.assert_array_equal(np.diff(group["offsets"][:]), [len(each) for each in items])
    with pytest.raises(ConfigError, match="is there already"):
        check_out(tmp_path / "z.zarr")


@pytest.mark.parametrize(
    ("pool", "group_bytes", "groups"), [(None, 2**25, 1), (None, 1, 8), ("mean", 2**25, 1), ("mean", 3 * 24, 3)]
)
def test_parquet_is_read_by_pyarrow(run, root, tmp_path, monkeypatch, pool, group_bytes, groups):
    monkeypatch.setattr("stagewise.frozen.writers.GROUP_BYTES", group_bytes)
    parquet = pytest.importorskip("pyarrow.parquet")
    keys, items = of(run, root, pool)
    check_out(tmp_path / "z.parquet")
    write(run.embedding([root], pool=pool), tmp_path / "z.parquet", silent)
    file = parquet.ParquetFile(tmp_path / "z.parquet")
    assert file.num_row_groups == groups
    table = file.read()
    assert table["key"].to_pylist() == [key for key, each in zip(keys, items, strict=True) for _ in each]
    assert table["row"].to_pylist() == [row for each in items for row in range(len(each))]
    np.testing.assert_array_equal(np.array(table["z"].to_pylist(), np.float32), np.concatenate(items))


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_file_is_replaced_once_the_new_one_is_whole(run, root, tmp_path, suffix):
    out = tmp_path / f"z{suffix}"
    first, second = run.embedding([root / "a"]), run.embedding([root / "b"])
    write(first, out, silent)
    old = contents(tmp_path)

    def stop(*_, **__):
        assert {name: content for name, content in contents(tmp_path).items() if name in old} == old
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write(second, out, stop, force=True)
    with pytest.raises(ConfigError, match=r"is there already: name another, or type --force to replace it"):
        write(second, out, silent)
    assert contents(tmp_path) == old
    write(second, out, silent, force=True)
    new = contents(tmp_path)
    assert new != old
    assert {name.partition("/")[0] for name in new} == {out.name}
    if suffix == ".zarr":
        (out / "notes.txt").touch()
        with pytest.raises(ConfigError, match=r"z.zarr is there already, and is not what this command writes"):
            write(first, out, silent, force=True)


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_without_pyarrow_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError, match=r"pip install 'stagewise\[parquet\]'"):
        check_out(tmp_path / "z.parquet")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("z.csv", "must end in .npz or .zarr or .parquet."),
        ("no/z.npz", "there is no folder"),
        ("file.npz", "there already: name another, or type --force"),
        ("file.parquet", "there already: name another, or type --force"),
        ("file.zarr", "there already, and is not what this command writes"),
        ("folder.npz", "there already, and is not what this command writes"),
    ],
)
def test_a_place_that_cannot_be_is_refused_beforehand(tmp_path, name, words):
    for there in ("file.npz", "file.parquet", "file.zarr"):
        (tmp_path / there).touch()
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(ConfigError, match=words):
        check_out(tmp_path / name)


def test_two_commands_do_not_mix(run, root, tmp_path):
    """The second to end is refused; what the first wrote is whole."""
    out, made = tmp_path / "z.npz", run.embedding([root])

    def other(kind, **facts):
        if not out.exists():
            write(run.embedding([root], "one"), out, silent)

    with pytest.raises(ConfigError, match=r"z.npz was written by somebody else meanwhile, and is left as it is"):
        write(made, out, other)
    with np.load(out) as archive:
        assert archive["z"].shape == (archive["offsets"][-1], 8)
    assert [path.name for path in tmp_path.iterdir()] == ["z.npz"]


def test_a_signal_leaves_nothing_and_says_so(run, root, tmp_path):
    with pytest.raises(Interrupted, match=r"stopped by SIGTERM: nothing is kept. Type .* again to start over\.$"):
        write(run.embedding([root]), tmp_path / "z.npz", lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", WRITERS)
def test_what_fails_leaves_nothing(run, root, tmp_path, suffix, monkeypatch):
    made = run.embedding([root])

    def spoilt(item):
        if item == 3:
            raise DataError("the disk with the data is gone.")
        return made.chain.rows(item)

    monkeypatch.setattr(type(made), "pieces", lambda _, item: spoilt(item))
    with pytest.raises(DataError, match="is gone"):
        write(made, tmp_path / f"z{suffix}", silent)
    assert not list(tmp_path.iterdir())


def test_the_command_takes_as_many_threads_as_the_run(run, root, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    done = CliRunner().invoke(embed_command, [str(run.path), str(root), "--out", str(tmp_path / "z.npz")])
    assert (done.exit_code, asked) == (0, [1])
    assert f"stage context of {run.path}" in done.stderr
    assert re.search(r"^computed on (cpu with \d+ threads?|cuda), in float32$", done.stderr, re.MULTILINE)


def stagewise_command(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_the_command_with_an_export(run, root, tmp_path):
    assert stagewise_command("export", run.path, "--stage", "two", "--out", tmp_path / "encoder").exit_code == 0
    for source, out in ((run.path, "run.npz"), (tmp_path / "encoder", "export.npz")):
        stage = ["--stage", "two"] if source == run.path else []
        done = stagewise_command("embed", source, root, *stage, "--out", tmp_path / out)
        assert done.exit_code == 0, done.output
    assert f"stage two of {tmp_path / 'encoder'}" in done.stderr
    assert (tmp_path / "run.npz").read_bytes() == (tmp_path / "export.npz").read_bytes()
    bad = stagewise_command("embed", tmp_path / "encoder", root, "--stage", "one", "--out", tmp_path / "z.npz")
    assert (bad.exit_code, "is an export, of one stage: leave --stage out." in bad.stderr) == (2, True)


def test_the_command(run, root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = stagewise_command("embed", run.path, root, "--stage", "two", "--out", "two.npz")
    assert done.exit_code == 0, done.output
    assert "two.npz" in done.stdout
    assert "8 items" in done.stdout
    assert f"stage two of {run.path}" in done.stderr
    assert 'Read it with numpy.load("two.npz")["z"]; `offsets` say where' in done.stderr
    with np.load(tmp_path / "two.npz") as archive:
        assert archive["z"].shape[1] == 8
    bad = stagewise_command("embed", run.path, "none.wav", "--out", "z.npz")
    assert (bad.exit_code, "none.wav is not there." in bad.stderr) == (2, True)
    lost = stagewise_command("embed", root, "--out", "z.npz")  # no run was made here
    assert (lost.exit_code, "no run was made below this folder" in lost.stderr) == (2, True)


def test_a_file_that_is_named_twice_is_taken_once_and_said(run, root):
    file, told = next(root.rglob("*.wav"), None) or next(root.rglob("*.flac")), []
    made = run.embedding([file, file], report=lambda kind, **facts: told.append(facts.get("text")))
    assert len(made.keys) == 1
    assert "1 file is named twice, and taken once" in told
