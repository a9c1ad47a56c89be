"""A stage on patches: groups against one patch at a time, what is handed on, contexts, refusals."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from stagewise.errors import ConfigError
from stagewise.modules import PixelCNN, ResNet
from stagewise.modules.patches import PatchStage, means
from stagewise.modules.stage_module import GROUP_BYTES, Window, represent


def stage(channels=2, planes=1, stride=1, side=6, context=None, group=None):
    torch.manual_seed(0)
    made = PatchStage(ResNet(channels, planes, 1, stride), context, (channels, side, side)).double()
    if group is not None:
        made.blocks[0].module.group = group
    return made


def patches(B, R, S, channels=2, side=6):
    x = torch.randn(B, channels, R * S, side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return x, Window((0,) * B, R * S, (R, S))


def naive(module, x, window):
    """The mean of every patch's map, one patch after another: (B, D, R, S)."""
    R, S = window.grid
    rows = [
        [torch.stack([module(image[:, r * S + s][None])[0].mean((1, 2)) for s in range(S)], 1) for r in range(R)]
        for image in x
    ]
    return torch.stack([torch.stack(image, 1) for image in rows])


shapes = st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4)).filter(lambda shape: shape[1:] != (1, 1))


@given(shapes, st.integers(1, 3), st.integers(1, 2), st.integers(4, 7), st.integers(1, 2), st.integers(1, 40))
@settings(deadline=None, max_examples=25)
def test_groups_of_any_size_give_the_means_and_the_gradient_of_single_patches(
    shape, channels, planes, side, stride, group
):
    x, window = patches(*shape, channels, side)
    some = stage(channels, planes, stride, side, group=group)
    z, c = some.window(x, window)
    expected = naive(some.encoder, x, window)
    assert z is c
    torch.testing.assert_close(z, expected, rtol=1e-12, atol=1e-12)
    weight = torch.randn(z.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    gradients = [torch.autograd.grad((rows * weight).sum(), list(some.parameters())) for rows in (z, expected)]
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)


@given(shapes, st.integers(1, 2), st.integers(1, 20))
@settings(deadline=None, max_examples=15)
def test_the_same_pass_gives_windows_and_the_maps_to_hand_on(shape, stride, group):
    x, window = patches(*shape)
    some = stage(stride=stride, group=group, context=nn.Conv2d(4, 3, 1))
    alone, rows = some.window(x, window), some(x)[1]
    z, c, handed_on = some.window_and_rows(x, window)
    torch.testing.assert_close((z, c), alone, rtol=1e-12, atol=1e-12)
    assert z.requires_grad
    assert c.requires_grad
    assert not handed_on.requires_grad
    assert torch.equal(handed_on, rows)
    assert torch.equal(represent([some], x), rows)
    torch.testing.assert_close(means(handed_on).unflatten(2, window.grid), z, rtol=1e-12, atol=1e-12)


