"""Neighbours of latents: on the sphere asked for, in one direction for all layers, round and round the centres."""

import pytest
import torch
from torch.nn.functional import normalize

from skinsynth.gan.discriminator import Discriminator, DiscriminatorConfig
from skinsynth.gan.generator import Generator, GeneratorConfig
from skinsynth.gan.model import Gan, render
from skinsynth.projection.surroundings import draw_neighbours, on_sphere


@pytest.fixture
def gan(rng):
    generator = Generator(GeneratorConfig(8, 3, 6, 6, 0, 2, 32, 4, None, 0, "float16", False), rng)
    sizes = DiscriminatorConfig(8, 3, 0, 2, 32, 4, "orig", 1, 0, None, 0, "float16", False)
    return Gan(generator.requires_grad_(False), Discriminator(sizes, rng), [0])


@pytest.fixture
def ws(gan, rng):
    return torch.randn(3, 1, 6, generator=rng).expand(-1, gan.generator.synthesis.layer_count, -1)


@pytest.mark.parametrize("radius", [0.0, 0.1, 2.0])
def test_every_neighbour_lies_at_the_radius_in_w(ws, rng, radius):
    gaps = on_sphere(ws, radius, rng) - ws
    torch.testing.assert_close(gaps.norm(dim=2), torch.full(gaps.shape[:2], radius))
    torch.testing.assert_close(gaps, gaps[:, :1].expand_as(gaps))


def test_in_w_plus_the_move_over_all_layers_together_has_the_radius(rng):
    ws = torch.randn(5, 14, 32, generator=rng)
    gaps = on_sphere(ws, 0.1, rng) - ws
    torch.testing.assert_close(gaps.flatten(1).norm(dim=1), torch.full((5,), 0.1), atol=1e-5, rtol=0)
    torch.testing.assert_close(gaps, gaps[:, :1].expand_as(gaps), atol=1e-5, rtol=0)


def test_in_w_every_layer_moves_by_the_radius_to_the_bit(ws, rng):
    state = rng.get_state()
    moved = on_sphere(ws, 0.1, rng)
    directions = normalize(torch.randn(3, 1, 6, generator=rng.set_state(state)), dim=2)
    assert moved.equal(ws + 0.1 * directions)


def test_neighbours_go_round_the_centres_and_are_not_alike(gan, ws, rng):
    found = draw_neighbours(gan, ws, 7, 1.0, rng)
    assert found.centres.tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert not found.pixels[0].equal(found.pixels[3])


def test_at_no_distance_the_neighbour_is_the_centre(gan, ws, rng):
    found = draw_neighbours(gan, ws, 3, 0.0, rng)
    assert found.pixels.equal(render(gan.generator, ws))


def test_neighbours_lie_nearer_to_their_own_centre_than_to_the_others(gan, ws, rng):
    found, centres = draw_neighbours(gan, ws, 30, 0.1, rng), render(gan.generator, ws)
    gaps = (found.pixels[:, None].float() - centres.float()).square().mean(dim=(2, 3, 4))
    assert gaps.argmin(dim=1).equal(found.centres)
