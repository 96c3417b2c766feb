"""Agreement with the reference implementations' numbers in tests/golden."""

import numpy as np
import pytest
import torch

from skinsynth.gan.augment import augment
from skinsynth.gan.losses import path_lengths, squared_gradient_norms
from skinsynth.gan.published import from_arrays, to_arrays
from skinsynth.gan.resample import conv_down2, conv_up2, downsample2d, filter2d, upsample2d

MBSTD_GROUP = {"stylegan2_unconditional_32": 4, "stylegan2_conditional_16": 3}
ADA_CASES = [
    f"{name}@{quantile}"
    for name in (
        *("xflip", "rotate90", "xint", "scale", "rotate", "aniso", "xfrac", "brightness", "contrast", "lumaflip"),
        *("hue", "saturation", "imgfilter", "cutout", "bg", "bgc"),
    )
    for quantile in (0.25, 0.7)
]


@pytest.fixture(params=MBSTD_GROUP)
def networks(request, golden):
    arrays = dict(np.load(golden / f"{request.param}.npz"))
    values = {name: torch.from_numpy(array) for name, array in arrays.items() if "/" not in name}
    return *from_arrays(arrays, MBSTD_GROUP[request.param]), values, arrays


def assert_close(found, expected, relative=1e-4):
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= relative * expected.abs().max()


def test_mapping_and_truncation(networks):
    generator, _, values, _ = networks
    assert_close(generator.mapping(values["z"], values["c"]), values["ws"])
    assert_close(generator.mapping(values["z"], values["c"], 0.5), values["ws_truncated_psi_0_5"])


def test_synthesis(networks):
    generator, _, values, _ = networks
    assert_close(generator.synthesis(values["ws"]), values["image_const_noise"])
    assert_close(generator(values["z"], values["c"]), values["image_const_noise"])


def test_path_lengths(networks):
    generator, _, values, _ = networks
    ws = values["ws"].requires_grad_()
    lengths = path_lengths(generator.synthesis(ws), ws, values["path_noise"])
    assert_close(lengths, values["path_lengths"])


def test_discriminator_and_its_r1_gradient(networks):
    _, discriminator, values, _ = networks
    images = values["x"].requires_grad_()
    logits = discriminator(images, values["c"])
    assert_close(logits, values["logits"])
    assert_close(squared_gradient_norms(images, logits), values["r1_squared_gradient_norm"])


def test_weights_come_back_under_their_published_names(networks):
    generator, discriminator, _, arrays = networks
    written = to_arrays(generator, discriminator)
    weights = {name for name in arrays if "/" in name and not name.endswith("resample_filter")}
    assert written.keys() == weights
    assert all(np.array_equal(written[name], arrays[name]) for name in weights)


def test_a_missing_or_foreign_weight_is_one_clear_error(networks):
    _, _, _, arrays = networks
    with pytest.raises(ValueError, match=r"synthesis\.b8\.conv0\.bias"):
        from_arrays({name: array for name, array in arrays.items() if name != "G/synthesis.b8.conv0.bias"})
    with pytest.raises(ValueError, match="filter"):
        from_arrays(arrays | {"D/b8.resample_filter": np.ones((4, 4), np.float32)})
    with pytest.raises(ValueError, match="G/"):
        from_arrays({"z": arrays["z"]})


@pytest.mark.parametrize(
    ("name", "operator"),
    [
        ("upsample2d", lambda values: upsample2d(values["x"])),
        ("downsample2d", lambda values: downsample2d(values["x"])),
        ("filter2d", lambda values: filter2d(values["x"])),
        ("conv_up2", lambda values: conv_up2(values["x"], values["w"])),
        ("conv_down2", lambda values: conv_down2(values["x"], values["w"])),
        ("conv1_down2", lambda values: conv_down2(values["x"], values["w1"])),
    ],
)
def test_resampling(golden, name, operator):
    values = {key: torch.from_numpy(array) for key, array in np.load(golden / "resample.npz").items()}
    torch.testing.assert_close(operator(values), values[name], atol=1e-5, rtol=0)


@pytest.mark.parametrize("case", ADA_CASES)
def test_augmentation(golden, case):
    with np.load(golden / "ada_32.npz") as arrays:
        images, expected = torch.from_numpy(arrays["x"]), torch.from_numpy(arrays[case])
    name, quantile = case.split("@")
    torch.testing.assert_close(augment(images, name, quantile=float(quantile)), expected, atol=1e-4, rtol=0)


def test_every_reference_augmentation_is_compared(golden):
    with np.load(golden / "ada_32.npz") as arrays:
        assert set(arrays) == {"x", *ADA_CASES}
