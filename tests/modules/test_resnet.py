"""The vision encoder against plain functional operations, and against the published counts."""

import pytest
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from stagewise.modules import ResNet

PAPER = [
    ({"in_channels": 1, "planes": 64, "blocks": 3, "stem": 64}, (1, 16, 16), (256, 16, 16), 216_064, 54_935_552),
    ({"in_channels": 256, "planes": 128, "blocks": 4, "stride": 2}, (256, 16, 16), (512, 8, 8), 1_216_000, 83_886_080),
    ({"in_channels": 512, "planes": 256, "blocks": 6, "stride": 2}, (512, 8, 8), (1024, 4, 4), 7_088_128, 119_537_664),
]
SMALL = [
    {"in_channels": 2, "planes": [3, 4], "blocks": [2, 3], "stride": [1, 2], "stem": 5},
    {"in_channels": 2, "planes": [3, 4], "blocks": [2, 3], "stride": [1, 2], "stem": 5, "block": "basic"},
    {"in_channels": 8, "planes": 2, "blocks": 2},  # the first block's shortcut is the caller's x itself
    {"in_channels": 4, "planes": 4, "blocks": 2, "block": "basic"},
    {"in_channels": 4, "planes": 4, "blocks": 1, "stride": 2, "block": "basic"},  # projected for its stride alone
]


def naive(model, x, planes, blocks, in_channels, stride=1, stem=None, block="bottleneck"):
    """The definition, written out; takes the model's convolutions in the order in which they are made."""
    convolutions = iter([m for m in model.modules() if isinstance(m, torch.nn.Conv2d)])

    def conv(x, channels, kernel, stride=1):
        layer = next(convolutions)
        assert layer.weight.shape == (channels, x.shape[1], kernel, kernel)
        return F.conv2d(x, layer.weight, layer.bias, stride, kernel // 2)

    if stem:
        x = conv(x, stem, 5)
    as_lists = [v if isinstance(v, list) else [v] for v in (planes, blocks, stride)]
    for width, depth, hop in zip(*as_lists, strict=True):
        for i in range(depth):
            hop_now = hop if i == 0 else 1
            out = width * 4 if block == "bottleneck" else width
            active = x.clamp(min=0)
            if block == "bottleneck":
                y = conv(active, width, 1)
                y = conv(y.clamp(min=0), width, 3, hop_now)
                y = conv(y.clamp(min=0), out, 1)
            else:
                y = conv(active, width, 3, hop_now)
                y = conv(y.clamp(min=0), out, 3)
            projected = hop_now != 1 or x.shape[1] != out
            x = y + (conv(active, out, 1, hop_now) if projected else x)
    assert next(convolutions, None) is None
    return x


def made(arguments, dtype=torch.float64):
    torch.manual_seed(0)
    model = ResNet(**arguments).to(dtype)
    return model, torch.randn(3, arguments["in_channels"], 8, 8, dtype=dtype)


@pytest.mark.parametrize(("arguments", "shape", "out", "parameters", "products"), PAPER)
def test_counts_of_the_published_modules(arguments, shape, out, parameters, products):
    model = ResNet(**arguments)
    assert sum(p.numel() for p in model.parameters()) == parameters
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        assert model(torch.randn(1, *shape)).shape == (1, *out)
    assert counter.get_total_flops() == 2 * products


@pytest.mark.parametrize("arguments", SMALL)
def test_values_and_gradients_equal_the_definition(arguments):
    model, x = made(arguments)
    x.requires_grad_()
    inputs = [x, *model.parameters()]
    z, expected = model(x), naive(model, x, **arguments)
    torch.testing.assert_close(z, expected, rtol=1e-12, atol=1e-13)
    ours = torch.autograd.grad((z**3).sum(), inputs)
    theirs = torch.autograd.grad((expected**3).sum(), inputs)
    for a, b in zip(ours, theirs, strict=True):
        assert a.abs().sum() > 0
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("arguments", SMALL)
def test_the_callers_input_is_left_as_it_is(arguments, grad):
    model, x = made(arguments)
    before = x.clone()
    with torch.set_grad_enabled(grad):
        z = model(x)
    assert torch.equal(x, before)
    assert z.min() < 0  # no ReLU at the end


@pytest.mark.parametrize("arguments", SMALL[:2])
def test_backward_keeps_what_the_convolutions_read_and_nothing_else(arguments):
    model, x = made(arguments)
    read, kept = {}, {}
    for layer in model.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.register_forward_pre_hook(lambda _, i: read.update({i[0].data_ptr(): i[0].nbytes}))
    own = {p.data_ptr() for p in model.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.update({t.data_ptr(): t.nbytes}) or t, lambda t: t):
        z = model(x)
    assert {place: size for place, size in kept.items() if place not in own} == read
    assert z.requires_grad


@pytest.mark.parametrize("arguments", SMALL[:2])
def test_channels_last_gives_the_same(arguments):
    model, x = made(arguments, torch.float32)
    expected = model(x)
    z = model.to(memory_format=torch.channels_last)(x.contiguous(memory_format=torch.channels_last))
    assert z.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(z, expected, rtol=1e-5, atol=1e-5)


def test_the_form_of_resnet_34_runs():
    model = ResNet(1, [64, 128, 256, 512], [3, 4, 6, 3], [1, 2, 2, 2], stem=64, block="basic")
    assert model(torch.randn(2, 1, 16, 16)).shape == (2, 512, 2, 2)
    assert sum(isinstance(m, torch.nn.Conv2d) for m in model.modules()) == 33 + 3  # without the classifier; 3 shortcuts


def test_numbers_are_repeated_for_every_group():
    one, lists = ResNet(3, 4, [2, 2], 2), ResNet(3, [4, 4], [2, 2], [2, 2])
    assert [p.shape for p in one.parameters()] == [p.shape for p in lists.parameters()]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"planes": [4, 8], "blocks": [1, 1, 1]}, "one number per group is needed in every list"),
        ({"planes": 4, "blocks": []}, "one number per group is needed in every list"),
        ({"planes": 4, "blocks": [1, 0]}, "blocks must be at least 1, not 0"),
        ({"planes": "4", "blocks": 1}, "planes must be a whole number, not '4'"),
        ({"planes": 4, "blocks": 1, "stride": 0}, "stride must be at least 1, not 0"),
        ({"planes": 4, "blocks": 1, "stem": 0}, "stem must be at least 1, not 0"),
        ({"planes": 4, "blocks": 1, "block": "wide"}, "block must be one of bottleneck, basic, not 'wide'"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        ResNet(1, **arguments)
