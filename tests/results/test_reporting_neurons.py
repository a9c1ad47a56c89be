"""What excites the neurons of a run on images: the very pixels of the patches that excite them most."""

import html
import re

import numpy as np
import pytest
from PIL import Image
from report_examples import pictures_of

import stagewise
from stagewise.datasets.image_folder import ImageFolder
from stagewise.results.neurons import neurons
from stagewise.runner import quiet
from stagewise.runs.folder import RunFolder

SIZE, PATCH, STRIDE = (24, 32), 8, 4
COLUMNS = (SIZE[1] - PATCH) // STRIDE + 1
TOML = """\
format = 1
[pipeline]
name = "pictures"
[data]
target = "image-folder"
root = "train"
test = "test"
patch = 8
stride = 4
crop = 20
grayscale = false
validation = 0.25
[defaults.train]
epochs = 0
batch_size = 4
precision = "float32"
[defaults.objective]
target = "infonce-grid"
steps = 1
negatives = 4
[defaults.store]
write = true
dtype = "float32"
[[stage]]
name = "one"
encoder = { target = "resnet", in_channels = 3, planes = 2, blocks = 1, stem = 4 }
[[stage]]
name = "two"
encoder = { target = "resnet", in_channels = 8, planes = 3, blocks = 1, stride = 2 }
"""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A run on images of noise, its data set, and the pixels of what is tested on by key."""
    folder = tmp_path_factory.mktemp("pictures")
    rng, tested = np.random.default_rng(0), {}
    for part, count in (("train", 8), ("test", 6)):
        for number in range(count):
            pixels_HWC = rng.integers(0, 256, (*SIZE, 3), np.uint8)
            name = f"{'ab'[number % 2]}/{number}{{x}}&<i>.png"  # a file may be called anything
            (folder / part / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels_HWC).save(folder / part / name)
            if part == "test":
                tested[f"test//{name}"] = pixels_HWC
    toml = TOML.replace('"train"', f'"{folder}/train"').replace('"test"', f'"{folder}/test"')
    (folder / "pictures.toml").write_text(toml)
    stagewise.run(folder / "pictures.toml", run=folder / "run")
    dataset = ImageFolder(f"{folder}/train", f"{folder}/test", patch=PATCH, stride=STRIDE, crop=20, grayscale=False)
    return RunFolder(folder / "run"), dataset, tested


def test_patches_are_those_that_excite_most(pictures):
    run, dataset, tested = pictures
    text = "".join(neurons(run, quiet))
    for stage, part in zip(("one", "two"), text.split("<h4>")[1:], strict=True):
        store = stagewise.open(run.path).stages[stage].store
        rows = {item: np.asarray(store[item]) for item in dataset.split("test").tolist()}
        # What a channel says of a patch is its mean over the patch's pixels.
        rows = {item: z.reshape(len(z), -1, z.shape[-1]).mean(1) for item, z in rows.items()}
        for strip in part.split("Channel ")[1:]:
            channel = int(re.match(r"\d+", strip)[0])
            captions = re.findall(r">([^<>]+), row (\d+), column (\d+): (-?[\d.e-]+)</li>", strip)
            best = sorted(rows, key=lambda item: -rows[item][:, channel].max())[:4]
            assert [html.unescape(key) for key, *_ in captions] == [dataset.keys[item] for item in best]
            for item, (key, row, column, value), image in zip(best, captions, pictures_of(strip), strict=True):
                top, left = int(row) * STRIDE, int(column) * STRIDE
                assert rows[item][:, channel].argmax() == int(row) * COLUMNS + int(column)
                assert float(value) == pytest.approx(rows[item][:, channel].max(), rel=6e-3)
                assert np.array_equal(image, tested[html.unescape(key)][top : top + PATCH, left : left + PATCH])
