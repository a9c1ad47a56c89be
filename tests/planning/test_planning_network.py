"""Numbers of a file that must agree: what is said when they do not, and what follows when they are left out."""

import re
from pathlib import Path

import pytest
import tiny
import tiny_images
import torch
from small_files import png, wav
from test_planning_refusals import AUDIO, IMAGES

import stagewise
from stagewise.datasets.construct import build_dataset
from stagewise.errors import StagewiseError
from stagewise.pipeline import load_text
from stagewise.planning.build import Input, build_stages
from stagewise.runner import plan_pipeline
from stagewise.runs.folder import RunFolder

pytestmark = pytest.mark.usefixtures("no_peaks")

CONTEXT = '[[stage]]\nname = "two"\nencoder = { target = "resnet", in_channels = 8, planes = 2, blocks = 1 }\n'
PIXELCNN = 'context = { target = "pixelcnn", in_channels = 8, layers = 1 }\n'


def plan(toml, **sets):
    return plan_pipeline(load_text(toml, "x.toml", sets), RunFolder(Path("/nowhere/at/all")))


def refusal(toml, **sets):
    with pytest.raises(StagewiseError) as raised:
        plan(toml, **sets)
    return str(raised.value)


@pytest.mark.parametrize(
    ("key", "value", "where", "source"),
    [
        (
            "stage.one.encoder.out_channels",
            4,
            "x.toml:21: stage.two.encoder.in_channels: is 8",
            "4 channels, from stage one",
        ),
        (
            "stage.two.encoder.out_channels",
            4,
            "x.toml:25: stage.context.context.input_size: is 8",
            "4 channels, from stage two",
        ),
        ("stage.one.encoder.in_channels", 3, "--set stage.one.encoder.in_channels: is 3", "1 channels, from the data"),
    ],
)
def test_channels_that_do_not_fit_are_named_with_the_number_to_write(key, value, where, source):
    wrong = where.split(": ")[-2].removeprefix("--set ")
    advice = f"write {wrong.split('.')[-1]} = {source[0]}, or leave it out."
    assert refusal(tiny.TOML, **{key: value}) == f"{where}, and its input has {source}: {advice}"
    plan(tiny.TOML, **{key: value, wrong: int(source[0])})


def test_colours_need_three_channels_and_name_the_key_that_decides(tmp_path):
    for number in range(4):
        png(tmp_path / "ab"[number % 2] / f"{number}.png", 44, 44)
    toml = IMAGES.replace("ROOT", str(tmp_path))
    assert refusal(toml, **{"data.grayscale": False}) == (
        f"x.toml:{len(toml.splitlines())}: stage.one.encoder.in_channels: is 1, and its "
        "input has 3 channels, from the data (data.grayscale = false): write in_channels = 3, or leave it out."
    )
    plan(toml, **{"data.grayscale": False, "stage.one.encoder.in_channels": 3})
    context = toml + CONTEXT + PIXELCNN.replace("8", "4")
    words = "stage.two.context.in_channels: is 4, and its input has 8 channels, from its encoder: write in_channels = 8"
    assert words in refusal(context)


def weights(toml):
    pipeline = load_text(toml, "x.toml")
    built = build_stages(pipeline, Input.of(build_dataset(pipeline.data, "data")), torch.device("cpu"))
    return [tensor for stage in built for tensor in stage.module.state_dict().values()]


@pytest.mark.parametrize("toml", [tiny.TOML, tiny_images.TOML], ids=["audio", "images"])
def test_channels_that_are_left_out_follow_from_the_input(toml):
    short = re.sub(r"(in_channels|input_size) = \d+, ", "", toml)
    assert short.count("in_channels") + short.count("input_size") == 0
    assert all(torch.equal(one, other) for one, other in zip(weights(toml), weights(short), strict=True))
    kernel = 'encoder = { target = "torch.nn:Conv1d", out_channels = 3, kernel_size = 4 }\ncontext = {'
    if toml is tiny.TOML:  # a class of torch's, below a context in one stage
        assert len(weights(short.replace("context = {", kernel))) == len(weights(short)) + 2
        found = refusal(short.replace("out_channels", "out_chanels", 1))
        assert '"conv1d" takes no argument "out_chanels" (did you mean "out_channels"?)' in found


def test_a_run_whose_file_leaves_channels_out_is_read_again(tmp_path):
    path = tmp_path / "x.toml"
    path.write_text(re.sub(r"(in_channels|input_size) = \d+, ", "", tiny.TOML))
    assert stagewise.run(path, run=tmp_path / "run", until="two", set={"defaults.train.epochs": 0})
    assert stagewise.open(tmp_path / "run").encoder("two").channels == 8


def test_a_window_or_crop_that_is_too_small_for_the_steps(tmp_path):
    assert refusal(tiny.TOML, **{"defaults.objective.steps": 20}).endswith(
        ": defaults.objective: it needs a window of 21 rows or more, not 16: write window = 21, or steps = 15."
    )
    plan(tiny.TOML, **{"defaults.objective.steps": 15})
    plan(tiny.TOML, **{"defaults.objective.steps": 20, "defaults.objective.window": 21})
    for number in range(4):
        png(tmp_path / "ab"[number % 2] / f"{number}.png", 44, 44)
    toml = IMAGES.replace("ROOT", str(tmp_path))
    words = "it needs 5 rows of patches, and data.crop gives"
    assert refusal(toml, **{"data.crop": 16}).endswith(f"{words} 3: write data.crop = 24, or steps = 1.")
    assert refusal(toml, **{"data.crop": 12}).endswith(f"{words} 2: write data.crop = 24.")
    assert refusal(toml, **{"data.crop": 4, "data.patch": 0}).endswith(
        f"{words} 4: write a larger data.crop, or steps = 2."
    )
    plan(toml, **{"data.crop": 24})


def test_the_largest_window_that_fits_is_named(tmp_path):
    for number in range(6):
        wav(tmp_path / "ab"[number % 2] / f"{number}.wav", 0.2)
    toml = AUDIO.replace("ROOT", str(tmp_path))
    found = refusal(toml, **{"defaults.objective.window": 300})
    most = int(re.search(r"--set stage\.one\.objective\.window=(\d+)`", found)[1])
    plan(toml, **{"defaults.objective.window": most})
    assert "is long enough" in refusal(toml, **{"defaults.objective.window": most + 1})
    found = refusal(toml, **{"stage.one.encoder.kernel_size": 4000})
    assert found.endswith(
        " Its objective needs 13: join the items, or make kernels and strides smaller, here or below."
    )


def test_images_that_no_smaller_crop_helps_are_to_be_enlarged(tmp_path):
    for number in range(4):
        png(tmp_path / "ab"[number % 2] / f"{number}.png", 16, 16)
    toml = IMAGES.replace("ROOT", str(tmp_path))
    assert refusal(toml).endswith(" patches. Enlarge the images, for example with `--set data.size=32`.")
    plan(toml, **{"data.size": 32})
