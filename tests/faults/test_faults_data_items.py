"""Data sets of no item, of one or of short ones, and tables of labels that lack items or contradict themselves."""

import json
from pathlib import Path

import pytest
from data_files import AUDIO, MAKE, data_folder, run, wav  # noqa: F401

import stagewise


@pytest.mark.parametrize(
    ("kind", "size", "words"),
    [
        ("audio", 50, "no training item is long enough for a window of 16 rows"),
        ("audio", 1, "no training item is long enough for a window of 16 rows"),
        ("image", 12, "no training image holds a crop of 4 × 4 patches"),
    ],
)
def test_items_that_are_all_too_short(data, kind, size, words):
    text, suffix, make = MAKE[kind]
    for number in range(5):
        make(data / f"{number}{suffix}", size)
    code, said = run(text)
    advice = "join the items" if size == 1 else "--set"
    assert (code, words in said, advice in said) == (1, True, True)
    assert not list(Path("run").glob("stages/*/encoder.safetensors"))


@pytest.mark.parametrize("kind", MAKE)
def test_no_item_and_one_item(data, kind):
    text, suffix, make = MAKE[kind]
    code, said = run(text)
    assert code == 1
    assert f"no {kind} files" in said
    assert "type --set data.root=FOLDER" in said
    assert not list(Path("run").glob("stages/*"))
    make(data / f"one{suffix}")
    assert run(text)[0] == 0  # of a batch of four
    assert len(stagewise.open("run").stages["one"].store) == 1


PROBE = '[[probe]]\nname = "p"\nstages = "all"\nlabels = "p"\npool = "mean"\nepochs = 1\n'


def test_a_label_table_that_lacks_items_says_how_many_it_has(data):
    for number in range(12):
        wav(data / f"{number:02d}.wav", seed=number)
    Path("p.csv").write_text("file,p\n" + "".join(f"{n:02d},{'ab'[n % 2]}\n" for n in range(8)))
    code, said = run(AUDIO + 'labels = { p = "p.csv" }\ntest_fraction = 0.5\n' + PROBE)
    assert code == 0, said
    (result,) = Path("run").glob("probes/*/probe.json")
    facts = json.loads(result.read_bytes())
    assert (facts["train_items"], facts["test_items"]) == (4, 4)


def test_a_label_table_that_says_two_things(data):
    for number in range(4):
        wav(data / f"{number}.wav", seed=number)
    labelled = AUDIO + 'labels = { p = "p.csv" }\n' + PROBE
    Path("p.csv").write_text("file,p\n0,a\n1.wav,b\n0.wav,b\n")
    code, said = run(labelled)
    assert (code, "p.csv:4: 0.wav is here a second time: delete one of the two lines." in said) == (1, True)
    wav(data / "1.flac")
    Path("p.csv").write_text("file,p\n0,a\n1,b\n")
    code, said = run(labelled)
    assert (code, "p.csv:3: 1 is the name of several files: write it with its folder and suffix." in said) == (1, True)
    assert not list(Path("run").glob("stages/*"))
