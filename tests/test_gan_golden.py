"""Agreement with the reference implementations' numbers in tests/golden."""

import inspect

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from skinsynth.gan.augment import augment
from skinsynth.gan.generator import in_full_precision
from skinsynth.gan.losses import path_lengths, squared_gradient_norms
from skinsynth.gan.model import load_gan, save_gan
from skinsynth.gan.published import from_arrays, to_arrays
from skinsynth.gan.resample import conv_down2, conv_up2, downsample2d, upsample2d
from tests.binomial import filter2d
from tests.quantile_draws import QuantileDraws

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


@pytest.fixture
def conditional(golden):
    return dict(np.load(golden / "stylegan2_conditional_16.npz"))


def doubled(arrays):
    """The same networks with twice the widths within both mappings and of the class vector, which no output shows."""
    wide, root = dict(arrays), np.float32(np.sqrt(2))
    for letter in "GD":
        embed, first = f"{letter}/mapping.embed", f"{letter}/mapping.fc0.weight"
        embedded, in_size = len(arrays[f"{embed}.weight"]), arrays[first].shape[1]
        from_z, from_class = np.split(arrays[first], [in_size - embedded], axis=1)
        rescaled = np.float32(np.sqrt((in_size + embedded) / in_size))
        wide[first] = np.concatenate([from_z, from_class / 2, from_class / 2], axis=1) * rescaled
        layers = [name.removesuffix(".weight") for name in arrays if name.startswith(f"{letter}/mapping.fc")]
        layers = sorted({name.removesuffix(".bias") for name in layers})
        for layer in layers[1:]:
            wide[f"{layer}.weight"] = np.tile(wide[f"{layer}.weight"], (1, 2)) / root
        # The generator's last layer gives w, whose width stays.
        for layer in [embed, *(layers if letter == "D" else layers[:-1])]:
            wide[f"{layer}.weight"] = np.tile(wide[f"{layer}.weight"], (2, 1))
            wide[f"{layer}.bias"] = np.tile(wide[f"{layer}.bias"], 2)
    wide["D/b4.out.weight"] = np.tile(wide["D/b4.out.weight"], (2, 1)) / root
    wide["D/b4.out.bias"] = np.tile(wide["D/b4.out.bias"], 2) / root
    return wide


def test_mappings_of_other_widths_draw_and_judge_as_well(conditional, tmp_path):
    wide = doubled(conditional)
    generator, discriminator = from_arrays(wide, 3)
    again = to_arrays(generator, discriminator)
    assert all(np.array_equal(again[name], wide[name]) for name in again)
    save_gan(tmp_path / "gan", generator, discriminator, [0, 1])
    saved = load_gan(tmp_path / "gan", "cpu")
    assert saved.config == generator.config
    z, c, x = (torch.from_numpy(conditional[name]) for name in ("z", "c", "x"))
    images, logits = (torch.from_numpy(conditional[name]) for name in ("image_const_noise", "logits"))
    for drawing in (generator, saved.generator, in_full_precision(generator)):
        assert_close(drawing(z, c), images)
    for judging in (discriminator, saved.discriminator):
        assert_close(judging(x, c), logits)


def test_loading_other_widths_keeps_the_parameters_that_an_optimizer_knows(conditional):
    generator, _ = from_arrays(conditional)
    known = dict(generator.named_parameters())
    generator.load_state_dict(from_arrays(doubled(conditional))[0].state_dict())
    assert all(parameter is known[name] for name, parameter in generator.named_parameters())


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("G/mapping.embed.weight", (3,)),
        ("G/mapping.embed.weight", (40, 2)),
        ("G/mapping.fc0.weight", (16, 0)),
        ("G/mapping.fc0.weight", ()),
        ("G/mapping.fc1.weight", (20, 16)),
        ("G/mapping.fc1.weight", (16, 20)),
        ("G/mapping.w_avg", ()),
        ("G/mapping.w_avg", (17,)),
        ("G/synthesis.b8.conv1.weight", (16,)),
        ("D/mapping.embed.weight", (3,)),
        ("D/mapping.fc7.weight", (31, 32)),
        ("D/b4.out.weight", (31, 32)),
        ("D/b4.out.weight", ()),
        ("D/b4.conv.weight", (32, 3)),
        ("D/b4.conv.weight", (32, 31, 3, 3)),
        ("D/b4.conv.weight", (32, 35, 3, 3)),
    ],
)
def test_an_array_that_does_not_fit_is_named_by_the_error(conditional, name, shape):
    with pytest.raises(ValueError, match="StyleGAN2") as refusal:
        from_arrays(conditional | {name: np.zeros(shape, np.float32)})
    # What the odd array takes or gives may be named in its place.
    assert name[2:].rpartition(".")[0].rpartition(".")[0] in str(refusal.value)


