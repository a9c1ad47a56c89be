"""What an encoder is given in Python and does not take is refused in words that say what to type."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

import stagewise
from stagewise.errors import InputError, StagewiseError
from stagewise.frozen.given_arrays import check_pixels, check_samples
from stagewise.modules.geometry import Geometry, Layer

FIELD = Geometry((Layer(10, 5),))


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (torch.zeros(700), "takes (B, 1, samples), and x is (700,): give it x[None, None]."),
        (torch.zeros(1, 700), "and x is (1, 700): give it x[:, None]."),
        (torch.zeros(2, 700), "x[:, None] if its lines are items, x.mean(0)[None, None] if they are the channels"),
        (torch.zeros(1, 2, 700), "and x is (1, 2, 700): give it x.mean(1, keepdim=True)."),
        (torch.zeros(3, 700, 1), "give it x.transpose(1, 2)."),
        (torch.zeros(1, 1, 1, 700), "give it three dimensions."),
        (torch.zeros(2, 1, 9), "and x is (2, 1, 9): that is too short for a row, which sees 10 samples"),
        (torch.zeros(1, 1, 700, dtype=torch.int16), "x is int16: give it x.float() / 32768, standardised."),
        (torch.zeros(1, 1, 700, dtype=torch.bool), "x is bool: give it float32, standardised."),
        (torch.zeros(1, 1, 700, dtype=torch.float64), "x is float64: give it x.float()."),
        (np.zeros((1, 1, 700)), "not a value of type ndarray: arrays go to encoder.embed(x), or torch.as_tensor(x)."),
        (Path("talk.wav"), "files go to encoder.embed(path)."),
    ],
)
def test_samples(x, words):
    with pytest.raises(InputError, match=re.escape(words)):
        check_samples(x, 1, torch.float32, FIELD)


@pytest.mark.parametrize(
    ("channels", "shape", "words"),
    [
        (1, (64, 64), "takes (B, 1, height, width), and x is (64, 64): give it x[None, None]."),
        (1, (1, 64, 64), "give it x[None]."),
        (3, (3, 64, 64), "give it x[None]."),
        (3, (64, 64, 3), "give it x.movedim(2, 0)[None]."),
        (1, (5, 64, 64), "give it x[:, None]."),
        (1, (3, 64, 64), "give it x[:, None] if it is three grey images; if it is one in colour, make it grey."),
        (1, (64, 64, 3), "make it grey, or give its uint8 pixels to encoder.embed."),
        (1, (2, 64, 64, 3), "make it grey, or give the uint8 pixels of one image to encoder.embed."),
        (1, (5, 64, 64, 1), "give it x.movedim(3, 1)."),
        (1, (5, 3, 64, 64), "give it grey, 0.299 * x[:, :1]"),
        (3, (5, 1, 64, 64), "give it x.expand(-1, 3, -1, -1)."),
        (3, (5, 2, 64, 64), "give it such a one."),
        (3, (64,), "give it such a one."),
        (1, (0, 1, 64, 64), "give it such a one."),
        (1, (2, 1, 7, 64), "and x is (2, 1, 7, 64): that holds no patch of 8 × 8 pixels: enlarge it."),
    ],
)
def test_pixels(channels, shape, words):
    with pytest.raises(InputError, match=re.escape(words)):
        check_pixels(torch.zeros(shape), channels, torch.float32, 8)
    with pytest.raises(InputError, match=r"x is uint8: give it x.float\(\) / 255, standardised"):
        check_pixels(torch.zeros(1, 1, 64, 64, dtype=torch.uint8), 1, torch.float32, 8)


def test_what_is_taken():
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        check_samples(torch.zeros(0, 1, 700, dtype=dtype), 1, torch.float32, FIELD)
        check_pixels(torch.zeros(2, 3, 8, 64, dtype=dtype), 3, torch.float32, 8)
    check_samples(torch.zeros(1, 1, 700, dtype=torch.float64), 1, torch.float64, FIELD)


def test_an_encoder_says_it_as_errors_of_both_kinds(finished):
    encoder = stagewise.open(finished / "run").encoder("two")
    for error in (ValueError, StagewiseError):
        with pytest.raises(error, match=r"give it x\[None, None\]"):
            encoder(torch.zeros(16_000))
    with pytest.raises(InputError, match=r"one after another, not a list: \[encoder.embed\(x\) for x in"):
        encoder.embed(["talk.wav"])
    for path in (b"talk.wav", 5):
        kind = type(path).__name__
        with pytest.raises(InputError, match=f"takes the path of a file, .* not a value of type {kind}"):
            encoder.embed(path)


def test_an_encoder_itself_can_be_written_as_a_program(finished):
    encoder = stagewise.open(finished / "run").encoder("two")
    free = torch.export.Dim.DYNAMIC
    program = torch.export.export(encoder, (torch.zeros(2, 1, 3000),), dynamic_shapes=({0: free, 2: free},))
    x = torch.randn(1, 1, 777)
    torch.testing.assert_close(program.module()(x), encoder(x))