def test_every_patch_is_encoded_as_an_image_of_its_own():
    some, (x, _) = stage(), patches(2, 2, 3)
    maps = some(x)[0]
    assert maps.shape == (2, 4, 6, 6, 6)
    for b in range(2):
        for t in range(6):
            torch.testing.assert_close(maps[b, :, t], some.encoder(x[b, :, t][None])[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("with_context", [False, True])
def test_an_image_that_is_one_patch_is_seen_as_its_map(with_context):
    some = stage(stride=2, context=nn.Conv2d(4, 3, 3, padding=1) if with_context else None)
    x, window = patches(3, 1, 1)
    z, c = some.window(x, window)
    torch.testing.assert_close(z, some.encoder(x[:, :, 0]), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(c, some.context(z) if with_context else z, rtol=1e-12, atol=1e-12)
    *seen, rows = some.window_and_rows(x, window)
    assert torch.equal(seen[0], z)
    assert torch.equal(seen[1], c)
    assert torch.equal(rows[:, :, 0], z)


@pytest.mark.parametrize("context", [nn.Conv2d(4, 3, 1), PixelCNN(4, 3, layers=2)])
def test_a_context_serves_the_objective_and_is_not_handed_on(context):
    some, (x, window) = stage(context=context), patches(2, 3, 3)
    z, c = some.window(x, window)
    assert (z.shape, c.shape) == ((2, 4, 3, 3), (2, 3, 3, 3))
    assert torch.equal(c, some.context(z))
    assert (some.z_channels, some.c_channels, some.out_channels, some.out_shape) == (4, 3, 4, (4, 6, 6))
    handed_on = [some(x)[1], some.window_and_rows(x, window)[2], represent([some], x)]
    without = stage()
    without.load_state_dict({name: p for name, p in some.state_dict().items() if name.startswith("encoder.")})
    assert all(torch.equal(rows, without(x)[0]) for rows in handed_on)


def test_a_context_alone_relates_the_patches_as_they_come():
    some, (x, window) = PatchStage(None, nn.Conv2d(2, 3, 1), (2, 6, 6)).double(), patches(2, 2, 3)
    z, c = some.window(x, window)
    torch.testing.assert_close(z, x.mean((3, 4)).unflatten(2, (2, 3)), rtol=1e-12, atol=1e-12)
    assert torch.equal(c, some.context(z))
    assert torch.equal(some(x)[1], x)
    assert (some.in_shape, some.out_shape, some.z_channels, some.c_channels) == ((2, 6, 6), (2, 6, 6), 2, 3)


def test_what_a_stage_says_of_itself():
    some = stage(channels=2, planes=3, stride=2, side=8)
    assert (some.in_shape, some.out_shape, some.in_channels, some.out_channels) == ((2, 8, 8), (12, 4, 4), 2, 12)
    assert (some.geometry.hop, some.geometry.receptive_field, some.recurrent) == (1, 1, False)
    assert set(some.state_dict()) == {f"encoder.{name}" for name in some.encoder.state_dict()}
    # 12 · 4 · 4 numbers of a patch are more than 2 · 8 · 8: the output is the widest.
    assert some.blocks[0].module.group == GROUP_BYTES // (4 * 12 * 4 * 4)
    assert PatchStage(nn.MaxPool2d(4), None, (2, 4096, 2048)).blocks[0].module.group == 1


def test_bfloat16_is_close_and_what_is_seen_is_float32():
    full = stage().float()
    low = PatchStage(full.encoder, None, (2, 6, 6), precision=torch.bfloat16)
    x, window = patches(2, 2, 3)
    x = x.float()
    for seen, exact in zip(low.window_and_rows(x, window), full.window_and_rows(x, window), strict=True):
        assert seen.dtype == torch.float32
        assert 0 < (seen - exact).norm() < 0.02 * exact.norm()


class Flat(nn.Module):
    """Gives a vector of each image."""

    def forward(self, x_NCHW):
        return x_NCHW.mean((2, 3))


@pytest.mark.parametrize(
    ("encoder", "context", "words"),
    [
        (
            ResNet(3, 1, 1),
            None,
            r"^stage\.a\.encoder: ResNet does not take an input of shape \(N, 2, 6, 6\): .*"
            r"Make it take 2 channels, of images as resnet and pixelcnn do\.$",
        ),
        (nn.Conv2d(2, 4, 9), None, r"^stage\.a\.encoder: Conv2d does not take an input of shape \(N, 2, 6, 6\)"),
        (Flat(), None, r"^stage\.a\.encoder: Flat must return one tensor of shape \(N, D, H, W\)\. Wrap it"),
        (None, nn.Conv2d(3, 4, 1), r"^stage\.a\.context: Conv2d does not take an input of shape \(N, 2, 7, 7\)"),
        (ResNet(2, 1, 1), nn.Conv2d(2, 4, 1), r"^stage\.a\.context: Conv2d does not take .* \(N, 4, 7, 7\)"),
        (None, nn.Conv2d(2, 4, 3), r"^stage\.a\.context: a context has one row per row of z: give it padding"),
        (None, nn.Conv2d(2, 4, 1, stride=2), r"^stage\.a\.context: a context has one row per row of z"),
    ],
)
def test_parts_that_do_not_fit_are_refused(encoder, context, words):
    with pytest.raises(ConfigError, match=words):
        PatchStage(encoder, context, (2, 6, 6), "stage.a")


def test_trying_a_module_changes_nothing():
    encoder = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5))
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    state = torch.get_rng_state()
    PatchStage(encoder, None, (2, 6, 6))
    assert torch.equal(torch.get_rng_state(), state)
    assert encoder.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())
