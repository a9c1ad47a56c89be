"""Patches: where they lie, and that groups change nothing."""

import pytest
import torch

from stagewise.modules import ResNet
from stagewise.modules.patches import EachPatch, cut_patches


def test_a_crop_of_64_has_7_by_7_patches_at_the_right_places():
    x = torch.arange(2 * 3 * 64 * 64.0).view(2, 3, 64, 64)
    patches = cut_patches(x)
    assert patches.shape == (2, 7, 7, 3, 16, 16)
    for b, r, s in ((0, 0, 0), (1, 6, 6), (1, 2, 5)):
        assert torch.equal(patches[b, r, s], x[b, :, 8 * r : 8 * r + 16, 8 * s : 8 * s + 16])


def test_an_image_smaller_than_a_patch_is_refused():
    with pytest.raises(ValueError, match="images of 8 × 20 pixels hold no patch of 16 × 16"):
        cut_patches(torch.zeros(1, 1, 8, 20))


def test_batch_norm_sees_all_patches_of_a_batch_at_once():
    torch.manual_seed(0)
    encoder = torch.nn.Sequential(torch.nn.Conv2d(2, 4, 3), torch.nn.BatchNorm2d(4))
    x = torch.randn(7, 2, 8, 8)
    each = EachPatch(encoder, (4, 8, 8))
    each.group = 3
    torch.testing.assert_close(each.means(x.unflatten(0, (7, 1)).transpose(1, 2)), encoder(x).mean((2, 3)))
    mean_C = encoder.eval()[1].running_mean.clone()
    assert len(list(each.eval().groups(x.unflatten(0, (7, 1)).transpose(1, 2)))) == 3  # the statistics are fixed
    assert torch.equal(encoder[1].running_mean, mean_C)


@pytest.mark.parametrize("group", [1, 3, 7])
def test_groups_give_the_same_rows_and_the_same_gradient(group):
    torch.manual_seed(0)
    encoder = ResNet(2, 4, 2, 2).double()
    x = torch.randn(7, 2, 8, 8, dtype=torch.float64)
    weight = torch.randn(7, 16, dtype=torch.float64)
    whole = encoder(x).mean((2, 3))
    each = EachPatch(encoder, (4, 8, 8))
    each.group = group
    parts = each.means(x.unflatten(0, (7, 1)).transpose(1, 2))
    torch.testing.assert_close(parts, whole, rtol=1e-12, atol=1e-12)
    gradients = [torch.autograd.grad((rows * weight).sum(), list(encoder.parameters())) for rows in (whole, parts)]
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)
