"""What is damaged, missing or no file is named when it is read."""

import os

import pytest

from stagewise import durable
from stagewise.errors import IntegrityError


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"nul\x00", b"[" * 100_000])
def test_damaged_json(tmp_path, content):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(IntegrityError) as raised:
        durable.read_json(tmp_path / "x.json", "Type `stagewise run` again.")
    assert str(raised.value).startswith(f"{tmp_path / 'x.json'} is damaged (")
    assert str(raised.value).endswith("). Type `stagewise run` again.")


def put_device(path):
    path.symlink_to("/dev/zero")


@pytest.mark.timeout(20)
@pytest.mark.parametrize("put", [put_device, os.mkfifo, os.mkdir])
def test_what_is_no_file_is_not_read(tmp_path, put):
    put(path := tmp_path / "x.json")
    for read in (durable.open_file, durable.read_bytes, durable.sha256_of, durable.read_lines):
        with pytest.raises(OSError, match=r"x\.json"):
            read(path)
    with pytest.raises(IntegrityError, match=r"x\.json cannot be read \((not a file|Is a directory)\)\. Delete it\."):
        durable.read_json(path, "Delete it.")


def test_missing_json(tmp_path):
    with pytest.raises(IntegrityError) as raised:
        durable.read_json(tmp_path / "x.json", "Delete it.")
    assert str(raised.value) == f"{tmp_path / 'x.json'} is missing. Delete it."
