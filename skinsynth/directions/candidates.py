"""Moves in w that may take an artefact out of images: along axes found without labels, off a plane, and learnt."""

from collections.abc import Iterator, Mapping

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from skinsynth.directions.axes import strides
from skinsynth.directions.hyperplane import attribute_normal, conditioned, hyperplane_normal
from skinsynth.directions.learnt import Critics, learn_vector
from skinsynth.directions.principal import sample_w, within_classes
from skinsynth.directions.removal import Latents, Move, RemovalConfig, Seers, centre_gap, random_gap, rendered
from skinsynth.directions.search import find_axes, spread_evenly
from skinsynth.gan.generator import in_full_precision
from skinsynth.gan.model import Gan

# Share of latents at each end whose answer is clear enough for the class's own normal.
CLEAR_SHARE = 0.1
# Of a learnt move that are tried as well: what it learnt from batches may go too far or not far enough.
PARTS = (0.6, 0.8, 1.0, 1.2)


def candidate_moves(gan: Gan, framed: Latents, seers: Seers, config: RemovalConfig, rng: torch.Generator) -> list[Move]:
    """Every move that is tried, from images with the artefact and random latents beside them."""
    axes = {found.method: found.strides for found in find_axes(gan, config.directions, None, config.samples, rng)}
    labels = spread_evenly(gan.classes, config.samples)
    w = sample_w(gan, labels, rng)
    pixels = rendered(gan, w)
    others = Latents(w, labels, pixels, seers.answers(pixels))
    planes = hyperplane_strides(others, framed, seers)
    return [
        *moves(axes | planes, config),
        *learnt_moves(gan, framed, within_classes(w, labels), seers, config, rng),
    ]


def hyperplane_strides(others: Latents, framed: Latents, seers: Seers) -> dict[str, Float[Tensor, "1 w"]]:
    """The normal between images with and without the artefact, as it is and conditioned on the class (InterFaceGAN)."""
    within = within_classes(torch.cat([others.w, framed.w]), torch.cat([others.labels, framed.labels]))
    has = torch.cat([seers.sees(others.pixels), torch.ones(len(framed.labels), dtype=torch.bool)])
    if has.all() or not has.any():
        return {}
    normal = hyperplane_normal(within, has.to(within.device))
    of_class = attribute_normal(within[: len(others.w)], others.answers.to(within.device), CLEAR_SHARE)
    normals = {"hyperplane": normal, "conditional hyperplane": conditioned(normal, of_class)}
    return {name: strides(within, vector[None]) for name, vector in normals.items()}


def moves(stride_of: Mapping[str, Float[Tensor, "k w"]], config: RemovalConfig) -> Iterator[Move]:
    """A move along every direction of every method, by every step, in every range of layers."""
    for method, vectors in stride_of.items():
        for number, stride in enumerate(vectors, start=1):
            for layers in config.layers:
                for step in config.steps:
                    yield Move(method, number, layers, step, step * stride)


def learnt_moves(
    gan: Gan, framed: Latents, w: Float[Tensor, "n w"], seers: Seers, config: RemovalConfig, rng: torch.Generator
) -> Iterator[Move]:
    """A move by gradient in every range of layers, and parts of it; `w` are random latents less their class's mean."""
    gap = random_gap(framed)
    if not gap > 0:
        return

    def changes(before: Tensor, after: Tensor) -> list[Tensor]:
        answer = (seers.probability(after) - seers.probability(before)).abs()
        centre = centre_gap(before * (255 / 2), after * (255 / 2)) / gap
        return [answer / config.most_change, centre / config.most_centre_change]

    critics, generator = Critics(seers.excess, changes), in_full_precision(gan.generator)
    for layers in config.layers:
        vector = learn_vector(generator, framed.w, w.std(dim=0), layers, critics, config.learning, rng)
        length = float(vector.norm() / strides(w, normalize(vector, dim=0)[None]).norm())
        for part in PARTS:
            yield Move("learnt", 1, layers, part * length, part * vector)


def random_moves(move: Move, count: int, rng: torch.Generator) -> list[Move]:
    """Moves in the same layers, as long as the given one and in directions that mean nothing."""
    vectors = torch.randn(count, len(move.vector), generator=rng, device=rng.device)
    lengths = move.vector.norm() / vectors.norm(dim=1, keepdim=True)
    return [Move("random", number, move.layers, move.step, vector) for number, vector in enumerate(vectors * lengths)]
