"""Properties of adaptive discriminator augmentation."""

import math

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from skinsynth.gan.augment import (
    PRESETS,
    AdaController,
    AugmentConfig,
    augment,
    band_filters,
    band_gains,
    band_matrices,
    inverse_transform,
)
from skinsynth.gan.draws import RandomDraws
from skinsynth.gan.warp import _doubling, _halving, reflect, sample, warp
from tests.quantile_draws import QuantileDraws


@pytest.fixture
def images(rng):
    return torch.rand(6, 3, 16, 16, generator=rng) * 2 - 1


def seeded_draws(seed):
    """For the six images of the fixture."""
    return RandomDraws(6, torch.Generator().manual_seed(seed))


def controller(**changes):
    settings = {
        "preset": "bgc",
        "initial_p": 0.0,
        "adaptive": True,
        "target_sign": 0.6,
        "interval": 4,
        "images_to_full": 1000,
    }
    return AdaController(AugmentConfig(**(settings | changes)))


@pytest.mark.parametrize("preset", PRESETS)
def test_no_strength_is_the_identity(images, rng, preset):
    assert torch.equal(augment(images, preset, 0.0, RandomDraws(6, rng)), images)
    # So low a strength opens no gate, but all transforms are gone through.
    torch.testing.assert_close(augment(images, preset, 1e-9, RandomDraws(6, rng)), images, atol=1e-5, rtol=0)


# Share of images that each transform changes where its gate opens in 0.3 of them: the rest of the draws change nothing.
CHANGED_SHARE = dict.fromkeys(PRESETS["bgcfnc"], 0.3) | {
    "xflip": 0.3 / 2,
    "rotate90": 0.3 * 3 / 4,
    "xint": 0.3 * 3 / 4,  # of 8 pixels by -1, 0 or 1, and by 0 in half of all draws on either axis
    "lumaflip": 0.3 / 2,
    "imgfilter": 1 - 0.7**4,  # a gate for each octave
}


@pytest.mark.parametrize("transform", PRESETS["bgcfnc"])
def test_each_transform_meets_its_share_of_the_images(rng, transform):
    image = torch.rand(1, 3, 8, 8, generator=rng) * 2 - 1
    changed = augment(image.expand(4000, -1, -1, -1), transform, 0.3, RandomDraws(4000, rng))
    share = ((changed - image).abs().amax(dim=(1, 2, 3)) > 1e-4).float().mean()
    assert share == pytest.approx(CHANGED_SHARE[transform], abs=0.03)


def test_noise_has_a_half_normal_deviation(rng):
    """Of 0.1 in the root mean square, and less on average."""
    noise = augment(torch.zeros(4000, 1, 8, 8), "noise", 1.0, RandomDraws(4000, rng))
    deviation = noise.square().mean(dim=(1, 2, 3)).sqrt()
    assert deviation.square().mean().sqrt() == pytest.approx(0.1, rel=0.05)
    assert deviation.mean() == pytest.approx(0.1 * math.sqrt(2 / math.pi), rel=0.05)


class TurnedTwice(QuantileDraws):
    """The reference values know no second rotation, so their draws turn by nothing there."""

    def second_angle(self):
        return torch.ones(self.count)


def test_stretching_lies_between_two_rotations():
    inverse, _ = inverse_transform(("rotate", "aniso"), 1.0, TurnedTwice(1, 0.8), 16, 16)
    first, stretch = 0.6 * math.pi, 2 ** (-0.2 * torch.erfinv(torch.tensor(0.6)).item())

    def turn(angle):
        return torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])

    expected = turn(first) @ torch.diag(torch.tensor([stretch, 1 / stretch])) @ turn(1.0)
    torch.testing.assert_close(inverse[0, :2, :2], expected)


def test_the_second_rotation_is_by_any_angle(rng):
    angles = RandomDraws(4000, rng).second_angle()
    assert angles.abs().max() == pytest.approx(math.pi, rel=0.01)
    assert angles.mean() == pytest.approx(0, abs=0.15)
    assert angles.std() == pytest.approx(math.pi / math.sqrt(3), rel=0.05)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_keeps_shape_and_stays_finite(images, rng, preset):
    changed = augment(images, preset, 1.0, RandomDraws(6, rng))
    assert changed.shape == images.shape
    assert changed.isfinite().all()
    assert preset == "none" or not torch.equal(changed, images)