W_AVERAGE = "G/mapping.w_avg"


@pytest.mark.parametrize(
    ("values", "word"),
    [
        (np.full(16, np.nan, np.float32), "finite"),
        (np.full(16, -np.inf, np.float32), "finite"),
        (np.full(16, 1e300), "finite"),
        (np.zeros(16, np.complex64), "real numbers"),
        (torch.zeros(16, dtype=torch.complex64), "real numbers"),
        (np.array(["x"] * 16), "real numbers"),
        (np.array([None] * 16), "real numbers"),
        (None, "real numbers"),
    ],
)
def test_weights_that_are_no_finite_real_numbers_are_named_by_the_error(conditional, values, word):
    with pytest.raises(ValueError, match=rf"^{W_AVERAGE}.*{word}.*give"):
        from_arrays(conditional | {W_AVERAGE: values})


def flipped(array):
    return np.flip(np.flip(array).copy())


def read_only(array):
    array = array.copy()
    array.setflags(write=False)
    return array


@pytest.mark.parametrize(
    "stored",
    [
        flipped,
        read_only,
        lambda array: np.array(array, order="F"),
        np.float64,
        np.longdouble,
        lambda array: array.astype(">f4"),
        lambda array: torch.nn.Parameter(torch.from_numpy(array)),
    ],
)
def test_weights_are_the_same_however_they_are_stored(conditional, stored):
    kept = {name: stored(array) for name, array in conditional.items() if "/" in name}
    again = to_arrays(*from_arrays(kept, 3))
    assert all(np.array_equal(again[name], conditional[name]) for name in again)


def test_half_precision_and_keys_of_others_are_read(conditional):
    halves = {name: array.astype(np.float16) for name, array in conditional.items()}
    again = to_arrays(*from_arrays(halves, np.int64(3)))
    assert all(np.array_equal(again[name], halves[name]) for name in again)


def test_a_key_that_is_no_text_is_refused(conditional):
    with pytest.raises(ValueError, match="but 3 came"):
        from_arrays({**conditional, 3: np.zeros(3)})


@pytest.mark.parametrize("size", [0, -1, 2.5, None, "4"])
def test_a_group_that_is_no_number_of_images_is_refused(conditional, size):
    unchecked = inspect.unwrap(from_arrays)  # tests check types, of which users would hear nothing
    with pytest.raises(ValueError, match="mbstd_group is a whole number of images from 1 on"):
        unchecked(conditional, size)


def test_networks_of_two_gans_are_no_pair(golden, conditional):
    other = dict(np.load(golden / "stylegan2_unconditional_32.npz"))
    for one, two in ((other, conditional), (conditional, other)):
        drawing = {name: array for name, array in one.items() if name.startswith("G/")}
        judging = {name: array for name, array in two.items() if name.startswith("D/")}
        with pytest.raises(ValueError, match="same resolution, but .* came: give"):
            from_arrays(drawing | judging)


class Allocated(TorchDispatchMode):
    """Counts the elements of all tensors that torch makes and that take memory."""

    elements = 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        made = function(*arguments, **(options or {}))
        self.elements += sum(t.numel() for t in tree_leaves(made) if torch.is_tensor(t) and t.device.type != "meta")
        return made


def announcing_much():
    """Arrays of few elements whose first dimensions are those of large networks."""
    resolutions = [2**level for level in range(2, 8)]
    shapes = {
        "G/mapping.w_avg": (256,),
        **{f"G/mapping.fc{number}.weight": (256, 1) for number in range(10)},
        "G/mapping.fc0.weight": (256, 1),
        "G/synthesis.b4.torgb.weight": (3, 1, 1, 1),
        **{f"G/synthesis.b{resolution}.conv1.weight": (256, 1, 1, 1) for resolution in resolutions},
        **{f"D/b{resolution}.conv0.weight": (256, 1, 1, 1) for resolution in resolutions[1:]},
        "D/b4.conv.weight": (256, 257, 1, 1),
        "D/b128.fromrgb.weight": (1, 3, 1, 1),
    }
    return {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}


def test_arrays_that_announce_more_than_they_hold_cost_no_more_than_they_hold():
    arrays = announcing_much()
    with Allocated() as counter, pytest.raises(ValueError, match="other shapes"):
        from_arrays(arrays)
    assert counter.elements < 10 * sum(array.size for array in arrays.values())


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
    draws = QuantileDraws(len(images), float(quantile))
    torch.testing.assert_close(augment(images, name, 1.0, draws), expected, atol=1e-4, rtol=0)


def test_every_reference_augmentation_is_compared(golden):
    with np.load(golden / "ada_32.npz") as arrays:
        assert set(arrays) == {"x", *ADA_CASES}
