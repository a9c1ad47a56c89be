"""Paths that are no pipeline files: what they are is said, and which file is meant."""

from __future__ import annotations

from pathlib import Path

import pytest
from pipeline_examples import EXAMPLE

from stagewise.errors import ConfigError
from stagewise.pipeline import load_pipeline


def test_a_missing_file_suggests_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "speech.toml").touch()
    with pytest.raises(ConfigError) as raised:
        load_pipeline(tmp_path / "spech.toml")
    expected = f'{tmp_path}/spech.toml: there is no such file (did you mean "{tmp_path}/speech.toml"?)'
    assert str(raised.value) == expected
    with pytest.raises(ConfigError, match=r"there is no such file; check the path$"):
        load_pipeline(tmp_path / "nowhere" / "x.toml")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a folder, no pipeline file: type `stagewise init .*` to have one made"):
        load_pipeline(tmp_path)
    with pytest.raises(ConfigError, match="cannot be read as a pipeline file: embedded null byte"):
        load_pipeline(Path("a\0b"))
    path = tmp_path / "x.toml"
    path.write_bytes(b"a = 1\nb = '\xff'\n")
    with pytest.raises(ConfigError, match=r"x\.toml:2: not UTF-8 text: save it as UTF-8"):
        load_pipeline(path)
    path.write_bytes(EXAMPLE.encode("utf-16"))
    with pytest.raises(ConfigError, match=r"x\.toml:1: not UTF-8 text"):
        load_pipeline(path)
    path.write_bytes(b"#" * (1 << 20) + b"\n")
    with pytest.raises(ConfigError, match="larger than 1 MiB"):
        load_pipeline(path)
    with pytest.raises(ConfigError, match="larger than 1 MiB"):
        load_pipeline(Path("/dev/zero"))


def test_a_folder_beside_its_pipeline_file(tmp_path) -> None:
    (tmp_path / "talks").mkdir()
    with pytest.raises(ConfigError, match=r"talks is a folder, no pipeline file: type `stagewise init "):
        load_pipeline(tmp_path / "talks")
    for nameless in (".", "/"):
        with pytest.raises(ConfigError, match=r"is a folder, no pipeline file: type `stagewise init "):
            load_pipeline(Path(nameless))
    (tmp_path / "talks.toml").touch()
    with pytest.raises(ConfigError, match=r"talks is a folder, no pipeline file: type .*talks.toml\.$"):
        load_pipeline(tmp_path / "talks")