def test_presets_grow_by_their_letters():
    assert len(PRESETS["bgc"]) == 12
    assert len(PRESETS["bgcfnc"]) == 15


def test_identity_and_whole_pixels_are_exact(images):
    identity = torch.eye(3).repeat(6, 1, 1)
    torch.testing.assert_close(warp(images, identity), images, atol=1e-5, rtol=0)
    shifted = identity.clone()
    shifted[:, 0, 2] = -3
    moved = warp(images, shifted)
    torch.testing.assert_close(moved[..., 3:], images[..., :-3], atol=1e-5, rtol=0)
    torch.testing.assert_close(moved[..., :3], images[..., 1:4].flip(3), atol=1e-5, rtol=0)


def test_images_with_closed_gates_stay_as_they_are(images):
    _, moved = inverse_transform(PRESETS["bg"], 0.1, seeded_draws(3), 16, 16)
    changed = augment(images, "bg", 0.1, seeded_draws(3))
    assert 0 < moved.sum() < 6
    assert torch.equal(changed[~moved], images[~moved])


def test_gates_open_with_their_probability():
    draws = RandomDraws(20_000, torch.Generator().manual_seed(0))
    _, moved = inverse_transform(("rotate",), 0.3, draws, 8, 8)
    assert moved.float().mean() == pytest.approx(0.3, abs=0.02)


def test_warping_has_gradients_of_both_orders(rng):
    images = torch.randn(2, 1, 5, 6, generator=rng, dtype=torch.float64, requires_grad=True)
    angle = torch.tensor(0.3, dtype=torch.float64)
    turn = torch.stack([angle.cos(), -angle.sin(), angle * 0, angle.sin(), angle.cos(), angle * 0])
    inverse = torch.cat([turn, torch.tensor([0, 0, 1], dtype=torch.float64)]).view(1, 3, 3).repeat(2, 1, 1)
    assert gradcheck(lambda x: warp(x, inverse), (images,))
    assert gradgradcheck(lambda x: warp(x, inverse).square(), (images,))


def test_sampling_between_pixels_is_linear_interpolation():
    image = torch.arange(12.0).view(1, 1, 3, 4)
    x, y = torch.tensor([[[0.0, 1.5, 2.25]]]), torch.tensor([[[0.0, 1.0, 0.5]]])
    torch.testing.assert_close(sample(image, x, y)[0, 0, 0], torch.tensor([0.0, 5.5, 4.25]))


def test_augmentation_is_linear_in_the_images_but_for_offsets(images):
    def change(x):
        return augment(x, "bgcfnc", 0.8, seeded_draws(5))

    other = images.flip(0)
    torch.testing.assert_close(change((images + other) / 2), (change(images) + change(other)) / 2, atol=1e-5, rtol=0)


def test_reflection_folds_any_distance():
    assert reflect(torch.tensor([-1, -2, -3, 3, 4, 5]), 3).tolist() == [1, 2, 1, 1, 0, 1]
    assert reflect(torch.tensor([-4, 7]), 1).tolist() == [0, 0]


