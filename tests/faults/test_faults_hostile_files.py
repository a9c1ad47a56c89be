"""Pipeline files made to do harm: refused in words, nothing imported or executed, nothing written elsewhere."""

import re
import sys

import pytest
import tiny
from in_process import stagewise as say


@pytest.mark.parametrize("kind", ["data", "encoder", "objective", "optimizer"])
@pytest.mark.parametrize("target", ["os:system", "builtins:eval", "subprocess:Popen", "pathlib:Path", "evil:Evil"])
def test_a_target_of_another_kind_is_neither_called_nor_imported_from_here(kind, target, tmp_path, monkeypatch):
    (tmp_path / "evil.py").write_text("open('ran', 'w').close()\nclass Evil: pass\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *(entry for entry in sys.path if entry)])  # as `python -m` has it
    table = f'{{ target = "{target}", args = "touch ran" }}'
    text = {
        "data": tiny.TOML.replace('target = "tiny:TinySpeech"', f'target = "{target}"\nargs = "touch ran"'),
        "encoder": re.sub(r"encoder = \{.*\}", f"encoder = {table}", tiny.TOML, count=1),
        "objective": tiny.TOML.replace("[defaults.objective]", f'[defaults.objective]\ntarget = "{target}"'),
        "optimizer": re.sub(r"optimizer = \{.*\}", f"optimizer = {table}", tiny.TOML),
    }[kind]
    file = tiny.write_pipeline(tmp_path, text)
    for line in (("plan", file), ("run", file)):
        code, words = say(*line)
        assert code == 2
        assert target in words
        assert re.search(r"tiny\.toml:\d+: ", words)
    assert not (tmp_path / "ran").exists()
    assert not list(tmp_path.rglob("stages/*"))


@pytest.mark.parametrize(
    "name", ["../../x", "/elsewhere/x", "a/b", "..", ".", "", "-rf", "a\\u0000b", "x" * 300, "é" * 200, "a\\nb", "~"]
)
def test_names_that_lead_elsewhere(name, tmp_path, monkeypatch):
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for old in ('name = "tiny"', 'name = "one"', 'name = "phones"'):
        file = tiny.write_pipeline(tmp_path, tiny.TOML.replace(old, f'name = "{name}"'))
        code, words = say("run", file)
        assert code == 2
        assert "name: " in words or "zero character" in words
    assert not list(folder.iterdir())
    assert {path.name for path in tmp_path.iterdir()} == {"here", "tiny.toml"}


def test_a_root_that_is_no_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for target in ("librispeech", "synthetic-speech", "stl10", "audio-folder", "image-folder"):
        for root in ("5", "[1]", "{ a = 1 }", f'"{"x" * 300}"', "true"):
            data = f'target = "{target}"\nroot = {root}'
            file = tiny.write_pipeline(tmp_path, tiny.TOML.replace('target = "tiny:TinySpeech"', data))
            code, words = say("plan", file)
            assert code in (1, 2), words
            assert "root" in words or "tiny.toml" in words or "xxx" in words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = " + "[" * 5000 + "]" * 5000, "nested"),
        ("x = " + "{a=" * 400 + "1" + "}" * 400, "nested|not TOML"),
        (".".join("a" * 500) + " = 1", "more than 64 parts"),
        ('x = "' + "a" * (10 << 20) + '"', "larger than 1 MiB"),
        ("format = 1", "Cannot overwrite a value"),
        ("x = 9" + "9" * 5000, "thousands of digits"),
        ("x = 1\0", "zero byte"),
    ],
)
def test_files_made_to_exhaust(text, words, tmp_path):
    (tmp_path / "x.toml").write_text(f"format = 1\n{text}\n")
    code, said = say("plan", tmp_path / "x.toml")
    assert code == 2
    assert re.search(words, said)
    assert len(said) < 2000
