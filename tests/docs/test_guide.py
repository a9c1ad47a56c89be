"""Every block of the guide is run, in its order, in a folder that holds what a reader would have."""

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tiny_images
from click.testing import CliRunner
from PIL import Image

import stagewise
from stagewise.cli.main import main

REPO = Path(__file__).parents[2]
GUIDE = REPO / "stagewise" / "guide"
BLOCK = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = (
    ("own_data.md", "network.md", "training.md", "memory.md", "stores.md"),
    ("extend.md",),
)  # each in a folder of its own


def recordings(folder):
    """Two voices, twelve recordings each: noise that is coloured in two ways, a second and a half long."""
    rng = np.random.default_rng(0)
    for number in range(24):
        path = folder / "recordings" / ("ann", "bob")[number % 2] / f"{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        samples = np.convolve(rng.normal(0, 0.1, 24_000), np.ones(1 + 3 * (number % 2)), "same")
        soundfile.write(path, samples.clip(-0.9, 0.9), 16_000)
    (folder / "new.wav").write_bytes((folder / "recordings/ann/0.wav").read_bytes())


def photographs(folder):
    """An encoder of images, exported, and a photograph beside it."""
    pixels = np.random.default_rng(0).integers(0, 256, (12, 30, 40, 3), np.uint8)
    for number, image in enumerate(pixels):
        path = folder / "images" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    Image.fromarray(pixels[0]).save(folder / "new.jpg")
    target = f'target = "image-folder"\nroot = "{folder / "images"}"\npatch = 8\nstride = 4\ncrop = 20'
    text = tiny_images.TOML.replace('target = "tiny_images:TinyImages"', target)
    run = stagewise.run(tiny_images.write_pipeline(folder, text), run=folder / "run")
    assert run["state"] == "complete"
    assert CliRunner().invoke(main, ["export", str(folder / "run"), "--out", str(folder / "encoder")]).exit_code == 0


def type_in(line, refusal=""):
    """Type a command, which is refused with these words or, without any, does its work."""
    command, *words = shlex.split(line, comments=True)
    assert command == "stagewise"
    result = CliRunner().invoke(main, words)
    assert (result.exit_code == 0) == (not refusal), (line, result.output)
    assert refusal in result.output, (line, result.output)


def change(file, text):
    """Change a copy of a pipeline file as lines with - and + say, which need not repeat its comments, and plan it."""
    lines = text.splitlines(keepends=True)
    old, new = ("".join(line[1:] or line for line in lines if line[0] != sign) for sign in "+-")
    content = re.sub(r" +#.*", "", Path(file).read_text())
    assert content.count(old) == 1, old
    Path("changed.toml").write_text(content.replace(old, new))
    type_in("stagewise plan changed.toml")


def carry_out(kind, name, text, environment):
    """Do with a block what a reader does with it, in the folder or with the file of its name."""
    home = Path(name) if name and Path(name).is_dir() else None
    if name is not None and home is None and kind != "diff":
        Path(name).write_text(text)
    if kind == "console":
        for line, refusal in re.findall(r"^(stagewise.*)\n((?:# .*\n)*)", text, re.MULTILINE):
            type_in(line, refusal.replace("\n# ", " ").removeprefix("# ").strip())
    elif kind == "diff":
        change(name, text)
    elif kind == "python":
        program = [name] if name and home is None else ["-c", text]
        done = subprocess.run([sys.executable, *program], capture_output=True, text=True, env=environment, cwd=home)
        assert done.returncode == 0, (text, done.stderr)
    else:
        assert (kind, tomllib.loads(text)["format"]) == ("toml", 1)


@pytest.mark.slow
@pytest.mark.timeout(900)  # a dozen commands; on a crowded machine they take minutes
@pytest.mark.parametrize("pages", PAGES, ids=lambda pages: pages[0])
def test_every_block_of_the_guide_runs(pages, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)  # `init` writes wider stages for a GPU
    monkeypatch.setattr(sys, "path", ["", str(tmp_path), *sys.path])  # as `python -m` and PYTHONPATH have it
    recordings(tmp_path)
    photographs(tmp_path / "photographs")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPO), str(tmp_path)])}
    for page in pages:
        blocks = BLOCK.findall((GUIDE / page).read_text())
        assert blocks
        for kind, name, text in blocks:
            carry_out(kind, name or None, text, environment)


def test_all_pages_are_run_and_linked():
    pages = {path.name for path in GUIDE.iterdir()}
    assert pages == {page for group in PAGES for page in group}
    readme = (REPO / "README.md").read_text()
    for page in pages:
        assert f"(stagewise/guide/{page})" in readme
        for target in re.findall(r"\]\(([^)#]+)\)", (GUIDE / page).read_text()):
            assert (GUIDE / target).exists(), (page, target)