def test_octaves_add_up_to_the_image():
    longest = max(len(taps) for taps in band_filters())
    total = torch.zeros(longest, dtype=torch.float64)
    for taps in band_filters():
        start = (longest - len(taps)) // 2
        total[start : start + len(taps)] += taps
    expected = torch.zeros(longest, dtype=torch.float64)
    expected[longest // 2] = 1
    torch.testing.assert_close(total, expected)


def test_octave_gains_keep_the_power_of_natural_images(rng):
    gains = band_gains(1.0, RandomDraws(100, rng))
    closed = band_gains(0.0, RandomDraws(100, rng))
    assert torch.allclose(closed, torch.ones(100, 4))
    assert gains.std() > 0.1


def test_colours_of_grey_images_and_of_odd_channels(rng):
    grey = torch.rand(4, 1, 8, 8, generator=rng)
    brighter = augment(grey, "brightness", 1.0, QuantileDraws(4, 0.9))
    torch.testing.assert_close(brighter - grey, torch.full_like(grey, 0.2 * float(torch.erfinv(torch.tensor(0.8)))))
    torch.testing.assert_close(augment(grey, "hue", 1.0, QuantileDraws(4, 0.9)), grey)
    with pytest.raises(ValueError, match="channels"):
        augment(torch.zeros(4, 2, 8, 8), "color", 1.0, QuantileDraws(4, 0.9))


def test_cut_out_removes_a_quarter_in_the_middle():
    kept = augment(torch.ones(1, 3, 16, 16), "cutout", 1.0, QuantileDraws(1, 0.5))
    assert kept.sum() == 3 * 256 * 3 / 4
    assert kept[..., 4:12, 4:12].abs().sum() == 0


@pytest.mark.parametrize("preset", ["bg", "filter"])
def test_training_goes_on_after_an_augmentation_in_inference_mode(images, preset):
    for cached in (_doubling, _halving, band_matrices):
        cached.cache_clear()
    with torch.inference_mode():
        expected = augment(images, preset, 1.0, QuantileDraws(6, 0.7))
    images.requires_grad_()
    changed = augment(images, preset, 1.0, QuantileDraws(6, 0.7))
    changed.sum().backward()
    assert torch.equal(changed, expected)
    assert images.grad.abs().sum() > 0


@pytest.mark.parametrize(("dtype", "apart"), [(torch.float64, 1e-4), (torch.float16, 1e-2), (torch.bfloat16, 5e-2)])
def test_images_of_other_types_change_as_those_of_32_bits_do(images, dtype, apart):
    changed = augment(images.to(dtype), "bgcfnc", 0.9, seeded_draws(4))
    same = augment(images.to(dtype).float(), "bgcfnc", 0.9, seeded_draws(4))
    assert changed.dtype == dtype
    torch.testing.assert_close(changed.float(), same, atol=apart, rtol=apart)


def test_a_quarter_turn_turns(images):
    turned = augment(images, "rotate90", 1.0, QuantileDraws(6, 0.3))
    quarter = min((turned - images.rot90(k, (2, 3))).abs().max() for k in (1, 3))
    assert quarter < (turned - images).abs().max()


def test_the_middle_quantile_leaves_unflipped_images(images):
    draws = QuantileDraws(6, 0.5)
    inverse, _ = inverse_transform(("xint", "scale", "rotate", "aniso", "xfrac"), 1.0, draws, 16, 16)
    torch.testing.assert_close(inverse, torch.eye(3).repeat(6, 1, 1))


def test_bad_presets_are_named(images):
    with pytest.raises(ValueError, match="bgcfnc"):
        augment(images, "everything", 1.0, seeded_draws(0))


def test_strength_climbs_while_signs_are_high_and_stops_at_one():
    ada = controller()
    for _ in range(4):
        ada.update(10.0, 10)
    assert ada.p == pytest.approx(0.04)
    for _ in range(400):
        ada.update(10.0, 10)
    assert ada.p == 1


def test_strength_falls_while_signs_are_low_and_stops_at_zero():
    ada = controller(initial_p=0.05)
    for _ in range(4):
        ada.update(5.0, 10)
    assert ada.p == pytest.approx(0.01)
    for _ in range(8):
        ada.update(5.0, 10)
    assert ada.p == 0


def test_strength_moves_only_at_its_interval_and_only_where_adaptive():
    ada = controller()
    for _ in range(3):
        ada.update(10.0, 10)
    assert ada.p == 0
    fixed = controller(adaptive=False, initial_p=0.3)
    for _ in range(8):
        fixed.update(10.0, 10)
    assert fixed.p == 0.3
    with pytest.raises(ValueError, match="initial_p"):
        controller(initial_p=1.5)


def test_a_controller_goes_on_where_it_was():
    first, second = controller(), controller()
    for _ in range(6):
        first.update(9.0, 10)
    second.restore(first.state())
    for ada in (first, second):
        ada.update(9.0, 10)
        ada.update(9.0, 10)
    assert first.state() == second.state()
    assert math.isclose(first.p, 0.08)


@pytest.mark.parametrize("transform", ["xint", "xfrac"])
def test_shifts_are_shares_of_the_width_and_of_the_height(rng, transform):
    inverse, _ = inverse_transform((transform,), 1.0, RandomDraws(4000, rng), height=16, width=64)
    assert inverse[:, 0, 2].std() / inverse[:, 1, 2].std() == pytest.approx(4, rel=0.1)
