"""Agreement with the plain networks and augmentation of tests/plain_*.py in sizes that the reference values lack."""

from dataclasses import dataclass

import pytest
import torch

from skinsynth.gan.augment import augment
from skinsynth.gan.losses import path_lengths, squared_gradient_norms
from skinsynth.gan.published import from_arrays
from tests.plain_augment import augmented
from tests.plain_networks import MAPPING_RATE, drawn, judged, truncated_ws
from tests.quantile_draws import QuantileDraws


@dataclass(frozen=True)
class Sizes:
    maps: tuple[int, ...] = (8, 8, 6)  # at 4, 8, … pixels
    colours: int = 3
    z: int = 6
    w: int = 8
    classes: int = 0
    layers: int = 2
    widths: tuple[int, int] = (8, 8)  # of the embedding and of the layers before the last
    kind: str = "resnet"
    deviations: int = 1
    class_vector: int = 6
    class_layers: int = 2
    class_widths: tuple[int, int] = (6, 6)
    group: int = 2
    batch: int = 4

    @property
    def resolution(self):
        return 2 ** (len(self.maps) + 1)


SIZES = {
    "small": Sizes(maps=(5, 5), z=1, w=1),
    "larger": Sizes(maps=(13, 13, 9, 4, 2), batch=2),
    "odd_maps": Sizes(maps=(15, 15, 11), deviations=3, layers=8, z=20),
    "grey": Sizes(colours=1, deviations=0, layers=1),
    "four_colours": Sizes(colours=4, classes=7, class_layers=1, layers=1),
    "one_class": Sizes(classes=1, class_vector=1, deviations=2, widths=(3, 9), class_widths=(4, 7)),
    "other_widths": Sizes(
        classes=3, w=4, layers=3, widths=(5, 11), class_vector=7, class_layers=8, class_widths=(3, 9)
    ),
    "input_skips": Sizes(kind="skip", classes=2, group=100, batch=3),
    "no_skips": Sizes(kind="orig", group=1, batch=3),
    "groups": Sizes(group=3, batch=6, deviations=4),
}


class Layout(dict):
    """Shapes of weights by their published names."""

    def layer(self, name, *shape):
        self |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}

    def mapping(self, name, first, last, layers, classes, widths):
        embedded, hidden = widths
        if classes:
            self.layer(f"{name}.embed", embedded, classes)
        ends = [first + (embedded if classes else 0), *[hidden] * (layers - 1), last]
        for number in range(layers):
            self.layer(f"{name}.fc{number}", ends[number + 1], ends[number])

    def styled(self, name, w, *shape):
        self.layer(name, *shape)
        self.layer(f"{name}.affine", shape[1], w)

    def noisy(self, name, w, pixels, *shape):
        self.styled(name, w, *shape, 3, 3)
        self |= {f"{name}.noise_const": (pixels, pixels), f"{name}.noise_strength": ()}


def layout_of_generator(sizes):
    layout = Layout({"G/mapping.w_avg": (sizes.w,), "G/synthesis.b4.const": (sizes.maps[0], 4, 4)})
    layout.mapping("G/mapping", sizes.z, sizes.w, sizes.layers, sizes.classes, sizes.widths)
    for level, maps in enumerate(sizes.maps):
        pixels = 4 * 2**level
        block = f"G/synthesis.b{pixels}"
        if level:
            layout.noisy(f"{block}.conv0", sizes.w, pixels, maps, sizes.maps[level - 1])
        layout.noisy(f"{block}.conv1", sizes.w, pixels, maps, maps)
        layout.styled(f"{block}.torgb", sizes.w, sizes.colours, maps, 1, 1)
    return layout


def layout_of_discriminator(sizes):
    layout, last = Layout(), sizes.maps[0]
    for level, maps in enumerate(sizes.maps):
        block = f"D/b{4 * 2**level}"
        if sizes.kind == "skip" or level == len(sizes.maps) - 1:
            layout.layer(f"{block}.fromrgb", maps, sizes.colours, 1, 1)
        if level:
            layout.layer(f"{block}.conv0", maps, maps, 3, 3)
            layout.layer(f"{block}.conv1", sizes.maps[level - 1], maps, 3, 3)
        if level and sizes.kind == "resnet":
            layout[f"{block}.skip.weight"] = (sizes.maps[level - 1], maps, 1, 1)
    layout.layer("D/b4.conv", last, last + sizes.deviations, 3, 3)
    layout.layer("D/b4.fc", last, 16 * last)
    layout.layer("D/b4.out", sizes.class_vector if sizes.classes else 1, last)
    if sizes.classes:
        layout.mapping("D/mapping", 0, sizes.class_vector, sizes.class_layers, sizes.classes, sizes.class_widths)
    return layout


def assert_same(found, expected):
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= 1e-9 * expected.abs().max()


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_both_networks_and_their_gradients_are_those_of_the_equations(rng, sizes):
    arrays = {
        name: torch.randn(shape, generator=rng) / (MAPPING_RATE if "mapping.fc" in name else 1)
        for name, shape in (layout_of_generator(sizes) | layout_of_discriminator(sizes)).items()
    }
    # In 64 bits no activation falls on the other side of zero by rounding, which would show in gradients.
    generator, discriminator = (network.double() for network in from_arrays(arrays, sizes.group))
    of_generator, of_discriminator = (
        {name[2:]: array.double() for name, array in arrays.items() if name.startswith(part)} for part in ("G/", "D/")
    )
    # Labels are any vectors here: these tell more than one-hot ones.
    z, c, images = (
        torch.randn(sizes.batch, *shape, generator=rng, dtype=torch.float64)
        for shape in ([sizes.z], [sizes.classes], [sizes.colours, sizes.resolution, sizes.resolution])
    )
    for psi, cutoff in ((1.0, None), (0.4, None), (0.4, 3)):
        assert_same(generator.mapping(z, c, psi, cutoff), truncated_ws(of_generator, z, c, psi, cutoff))
    ws = generator.mapping(z, c).detach().requires_grad_()
    found, expected = generator.synthesis(ws), drawn(of_generator, ws)
    assert_same(found, expected)
    assert_same(path_lengths(found, ws, images), path_lengths(expected, ws, images))
    images.requires_grad_()
    found, expected = discriminator(images, c), judged(of_discriminator, images, c, sizes.group)
    assert_same(found, expected)
    assert_same(squared_gradient_norms(images, found), squared_gradient_norms(images, expected))


@pytest.mark.parametrize("preset", ["bg", "bgc", "bgcfnc"])
@pytest.mark.parametrize("quantile", [0.05, 0.37, 0.95])
@pytest.mark.parametrize("sides", [(8, 8), (33, 20), (16, 32)])
def test_augmentation_is_that_of_the_pseudo_code_at_other_sizes(rng, sides, quantile, preset):
    images = torch.randn(2, 3, *sides, generator=rng)
    found = augment(images, preset, 1.0, QuantileDraws(len(images), quantile))
    torch.testing.assert_close(found.double(), augmented(images, preset, quantile), atol=1e-4, rtol=0)
